"""Whatever is written while it runs, a search sees a state that was there: whole batches, in the
order of their watermarks, never a part of one and never a step back."""

from __future__ import annotations

import asyncio

from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given, packed, point, vectors
from tests.behaviour.rungs import Rung

WRITERS, BATCHES, BATCH_POINTS = 3, 12, 4
ROWS = vectors(WRITERS * BATCH_POINTS)


async def write(rung: Rung, collection: str, writer: int, log: dict[int, tuple[int, int]]) -> None:
    """Replaces the writer's points again and again; logs which batch each commit was."""
    for batch in range(1, BATCHES + 1):
        points = [
            point(f"w{writer}-{i}", ROWS[writer * BATCH_POINTS + i], batch=batch)
            for i in range(BATCH_POINTS)
        ]
        request = pb.UpsertPointsRequest(collection=collection, points=points)
        response = await rung.call("UpsertPoints", request)
        log[int(response.watermark)] = (writer, batch)


Seen = tuple[int, dict[str, int]]


async def read(rung: Rung, collection: str, done: asyncio.Event) -> list[Seen]:
    """Searches until told to stop; the watermark and each point's batch."""
    seen: list[Seen] = []
    request = pb.SearchCollectionRequest(collection=collection, vector=packed(ROWS[0]), limit=100)
    while not done.is_set():
        response = await rung.call("SearchCollection", request)
        found = {h.point.id: int(h.point.payload["batch"]) for h in response.hits}
        seen.append((int(response.watermark), found))
    return seen


def state_at(log: dict[int, tuple[int, int]], watermark: int) -> dict[str, int]:
    """What the commits up to a watermark make, each batch whole."""
    state: dict[str, int] = {}
    for at in sorted(log):
        if at <= watermark:
            writer, batch = log[at]
            state |= {f"w{writer}-{i}": batch for i in range(BATCH_POINTS)}
    return state


async def test_each_search_sees_a_prefix_of_the_log(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    log: dict[int, tuple[int, int]] = {}
    done = asyncio.Event()
    readers = [asyncio.create_task(read(rung, collection, done)) for _ in range(2)]
    await asyncio.gather(*(write(rung, collection, w, log) for w in range(WRITERS)))
    last = max(log)
    request = pb.CountPointsRequest(collection=collection, min_watermark=str(last))
    assert (await rung.call("CountPoints", request)).count == WRITERS * BATCH_POINTS
    done.set()
    assert len(log) == WRITERS * BATCHES, "every commit has a number of its own"
    checked = 0
    for seen in await asyncio.gather(*readers):
        for watermark, found in seen:
            assert found == state_at(log, watermark)
        checked += len({watermark for watermark, _ in seen})
        if rung.name in ("process", "grpc"):  # replicas move each at its own pace
            assert [w for w, _ in seen] == sorted(w for w, _ in seen)
    assert checked > 2, "searches ran while it was written"
