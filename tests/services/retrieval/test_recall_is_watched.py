"""What may be relied on of the recall that a node measures: it is that of the searches, it costs
them nothing, and too little of it makes all nodes look wider."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest_asyncio

from engine.index import GraphSettings, IndexSettings, Query, View, search
from engine.index.beams import EXACT, Band, Beams
from engine.index.filters import Range
from engine.types import Point
from services.retrieval.index.recall import RecallWatch, effective_ef
from services.rpc import metrics
from services.rpc.call import Call
from services.store.collections import (
    Collection,
    CollectionSpec,
    create_collection,
    get_collection,
    set_beams,
    update_collection,
)
from services.store.store import Store
from tests.engine.index.sealing import loaded
from tests.services.retrieval.nodes import ROOMS

RNG = np.random.default_rng(9)
ROWS = RNG.standard_normal((2_000, 16)).astype(np.float32)
QUERIES = RNG.standard_normal((400, 16)).astype(np.float32)
BAD = GraphSettings(m=2, ef_construction=4, ef_search=8, exact_values=0)
SPEC = CollectionSpec(
    dimensions=16, hnsw_m=2, hnsw_ef_construction=8, hnsw_ef_search=8, recall_sample_share=1.0
)


def built(graph: GraphSettings) -> View:
    points = (Point(f"{n:04d}", row, payload={"n": n}) for n, row in enumerate(ROWS))
    return loaded(IndexSettings(16, graph=graph), points).view


VIEW = built(BAD)


class Watched:
    """A watch, the collection that it watches, and how often it said that beams have changed."""

    def __init__(self, store: Store, chance: Callable[[], float]) -> None:
        self.store, self.changes = store, 0
        self.watch = RecallWatch(store, self._changed, chance, busy_share=1.0)

    def _changed(self) -> None:
        self.changes += 1

    async def row(self) -> Collection:
        async with self.store.transaction("default") as tx:
            return await get_collection(tx, "papers")

    async def ask(self, query: Query, view: View = VIEW) -> Collection:
        """As a search of the collection as it is now, until it was done again."""
        row = await self.row()
        before = _wanted()
        asked = Query(query.vector, filter=query.filter, beams=Beams.of(row.beams))
        while self.watch._pausing or self.watch._waiting.full():
            await asyncio.sleep(0)
        self.watch.offer(row, view, asked)
        for _ in range(20_000):
            await asyncio.sleep(0.001)
            if _wanted() > before:
                return row
        raise AssertionError("it was not done again")


def _wanted() -> float:
    return float(sum(metrics.RECALL_WANTED.labels(b.name.lower())._value.get() for b in Band))


@pytest_asyncio.fixture
async def watched(store: Store) -> AsyncIterator[Watched]:
    async with store.transaction("default") as tx:
        await create_collection(tx, "papers", SPEC)
    made = Watched(store, lambda: 0.0)
    await made.watch.start()
    yield made
    await made.watch.close()


async def test_what_is_seen_is_the_share_that_searches_find(watched: Watched) -> None:
    found = wanted = 0
    async with watched.store.transaction("default") as tx:
        await update_collection(tx, "papers", recall_target=0.0)
    for vector in QUERIES[:30]:
        row = await watched.ask(Query(vector))
        got = {hit.point.id for hit in search(VIEW, Query(vector)).hits}
        truth = {hit.point.id for hit in search(VIEW, Query(vector, exact=True)).hits}
        found, wanted = found + len(got & truth), wanted + len(truth)
    (seen,) = watched.watch.seen(row)
    assert (seen.band, seen.searches, seen.ef) == (Band.ALL, 30, 8)
    assert seen.seen.trials == wanted
    assert seen.seen.share * wanted == found < wanted
    assert seen.seen.low < found / wanted < seen.seen.high


async def test_bands_are_seen_apart(watched: Watched) -> None:
    for least in (2_000.0, 1_000.0, 200.0, 20.0, 19.0):
        row = await watched.ask(Query(QUERIES[0], filter=Range("n", lt=least)))
    assert [one.band for one in watched.watch.seen(row)] == list(Band)
    # Few rows are scanned: there everything is found, and known to be.
    assert watched.watch.seen(row)[-1].seen.share == 1.0


async def test_too_little_makes_searches_look_wider_until_they_find_enough(
    watched: Watched,
) -> None:
    beams = []
    for vector in QUERIES:
        row = await watched.ask(Query(vector))
        if row.beams not in beams:
            beams.append(row.beams)
        # What was seen with one beam says nothing of the next.
        for one in watched.watch.seen(row):
            assert one.ef == effective_ef(row, row.beams[one.band])
    efs = [one[Band.ALL] for one in beams]
    assert efs[0] == 0 and len(efs) > 2
    assert all(then > ef or then == EXACT for ef, then in pairwise(efs))
    assert all(one[1:] == [0] * 4 for one in beams), "other bands were not seen"
    assert watched.changes >= len(beams) - 1


async def test_a_graph_that_cannot_find_enough_is_not_used_any_more(watched: Watched) -> None:
    async with watched.store.transaction("default") as tx:
        await update_collection(tx, "papers", recall_target=1.0, hnsw_ef_search=1_024)
    view = built(GraphSettings(m=2, ef_construction=4, ef_search=1_024, exact_values=0))
    # Here the planner scans: all is found, and a target of 1 still wants certainty.
    for vector in QUERIES[:25]:
        await watched.ask(Query(vector), view)
    row = await watched.row()
    assert row.beams[Band.ALL] == EXACT and effective_ef(row, EXACT) == 0
    asked = Query(QUERIES[0], beams=Beams.of(row.beams))
    assert search(VIEW, asked).explain.walked == 0
    # Another graph is another story.
    async with watched.store.transaction("default") as tx:
        changed = await update_collection(tx, "papers", hnsw_ef_search=64)
        assert changed.beams == [0] * 5
        # What a node concludes from the old one comes too late.
        assert not await set_beams(tx, row, [64] * 5)
        assert not await set_beams(tx, replace(row, beams=[0] * 5), [64] * 5)
        assert await set_beams(tx, changed, [96, 0, 0, 0, 0])


async def test_what_is_not_sampled_costs_nothing_and_what_is_too_much_is_dropped(
    store: Store,
) -> None:
    async with store.transaction("default") as tx:
        row = await create_collection(tx, "papers", SPEC)
    watch = RecallWatch(store, lambda: None, lambda: 0.5)  # never started: nothing is taken out
    half = replace(row, recall_sample_share=0.5)
    never = replace(row, recall_sample_share=0.0)
    vector = QUERIES[0]
    for collection, query in (
        (half, Query(vector)),
        (never, Query(vector)),
        (row, Query(text="words")),
        (row, Query(vector, exact=True)),
        (row, Query(vector, ef=100)),
    ):
        watch.offer(collection, VIEW, query)
    assert watch._waiting.qsize() == 0
    dropped = metrics.RECALL_DROPPED._value.get()
    for _ in range(6):
        watch.offer(row, VIEW, Query(vector))
    assert watch._waiting.qsize() == 1
    assert metrics.RECALL_DROPPED._value.get() == dropped + 5
    assert watch.seen(row) == []
    await watch.close()


async def test_no_view_is_kept_through_a_pause(watched: Watched) -> None:
    """A second of scanning is followed by minutes without, in which segments are replaced."""
    watched.watch._pause_per_s = 1e6
    row = await watched.ask(Query(QUERIES[0]))
    while not watched.watch._pausing:
        await asyncio.sleep(0.001)
    held = built(BAD)
    references = sys.getrefcount(held)
    for _ in range(10):
        watched.watch.offer(row, held, Query(QUERIES[1]))
    assert watched.watch._waiting.empty() and sys.getrefcount(held) == references


async def test_it_goes_on_after_what_it_cannot_measure(watched: Watched) -> None:
    row = await watched.row()
    watched.watch.offer(row, VIEW, Query(QUERIES[0][:5]))
    await watched.ask(Query(QUERIES[0]))
    assert watched.watch.seen(row)[0].searches == 1


async def test_beams_that_one_node_learned_are_those_of_all(
    store: Store, collection: Collection, rooms: ROOMS
) -> None:
    one, two = rooms("one"), rooms("two")
    await one.start()
    await two.start()
    call = Call("default", "r1", time.monotonic() + 20)
    for room in (one, two):
        row = await room.indexes.collection("default", collection.id, call)
        assert row.beams == [0] * 5
        await room.indexes.view(row, 0, call)
    async with store.transaction("default") as tx:
        assert await set_beams(tx, collection, [96, 0, 0, EXACT, 0])
    one.indexes.nudge(changed=True)
    begin_s = time.monotonic()
    for room in (one, two):
        while not any((await room.indexes.collection("default", collection.id, call)).beams):
            await asyncio.sleep(0.02)
        row = await room.indexes.collection("default", collection.id, call)
        assert row.beams == [96, 0, 0, EXACT, 0]
    assert time.monotonic() - begin_s < 10  # every two seconds a node looks
