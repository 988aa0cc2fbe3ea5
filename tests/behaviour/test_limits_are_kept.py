"""What a collection may be asked for is what it says: more is refused with the limit, never cut to
fit, and what makes room passes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.message import Message
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.documents.v1 import ingest_job_pb2
from ragmesh.api.retrieval.v1 import collection_pb2, filter_pb2, point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given, all_of, equals, new_id, packed, point, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

ROWS = vectors(40)
LIMITS = {
    "limit_max": 5,
    "ef_search_max": 100,
    "upsert_points_max": 20,
    "payload_bytes_max": 200,
    "filter_conditions_max": 3,
}


async def made(rung: Rung, **fields: Any) -> str:
    collection = collection_pb2.Collection(dimensions=8, **fields)
    request = pb.CreateCollectionRequest(collection=collection, collection_id=new_id())
    response = await rung.call("CreateCollection", request)
    assert response.collection.limits == collection.limits
    return str(response.collection.name)


def search(collection: str, **fields: Any) -> pb.SearchCollectionRequest:
    given = {"collection": collection, "vector": packed(ROWS[0]), "limit": 5, **fields}
    return pb.SearchCollectionRequest(**given)


def upsert(collection: str, count: int, first: int = 0, **payload: Any) -> pb.UpsertPointsRequest:
    points: list[point_pb2.Point] = [
        point(f"p{first + n}", ROWS[n % len(ROWS)], **payload) for n in range(count)
    ]
    return pb.UpsertPointsRequest(collection=collection, points=points, wait=True)


def conditions(count: int) -> filter_pb2.Filter:
    return all_of(*[equals("a", n) for n in range(count - 1)])


async def refused(rung: Rung, rpc: str, request: Message, limit: str) -> Refused:
    with pytest.raises(Refused) as caught:
        await rung.call(rpc, request)
    found = caught.value
    assert (found.code, found.reason) == ("RESOURCE_EXHAUSTED", "LIMIT_REACHED"), found
    assert found.metadata["limit"] == limit
    assert found.fields and found.retry_after_s is None
    return found


async def test_requests_at_a_limit_are_done_and_those_beyond_refused(rung: Rung) -> None:
    name = await made(rung, limits=collection_pb2.CollectionLimits(**LIMITS))
    watermark = (await rung.call("UpsertPoints", upsert(name, 20))).watermark
    hits = (await rung.call("SearchCollection", search(name, min_watermark=watermark))).hits
    assert len(hits) == 5
    await refused(rung, "UpsertPoints", upsert(name, 21), "upsert_points_max")
    await rung.call("UpsertPoints", upsert(name, 1, note="x" * 150))
    await refused(rung, "UpsertPoints", upsert(name, 1, note="x" * 200), "payload_bytes_max")
    await refused(rung, "SearchCollection", search(name, limit=6), "limit_max")
    await refused(rung, "SearchCollection", search(name, limit=0), "limit_max")
    await rung.call("SearchCollection", search(name, ef_search=100))
    await refused(rung, "SearchCollection", search(name, ef_search=101), "ef_search_max")
    batch = pb.BatchSearchCollectionRequest(
        collection=name, searches=[search("", limit=5), search("", limit=6)]
    )
    found = await refused(rung, "BatchSearchCollection", batch, "limit_max")
    assert found.fields == ("searches[1].limit",)


async def test_filters_are_bound_wherever_they_are_given(rung: Rung) -> None:
    name = await made(rung, limits=collection_pb2.CollectionLimits(**LIMITS))
    three, four = conditions(3), conditions(4)
    for rpc, kind in (
        ("CountPoints", pb.CountPointsRequest),
        ("ListPoints", pb.ListPointsRequest),
        ("DeletePoints", pb.DeletePointsRequest),
    ):
        await rung.call(rpc, kind(collection=name, filter=three))
        await refused(rung, rpc, kind(collection=name, filter=four), "filter_conditions_max")
    await rung.call("SearchCollection", search(name, filter=three))
    await refused(rung, "SearchCollection", search(name, filter=four), "filter_conditions_max")


async def test_a_full_collection_takes_what_replaces_and_what_deletes(rung: Rung) -> None:
    name = await made(rung, limits=collection_pb2.CollectionLimits(points_max=10))
    await rung.call("UpsertPoints", upsert(name, 10))
    await refused(rung, "UpsertPoints", upsert(name, 1, first=10), "points_max")
    await rung.call("UpsertPoints", upsert(name, 10))
    deleted = pb.DeletePointsRequest(collection=name, ids=["p3"], wait=True)
    await rung.call("DeletePoints", deleted)
    await rung.call("UpsertPoints", upsert(name, 1, first=10))
    await refused(rung, "UpsertPoints", upsert(name, 1, first=11), "points_max")
    small = await made(rung, limits=collection_pb2.CollectionLimits(bytes_max=2_000))
    await rung.call("UpsertPoints", upsert(small, 1))
    await refused(rung, "UpsertPoints", upsert(small, 30), "bytes_max")


async def test_a_write_that_was_done_is_answered_again_although_it_is_full_now(
    rung: Rung,
) -> None:
    name = await made(rung, limits=collection_pb2.CollectionLimits(points_max=10))
    request = upsert(name, 10)
    request.request_id = "7f9f4a0e-0000-4000-8000-" + new_id()[-12:]
    first = await rung.call("UpsertPoints", request)
    await rung.call("DeletePoints", pb.DeletePointsRequest(collection=name, ids=["p0"], wait=True))
    await rung.call("UpsertPoints", upsert(name, 1, first=20))
    assert (await rung.call("UpsertPoints", request)).watermark == first.watermark


async def test_what_is_restored_is_held_to_limits_too(rung: Rung, given: Given) -> None:
    name = await made(rung)
    await rung.call("UpsertPoints", upsert(name, 20))
    small = collection_pb2.CollectionLimits(points_max=10)
    changed = collection_pb2.Collection(name=name, limits=small)
    await rung.call("UpdateCollection", pb.UpdateCollectionRequest(collection=changed))
    kept = await given.snapshot(name)
    again = new_id()
    request = pb.RestoreSnapshotRequest(name=kept, collection_id=again)
    for limit, limits in (
        ("points_max", None),
        ("points_max", collection_pb2.CollectionLimits(points_max=19)),
        ("bytes_max", collection_pb2.CollectionLimits(bytes_max=600)),
    ):
        if limits is not None:
            request.limits.CopyFrom(limits)
        found = await refused(rung, "RestoreSnapshot", request, limit)
        assert found.fields == (f"limits.{limit}",)
        with pytest.raises(Refused) as absent:
            get = pb.GetCollectionRequest(name=f"collections/{again}")
            await rung.call("GetCollection", get)
        assert absent.value.reason == "COLLECTION_NOT_FOUND"
    wide = collection_pb2.CollectionLimits(points_max=20, bytes_max=10_000_000, limit_max=7)
    request.limits.CopyFrom(wide)
    restored = await rung.call("RestoreSnapshot", request)
    assert restored.collection.limits == wide and restored.points == 20


async def test_rates_say_when_to_come_back(rung: Rung) -> None:
    rates = collection_pb2.CollectionLimits(searches_per_second=2.0, writes_per_second=2.0)
    name = await made(rung, limits=rates)
    for rpc, request in (
        ("SearchCollection", search(name)),
        ("DeletePoints", pb.DeletePointsRequest(collection=name, ids=["x"])),
    ):
        # All at once: on a busy machine sixty one after the other are within the rate.
        said = await asyncio.gather(
            *(rung.call(rpc, request) for _ in range(60)), return_exceptions=True
        )
        caught = [one for one in said if isinstance(one, Refused)]
        assert len(caught) == sum(isinstance(one, BaseException) for one in said)
        reasons = {(one.code, one.reason) for one in caught}
        assert reasons == {("RESOURCE_EXHAUSTED", "RATE_LIMITED")}
        assert all(one.retry_after_s is not None for one in caught)
        assert max(one.retry_after_s or 0 for one in caught) <= 0.5
        await asyncio.sleep(0.51)  # on every node
        await rung.call(rpc, request)


async def test_limits_and_recall_change_as_wholes(rung: Rung) -> None:
    name = await made(rung, limits=collection_pb2.CollectionLimits(limit_max=5, points_max=100))
    shown = (await rung.call("GetCollection", pb.GetCollectionRequest(name=name))).collection
    assert shown.recall == collection_pb2.RecallSettings(sample_share=0.01, target=0.95)
    changed = collection_pb2.Collection(
        name=name,
        limits=collection_pb2.CollectionLimits(limit_max=9),
        recall=collection_pb2.RecallSettings(sample_share=0.0),
    )
    answer = await rung.call("UpdateCollection", pb.UpdateCollectionRequest(collection=changed))
    assert answer.collection.limits == collection_pb2.CollectionLimits(limit_max=9)
    assert answer.collection.recall == collection_pb2.RecallSettings(sample_share=0, target=0.95)
    for _ in range(300):  # another node reads the row again within two seconds
        try:
            for _ in range(4):
                await rung.call("SearchCollection", search(name, limit=9))
            break
        except Refused:
            await asyncio.sleep(0.1)
    else:
        raise AssertionError("the old limit stays")
    await refused(rung, "SearchCollection", search(name, limit=10), "limit_max")


async def test_recall_is_seen_in_the_figures_of_the_collection(rung: Rung, given: Given) -> None:
    name = await made(rung, recall=collection_pb2.RecallSettings(sample_share=1.0))
    await given.points(name, [point(f"p{n}", ROWS[n], n=n) for n in range(40)], wait=True)
    found: dict[float, pb.BandRecall] = {}
    for _ in range(500):
        await rung.call("SearchCollection", search(name))
        await rung.call("SearchCollection", search(name, filter=equals("n", 7)))
        stats = await rung.call("GetCollectionStats", pb.GetCollectionStatsRequest(name=name))
        found = {one.selectivity_min: one for one in stats.recall}
        if len(found) == 2:
            break
        await asyncio.sleep(0.05)
    assert found.keys() == {1.0, 0.01}
    for one in found.values():
        # So few are scanned: there is nothing to miss.
        assert (one.recall, one.recall_high, one.ef_search) == (1, 1, 64)
        assert 0 < one.recall_low < 1 and one.searches >= 1


async def test_documents_wait_for_room(rung: Rung, given: Given) -> None:
    name = await given.text_collection()
    full = collection_pb2.Collection(
        name=name, limits=collection_pb2.CollectionLimits(points_max=1)
    )
    await rung.call("UpdateCollection", pb.UpdateCollectionRequest(collection=full))
    await given.points(name, [point("here", text="Rain fell on the town.")], wait=True)
    for _ in range(300):  # every node reads the row again within two seconds
        asked = [
            await rung.call("GetCollectionStats", pb.GetCollectionStatsRequest(name=name))
            for _ in range(4)
        ]
        if {stats.refusal_reason for stats in asked} == {"LIMIT_REACHED"}:
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError("no node says that it is full")
    request = documents.CreateDocumentRequest(parent=name, text="Snow fell on the hills.")
    stored = await rung.call("CreateDocument", request)
    await asyncio.sleep(1.0)
    count = pb.CountPointsRequest(collection=name)
    assert (await rung.call("CountPoints", count)).count == 1
    more = collection_pb2.Collection(
        name=name, limits=collection_pb2.CollectionLimits(points_max=100)
    )
    await rung.call("UpdateCollection", pb.UpdateCollectionRequest(collection=more))
    job = await given.finished(stored.ingest_job.name)
    assert job.state == ingest_job_pb2.IngestJob.STATE_SUCCEEDED, job.error
