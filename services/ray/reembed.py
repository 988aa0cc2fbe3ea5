"""A collection's second index filled by a Ray Data job, in place of the node that mirrors.

The job takes the migration's lease, so that no node mirrors meanwhile. Ranges of the log go to
actors, each with the embedding service in its own process: what it makes is what a node makes. They
write their ranges to the second index as often as Ray runs them, and only as long as the lease is
the job's. The place up to which everything is written moves with the ranges that are done one after
the other; a job that dies is gone on with from there, by a node or by another job. What is written
meanwhile comes later in the log: a node mirrors it when the job has given the lease back.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from ray.exceptions import RayError

from engine.errors import MigrationNotReady, ModelUnavailable, RagmeshError
from services.app import Node
from services.config import Settings
from services.ray.job import TENANT, connected, failed, open_store, require_data
from services.retrieval.core import RetrievalCore
from services.retrieval.index.indexes import Indexes
from services.retrieval.migration.mirror import Mirror
from services.store import collections
from services.store import index_migrations as kept
from services.store.index_migrations import Migration
from services.store.mirroring import (
    Place,
    move_points,
    read_range,
    split_points,
    write_range,
)

RANGE_ROWS = 512
"""Points of a range: what an actor that dies has to do again."""

LEASE_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What actors have to know."""

    settings: Settings
    migration: Migration
    owner: str


@dataclass(frozen=True, slots=True)
class Filled:
    """What a job did: points written, of how many ranges."""

    points: int
    ranges: int


def reembed(
    settings: Settings,
    collection_id: str,
    address: str,
    *,
    actors_max: int,
    cpus: float = 1.0,
    progress: Callable[[int, int], None] = lambda done, ranges: None,
) -> Filled:
    """Fill the second index of a collection's migration on the cluster at `address`, with at most
    so many actors of so many `cpus`. Blocks; `progress` hears of ranges done, and of all.

    Raises MigrationNotFound, MigrationNotReady where another took over or a point cannot be
    embedded, and ServiceUnavailable where Ray fails.
    """
    require_data()
    job = asyncio.run(_claim(settings, collection_id))
    if job is None:
        return Filled(0, 0)
    plan, places = job
    beating = threading.Event()
    beat = threading.Thread(target=_beat, args=(settings, plan, beating), daemon=True)
    beat.start()
    filled, at = Filled(0, 0), 0
    try:
        with connected(address):
            for number, points in _run(plan, places, actors_max, cpus):
                at = number + 1
                filled = Filled(filled.points + points, at)
                asyncio.run(_move(settings, plan, places[number]))
                progress(at, len(places))
    except RayError as error:
        raise failed(error, "fill the index") from error
    finally:
        beating.set()
        beat.join()
        with contextlib.suppress(RagmeshError):
            asyncio.run(_release(settings, plan))
    return filled


def _run(
    plan: Plan, places: list[Place], actors_max: int, cpus: float
) -> Iterator[tuple[int, int]]:
    """The ranges that are done, one after the other, with their points."""
    from ray.data import ActorPoolStrategy, DataContext, from_items

    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    starts = [Place(plan.migration.points_seq, plan.migration.points_id), *places[:-1]]
    ranges = [
        {
            "number": number,
            "seq": after.seq,
            "id": after.id,
            "until_seq": until.seq,
            "until_id": until.id,
        }
        for number, (after, until) in enumerate(zip(starts, places, strict=True))
    ]
    data = from_items(ranges, override_num_blocks=len(ranges)).map_batches(
        _Filler,
        batch_size=1,
        batch_format="numpy",
        compute=ActorPoolStrategy(min_size=1, max_size=max(1, min(actors_max, len(ranges)))),
        num_cpus=cpus,
        fn_constructor_args=(plan,),
    )
    for row in data.iter_rows():
        if row["problem"]:
            raise MigrationNotReady(str(row["problem"]))
        yield int(row["number"]), int(row["points"])


class _Filler:
    """Embeds and writes ranges, in an actor."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._open(plan.settings))

    async def _open(self, settings: Settings) -> None:
        node = settings.node.model_copy(
            update={"services": ("embedding",), "listen": "127.0.0.1:0", "metrics_listen": ""}
        )
        self._store = await open_store(settings)
        # It hosts the service for this process alone: nothing listens.
        bare = settings.store.model_copy(update={"redis_url": type(settings.store.redis_url)("")})
        self._node = Node(settings.model_copy(update={"node": node, "store": bare}))
        await self._node.open()
        core = RetrievalCore(cast(Indexes, None), self._node.mesh, self._node.threads)
        self._mirror = Mirror(self._store, core)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """One range. What cannot be done is said, and the job ends by it."""
        (number,), (seq,), (until_seq,) = batch["number"], batch["seq"], batch["until_seq"]
        after = Place(int(seq), str(batch["id"][0]))
        until = Place(int(until_seq), str(batch["until_id"][0]))
        points, problem = self._loop.run_until_complete(self._fill(after, until))
        return {"number": [int(number)], "points": [points], "problem": [problem]}

    async def _fill(self, after: Place, until: Place) -> tuple[int, str]:
        plan = self._plan
        async with self._store.transaction(plan.migration.tenant) as tx:
            pair = await kept.indexes_of(tx, plan.migration)
        if pair is None:
            return 0, "the migration was ended or flipped meanwhile"
        try:
            found = await read_range(self._store, plan.migration, after, until)
            rows = await self._mirror.rows(pair, found)
            held = await write_range(self._store, plan.migration, pair.target, rows, plan.owner)
        except ModelUnavailable:
            raise  # Ray tries it again, elsewhere
        except RagmeshError as error:
            return 0, error.message
        return len(rows), "" if held else "another mirrors it by now"


async def _claim(settings: Settings, collection_id: str) -> tuple[Plan, list[Place]] | None:
    """The lease, taken from the node that has it, and the ranges; None where nothing is left."""
    owner = f"ray/{uuid.uuid4().hex}"
    store = await open_store(settings)
    try:
        async with store.transaction(TENANT) as tx:
            row = await collections.get_collection(tx, collection_id)
            found = await kept.get(tx, row)
            claimed = await kept.claim(tx, found, owner, LEASE_S, by_force=True)
        if claimed is None:
            raise kept.not_ready(collection_id, "the migration changed in this moment; try again")
        places = await split_points(store, claimed, RANGE_ROWS)
    finally:
        await store.close()
    plan = Plan(settings, claimed, owner)
    return (plan, places) if places else None


async def _move(settings: Settings, plan: Plan, place: Place) -> None:
    store = await open_store(settings)
    try:
        async with store.transaction(plan.migration.tenant) as tx:
            moved = await move_points(tx, plan.migration, place, plan.owner)
    finally:
        await store.close()
    if not moved:
        raise MigrationNotReady("another mirrors the collection by now; nothing of it is lost")


async def _release(settings: Settings, plan: Plan) -> None:
    store = await open_store(settings)
    try:
        async with store.transaction(plan.migration.tenant) as tx:
            await kept.release(tx, plan.migration, plan.owner)
    finally:
        await store.close()


def _beat(settings: Settings, plan: Plan, over: threading.Event) -> None:
    """Extends the lease until the job is over."""

    async def extend() -> None:
        store = await open_store(settings)
        try:
            async with store.transaction(plan.migration.tenant) as tx:
                await kept.claim(tx, plan.migration, plan.owner, LEASE_S)
        finally:
            await store.close()

    while not over.wait(LEASE_S / 4):
        with contextlib.suppress(RagmeshError):
            asyncio.run(extend())
