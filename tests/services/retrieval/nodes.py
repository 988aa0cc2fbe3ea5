"""What tests of a node's indexes act with: a log that remembers, and views of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import numpy as np

from engine.index import MaintenanceSettings, Query, View, list_points, search
from services.retrieval.index import tending
from services.retrieval.index.opening import IndexRoom
from services.rpc.call import Call
from services.store.collections import Collection
from services.store.points import PointRow, apply_batch
from services.store.store import Store

DIMENSIONS = 8
SMALL = MaintenanceSettings(seal_rows=40, quiet_seal_rows=10, segments_max=3, merge_width=3)
VECTORS = np.random.default_rng(11).normal(size=(200, DIMENSIONS)).astype(np.float32)
ROOMS = Callable[..., IndexRoom]


def row(number: int, version: int) -> PointRow:
    return PointRow(
        id=f"p{number:03d}",
        vector=VECTORS[(number + version) % len(VECTORS)],
        text=f"word{number % 5} version{version}",
        payload={"n": number, "version": version},
    )


class Log:
    """Writes to PostgreSQL, and remembers what must be there."""

    def __init__(self, store: Store, collection: Collection) -> None:
        self._store = store
        self.collection = collection
        self.present: dict[str, PointRow] = {}
        self.seq = 0

    async def write(self, upserts: list[PointRow], deletes: list[str] | None = None) -> None:
        async with self._store.transaction("default") as tx:
            commit = await apply_batch(tx, self.collection, upserts, deletes or [])
        self.seq = commit.seq
        for id in deletes or []:
            self.present.pop(id, None)
        self.present |= {one.id: one for one in upserts}

    async def churn(self, batches: int, seed: int) -> None:
        rng = random.Random(seed)
        for version in range(batches):
            numbers = rng.sample(range(150), 14)
            gone = [f"p{number:03d}" for number in numbers[10:]]
            await self.write([row(number, seed + version) for number in numbers[:10]], gone)


async def view_of(room: IndexRoom, log: Log, min_seq: int | None = None) -> View:
    call = Call("default", "r1", time.monotonic() + 20)
    return await room.indexes.view(log.collection, log.seq if min_seq is None else min_seq, call)


async def settled(room: IndexRoom, log: Log) -> View:
    """Waits until everything is sealed that is worth it, and nothing is built any more."""
    last, since_s = -1, time.monotonic()
    for _ in range(600):
        view = await view_of(room, log)
        busy = any(followed.tasks() for followed in room.indexes._followed.values())
        if view.watermark != last or busy:
            last, since_s = view.watermark, time.monotonic()
        buffered = sum(one.live_count for one in view.segments if one.sealed is None)
        still_s = time.monotonic() - since_s
        if still_s > 1.5 * tending.QUIET_S + 0.1 and buffered < SMALL.quiet_seal_rows:
            return view
        await asyncio.sleep(0.05)
    raise AssertionError("it does not settle")


def names(view: View) -> list[str]:
    return [one.sealed.name for one in view.segments if one.sealed is not None]


def check(view: View, log: Log) -> None:
    listed = list_points(view, limit=1_000)
    assert [(p.id, p.text, p.payload) for p in listed] == [
        (one.id, one.text, one.payload) for _, one in sorted(log.present.items())
    ]
    hits = search(view, Query(VECTORS[0], limit=1_000, exact=True)).hits
    assert {hit.point.id for hit in hits} == log.present.keys()


QUERIES = [
    Query(VECTORS[3], limit=20),
    Query(text="word1 version3", limit=30),
    Query(VECTORS[70], "word4", limit=20),
]


def answers(view: View) -> list[object]:
    return [search(view, query).hits for query in QUERIES]
