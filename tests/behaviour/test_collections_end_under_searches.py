"""A collection may be deleted while it is searched: a search that has begun is answered whole, a
later one is told that it is gone."""

from __future__ import annotations

import asyncio

from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given, packed, point, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

ROWS = vectors(60)


async def test_searches_end_with_an_answer_or_with_the_reason(rung: Rung, given: Given) -> None:
    name = await given.vector_collection()
    await given.points(name, [point(f"p{n}", row) for n, row in enumerate(ROWS)], wait=True)
    answered, reasons = 0, set()
    ended = asyncio.Event()

    async def search(seed: int) -> None:
        nonlocal answered
        request = pb.SearchCollectionRequest(
            collection=name, vector=packed(ROWS[seed]), limit=1_000, exact=bool(seed % 2)
        )
        late = 0
        while late < 5:
            late += ended.is_set()
            try:
                response = await rung.call("SearchCollection", request)
            except Refused as refused:
                reasons.add(refused.reason)
            else:
                assert {hit.point.id for hit in response.hits} == {f"p{n}" for n in range(60)}
                answered += 1
            await asyncio.sleep(0.005)

    async def delete() -> None:
        while answered < 20:
            await asyncio.sleep(0.005)
        await rung.call("DeleteCollection", pb.DeleteCollectionRequest(name=name))
        ended.set()

    await asyncio.gather(delete(), *(search(seed) for seed in range(8)))
    assert reasons <= {"COLLECTION_NOT_FOUND"}
    for _ in range(600):  # a node that did not delete it hears of it within a moment
        try:
            await rung.call("CountPoints", pb.CountPointsRequest(collection=name))
        except Refused as refused:
            reasons.add(refused.reason)
            break
        await asyncio.sleep(0.05)
    assert reasons == {"COLLECTION_NOT_FOUND"}
