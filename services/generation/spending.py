"""What answers cost, before and after: reserved in budgets, then settled, however they end."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import BudgetExceeded, PriceMissing, RagmeshError
from engine.spending.estimate import TokenBounds, input_bounds
from engine.spending.grants import Grant, Room, Wanted, grant
from engine.spending.prices import Price, PriceTable, dearest
from services.generation.backend import Cost, Task
from services.generation.language_backend import LanguageBackend
from services.generation.meter import Meter, Usage
from services.generation.price_file import PriceFile
from services.rpc import metrics
from services.rpc.call import Call
from services.store import budgets
from services.store.store import Store, Tx

_LOG = logging.getLogger(__name__)

REPAIR_TOKENS = 1_024
"""What the second request of a structured answer says beside the first one and its answer."""

SLACK_S = 60.0
"""How much longer than the answer can take a reservation is kept."""

SETTLE_TRIES, SETTLE_PAUSE_S = 5, 1.0
"""While PostgreSQL does not answer. Then the reservation expires, and counts as used up."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bounds of what an answer uses and costs, the low one without any output. The version is
    empty for a model without a price."""

    input: TokenBounds
    output_tokens_high: int
    cost_low_nanos: int
    cost_high_nanos: int
    currency: str
    price_version: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is held for one answer. `uid` is None where no budget applies; `table` has the prices
    that it will be settled with."""

    uid: uuid.UUID | None
    tenant: str
    granted: int | None
    table: PriceTable


class Purse:
    """The prices and, with a store, the budgets of a node."""

    def __init__(self, store: Store | None, prices: PriceFile) -> None:
        self._store = store
        self._prices = prices
        self._settling: set[asyncio.Task[None]] = set()

    async def estimate(self, task: Task, order: Sequence[LanguageBackend]) -> Estimate:
        """What an answer of the first model of an order may cost. One that is repaired, or that a
        fallback writes, is within what is reserved, not within this."""
        model = order[0]
        table = await self._prices.table()
        price = table.price(model.model.id, model.upstream_model)
        bounds = _bounds(task, model)
        output = model.output_tokens_max(task)
        return Estimate(
            bounds,
            output,
            price.cost_nanos(bounds.low, 0) if price else 0,
            price.cost_nanos(bounds.high, output) if price else 0,
            table.currency if price else "",
            table.version if price else "",
        )

    async def reserve(
        self, task: Task, order: Sequence[LanguageBackend], call: Call, longest_s: float
    ) -> Reservation:
        """Holds the most that an answer can cost, whoever of `order` writes it. Raises
        BudgetExceeded, PriceMissing, StoreUnavailable and DeadlineExceeded."""
        table = await self._prices.table()
        if self._store is None:
            return Reservation(None, call.tenant, None, table)
        wanted = _wanted(task, order, table)
        uid = uuid.uuid4()
        remaining_s = call.remaining_s()
        lifetime_s = SLACK_S + (longest_s if remaining_s is None else min(longest_s, remaining_s))

        def decide(rooms: Sequence[Room]) -> Grant:
            return grant(rooms, wanted)

        async def hold(tx: Tx) -> Grant | None:
            return await budgets.reserve(tx, task.session, decide, uid=uid, lifetime_s=lifetime_s)

        try:
            try:
                granted = await self._store.run(call.tenant, hold, timeout_s=remaining_s)
            except BudgetExceeded:
                # Perhaps it is held for answers of a node that died.
                if not await self._store.run(call.tenant, budgets.purge_reservations):
                    raise
                granted = await self._store.run(call.tenant, hold, timeout_s=call.remaining_s())
        except (BudgetExceeded, PriceMissing):
            raise
        except BaseException:
            # A caller who leaves in this moment leaves nothing held, whether it was or not.
            self._later(Reservation(uid, call.tenant, None, table), 0, 0)
            raise
        if granted is None:
            return Reservation(None, call.tenant, None, table)
        return Reservation(uid, call.tenant, granted.output_tokens, table)

    def cost(self, reservation: Reservation, usage: Usage, backend: LanguageBackend) -> Cost | None:
        """What an answer cost; None for a model without a price."""
        price = reservation.table.price(backend.model.id, backend.upstream_model)
        if price is None:
            return None
        nanos = price.cost_nanos(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens)
        return Cost(nanos, reservation.table.currency, reservation.table.version)

    def settle(
        self, reservation: Reservation, meter: Meter, backend: LanguageBackend
    ) -> asyncio.Task[None] | None:
        """Counts what was used, and gives the rest back, in the background: whoever left waits for
        nothing. The task, if there is something to wait for."""
        usage = meter.usage()
        metrics.GENERATION_TOKENS.labels(backend.model.id, "input").inc(usage.input_tokens)
        metrics.GENERATION_TOKENS.labels(backend.model.id, "output").inc(usage.output_tokens)
        if reservation.uid is None:
            return None
        cost = self.cost(reservation, usage, backend)
        tokens = usage.input_tokens + usage.output_tokens
        nanos = cost.nanos if cost else 0
        return self._later(reservation, nanos, tokens)

    def _later(self, reservation: Reservation, nanos: int, tokens: int) -> asyncio.Task[None]:
        settling = asyncio.create_task(self._settle(reservation, nanos, tokens), name="settle")
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)
        return settling

    async def close(self) -> None:
        """Waits until all is settled that can be."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=SETTLE_TRIES * SETTLE_PAUSE_S)

    async def _settle(self, reservation: Reservation, nanos: int, tokens: int) -> None:
        store, uid = self._store, reservation.uid
        assert store is not None and uid is not None

        async def work(tx: Tx) -> None:
            await budgets.settle(tx, uid, nanos=nanos, tokens=tokens)

        for left in range(SETTLE_TRIES - 1, -1, -1):
            try:
                await store.run(reservation.tenant, work)
                return
            except RagmeshError as error:
                if not left:
                    _LOG.error("a reservation is left to expire: %s", error.message)
                    return
            await asyncio.sleep(SETTLE_PAUSE_S)


def _bounds(task: Task, backend: LanguageBackend) -> TokenBounds:
    prompt = backend.prompt(task)
    texts = prompt.texts()
    if task.output_schema:  # read once, in the prompt or beside it
        texts.append(task.output_schema)
    return input_bounds(texts, bool(task.tools) or bool(task.output_schema))


def _wanted(task: Task, order: Sequence[LanguageBackend], table: PriceTable) -> Wanted:
    """The most that any model of an order would use, a structured answer's repair included."""
    read = max(_bounds(task, backend).high for backend in order)
    written = max(backend.output_tokens_max(task) for backend in order)
    if task.output_schema:
        read, written = 2 * read + written + REPAIR_TOKENS, 2 * written
    known = [table.price(b.model.id, b.upstream_model) for b in order]
    prices: list[Price] = [price for price in known if price is not None]
    # A model without a price cannot be held against money, whichever place it has.
    price = dearest(prices) if len(prices) == len(order) else None
    return Wanted(f"generationModels/{order[0].model.id}", read, written, price)
