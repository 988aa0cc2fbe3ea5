"""The queue before one model: waits around the pure policy of `engine/schedule.py`.

Callers of all services meet here. Texts wait as items with a cost in padded tokens; whenever the
worker is free, the policy picks the next batch from what waits, and a thread runs it with the
GIL released. A caller that goes away takes its items out. What would make the queue longer than
its bound is refused before it is queued.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from engine.errors import DeadlineExceeded, NodeDraining, QueueFull
from engine.schedule import Item, Lane, Limits, next_batch
from services.rpc import metrics
from services.rpc.call import Call

Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Done(Generic[Result]):
    """What came of one item, with the milliseconds it waited and its batch took."""

    result: Result
    queue_wait_ms: float
    inference_ms: float
    batch: int


@dataclass(slots=True)
class _Waiting(Generic[Work, Result]):
    item: Item
    work: Work
    future: asyncio.Future[Done[Result]] = field(repr=False)


class ModelQueue(Generic[Work, Result]):
    """One queue and one worker for one model.

    `run` turns a batch of works into results of the same order, on a thread of its own.
    `tokens_waiting_max` bounds the queue.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[Work]], Sequence[Result]],
        limits: Limits,
        tokens_waiting_max: int,
    ) -> None:
        self._name = name
        self._run = run
        self._limits = limits
        self._tokens_waiting_max = tokens_waiting_max
        self._tokens_waiting = 0
        self._waiting: dict[int, _Waiting[Work, Result]] = {}
        self._texts_waiting: Counter[Lane] = Counter()
        self._next_id = 0
        self._batches = 0
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"model-{name}")
        self._worker: asyncio.Task[None] | None = None
        self._tokens_per_s = 2_000.0  # until the first batch tells the truth
        self._bulk_served_s = time.monotonic()

    def start(self) -> None:
        """Starts the worker on the running event loop."""
        self._worker = asyncio.create_task(self._work(), name=f"model queue {self._name}")

    async def close(self) -> None:
        """Stops the worker; what still waits fails with NodeDraining."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for waiting in self._take(list(self._waiting)):
            if not waiting.future.done():
                waiting.future.set_exception(NodeDraining("This node stops. Try another one."))
        self._thread.shutdown(wait=True)

    async def submit(
        self, works: Sequence[Work], tokens: Sequence[int], call: Call
    ) -> list[Done[Result]]:
        """Queues works, each with its cost in tokens, and returns their results in order.

        Raises QueueFull with a time computed from the queue, DeadlineExceeded, or what the model
        raised. If the caller is cancelled, its items leave the queue.
        """
        asked = sum(tokens)
        if self._waiting and self._tokens_waiting + asked > self._tokens_waiting_max:
            raise QueueFull(
                f"{self._tokens_waiting:,} tokens wait for {self._name}; at most "
                f"{self._tokens_waiting_max:,} may. Try again later, or send less at once.",
                metadata={
                    "tokens_waiting": self._tokens_waiting,
                    "tokens_waiting_max": self._tokens_waiting_max,
                },
                retry_after_s=max(0.05, self._tokens_waiting / self._tokens_per_s),
            )
        now_s = time.monotonic()
        loop = asyncio.get_running_loop()
        mine: list[_Waiting[Work, Result]] = []
        for work, cost in zip(works, tokens, strict=True):
            item = Item(self._next_id, cost, call.lane, now_s, call.deadline_s)
            self._next_id += 1
            mine.append(_Waiting(item, work, loop.create_future()))
            self._waiting[item.id] = mine[-1]
        self._count(mine, 1)
        self._wake.set()
        try:
            return list(await asyncio.gather(*(w.future for w in mine)))
        finally:
            self._take(waiting.item.id for waiting in mine)
            for waiting in mine:
                waiting.future.cancel()

    def _take(self, ids: Iterable[int]) -> list[_Waiting[Work, Result]]:
        """Takes items out of the queue; those that are not in it any more are passed over."""
        taken = [self._waiting.pop(i) for i in ids if i in self._waiting]
        self._count(taken, -1)
        return taken

    def _count(self, moved: Sequence[_Waiting[Work, Result]], sign: int) -> None:
        """Keeps the figures of what waits: `moved` came (1) or went (-1)."""
        for waiting in moved:
            self._tokens_waiting += sign * waiting.item.tokens
            self._texts_waiting[waiting.item.lane] += sign
        for lane in {waiting.item.lane for waiting in moved}:
            metrics.QUEUE_WAITING.labels(self._name, lane).set(self._texts_waiting[lane])

    async def _work(self) -> None:
        while True:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            now_s = time.monotonic()
            items = [w.item for w in self._waiting.values()]
            batch = next_batch(items, self._limits, now_s, bulk_served_s=self._bulk_served_s)
            if any(item.lane == "bulk" for item in batch.items):
                self._bulk_served_s = now_s
            self._fail_expired([i.id for i in batch.expired])
            taken = self._take(i.id for i in batch.items)
            if taken:
                await self._run_batch(taken, now_s)

    def _fail_expired(self, ids: Sequence[int]) -> None:
        for waiting in self._take(ids):
            if not waiting.future.done():
                waiting.future.set_exception(
                    DeadlineExceeded(f"The deadline passed while waiting for {self._name}.")
                )

    async def _run_batch(self, taken: list[_Waiting[Work, Result]], now_s: float) -> None:
        self._batches += 1
        begin_s = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._thread, self._run, [w.work for w in taken])
        except Exception as error:
            for waiting in taken:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
            return
        elapsed_s = time.perf_counter() - begin_s
        self._observe(taken, now_s, elapsed_s)
        for waiting, result in zip(taken, results, strict=True):
            if not waiting.future.done():
                wait_ms = (now_s - waiting.item.arrived_s) * 1000
                waiting.future.set_result(Done(result, wait_ms, elapsed_s * 1000, self._batches))

    def _observe(self, taken: list[_Waiting[Work, Result]], now_s: float, elapsed_s: float) -> None:
        costs = [w.item.tokens for w in taken]
        padded = max(costs) * len(costs)
        metrics.BATCH_TOKENS.labels(self._name, "text").inc(sum(costs))
        metrics.BATCH_TOKENS.labels(self._name, "padding").inc(padded - sum(costs))
        for waiting in taken:
            metrics.QUEUE_WAIT_SECONDS.labels(self._name, waiting.item.lane).observe(
                max(0.0, now_s - waiting.item.arrived_s)
            )
        # A moving average: recent batches say best how fast the queue empties.
        self._tokens_per_s += 0.2 * (padded / max(elapsed_s, 1e-4) - self._tokens_per_s)
