"""A snapshot leaves as one file and comes back as a new collection, all of it or nothing."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from typing import Any

import pytest
from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given, equals, new_id, packed, point, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung
from tests.behaviour.snapshot_files import import_pieces, snapshot_file

ROWS = vectors(60)


async def exported(rung: Rung, name: str, offset_bytes: int = 0) -> tuple[bytes, list[Any]]:
    """The bytes, and the events checked for what all streams promise."""
    request = pb.ExportSnapshotRequest(name=name, offset_bytes=offset_bytes)
    events = [event async for event in rung.stream("ExportSnapshot", request)]
    assert [event.event_id for event in events] == list(range(1, len(events) + 1))
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds[0], kinds[-1]) == ("started", "finished") and set(kinds[1:-1]) <= {"data"}
    return b"".join(event.data for event in events[1:-1]), events


async def filled(rung: Rung, given: Given, **settings: Any) -> tuple[str, str]:
    """40 points of which 20 are sealed; the collection and a snapshot of it."""
    collection = await given.vector_collection(**settings)
    points = [point(f"{i:02}", row, f"text {i}", n=i) for i, row in enumerate(ROWS)]
    await given.points(collection, points[:40])
    await rung.call("CompactCollection", pb.CompactCollectionRequest(collection=collection))
    await given.points(collection, points[40:])
    gone = pb.DeletePointsRequest(collection=collection, ids=[f"{i:02}" for i in range(20)])
    await rung.call("DeletePoints", gone)
    return collection, await given.snapshot(collection)


async def contents(rung: Rung, collection: str, watermark: str) -> list[Any]:
    request = pb.ListPointsRequest(
        collection=collection, page_size=1_000, include_vectors=True, min_watermark=watermark
    )
    return list((await rung.call("ListPoints", request)).points)


async def test_a_file_is_given_whole_and_goes_on_where_it_broke_off(
    rung: Rung, given: Given
) -> None:
    _, name = await filled(rung, given)
    data, events = await exported(rung, name)
    assert events[0].started.snapshot.name == name and events[0].started.snapshot.points == 40
    assert events[0].started.size_bytes == len(data)
    assert events[-1].finished.content_sha256 == hashlib.sha256(data).hexdigest()
    for offset_bytes in (1, len(data) // 2, len(data) - 1, len(data)):
        rest, again = await exported(rung, name, offset_bytes)
        assert rest == data[offset_bytes:]
        assert again[-1] == events[-1] or again[-1].finished == events[-1].finished


@pytest.mark.rpcs("ImportSnapshot")
async def test_what_was_given_out_comes_back(rung: Rung, given: Given) -> None:
    limits = collection_pb2.CollectionLimits(limit_max=50)
    hnsw = collection_pb2.HnswSettings(m=20, ef_construction=90, ef_search=70)
    collection, name = await filled(rung, given, limits=limits, hnsw=hnsw, display_name="Papers")
    get = pb.GetSnapshotRequest(name=name)
    watermark = (await rung.call("GetSnapshot", get)).snapshot.watermark
    wanted = await contents(rung, collection, watermark)
    data, _ = await exported(rung, name)
    header: dict[str, Any] = {"collection_id": new_id(), "request_id": str(uuid.uuid4())}
    request = import_pieces(data, 1_000, **header)
    made = await rung.upload("ImportSnapshot", request)
    assert made.points == 40 and made.collection.name.endswith(header["collection_id"])
    assert (made.collection.limits, made.collection.hnsw) == (limits, hnsw)
    assert made.collection.display_name == "Papers"
    assert await contents(rung, made.collection.name, made.watermark) == wanted
    for query in (
        {"vector": packed(ROWS[30])},
        {"text": "text 30"},
        {"vector": packed(ROWS[31]), "filter": equals("n", 30)},
    ):
        search = pb.SearchCollectionRequest(
            collection=made.collection.name, limit=1, min_watermark=made.watermark, **query
        )
        (hit,) = (await rung.call("SearchCollection", search)).hits
        assert hit.point.id == "30"
    # The same again is the same answer, and with another file an error.
    assert await rung.upload("ImportSnapshot", request) == made
    with pytest.raises(Refused) as refused:
        await rung.upload("ImportSnapshot", import_pieces(snapshot_file(), **header))
    assert refused.value.reason == "REQUEST_ID_REUSED"
    # It lives on like any other.
    await given.points(made.collection.name, [point("30", ROWS[1])], wait=True)
    again, _ = await exported(rung, name)
    assert again == data


@pytest.mark.rpcs("ImportSnapshot")
async def test_an_import_that_breaks_off_leaves_nothing(rung: Rung, given: Given) -> None:
    _, name = await filled(rung, given)
    data, _ = await exported(rung, name)
    collection_id = new_id()
    get = pb.GetCollectionRequest(name=f"collections/{collection_id}")
    cut = import_pieces(data[: len(data) // 2], collection_id=collection_id)
    with pytest.raises(Refused) as refused:
        await rung.upload("ImportSnapshot", cut)
    assert refused.value.reason == "DATA_CORRUPTED"
    whole = import_pieces(snapshot_file(4_000), collection_id=collection_id)
    # Far less than it takes to write them: a deadline at the commit may come too late.
    for timeout_s in (0.01, 0.04):
        with pytest.raises(Refused) as refused:
            await rung.upload("ImportSnapshot", whole, timeout_s=timeout_s)
        assert refused.value.code == "DEADLINE_EXCEEDED"
    await asyncio.sleep(0.5)
    with pytest.raises(Refused) as refused:
        await rung.call("GetCollection", get)
    assert refused.value.reason == "COLLECTION_NOT_FOUND"
    made = await rung.upload("ImportSnapshot", whole)
    assert made.points == 4_000


@pytest.mark.rpcs("ImportSnapshot")
async def test_imports_are_held_to_limits_before_they_come(rung: Rung) -> None:
    data = snapshot_file(30)
    small = collection_pb2.CollectionLimits(points_max=29)
    with pytest.raises(Refused) as refused:
        await rung.upload("ImportSnapshot", import_pieces(data, limits=small))
    assert refused.value.reason == "LIMIT_REACHED"
    assert refused.value.fields == ("limits.points_max",)
    wide = collection_pb2.CollectionLimits(points_max=30)
    made = await rung.upload("ImportSnapshot", import_pieces(data, limits=wide))
    assert made.points == 30 and made.collection.limits == wide


@pytest.mark.rpcs("ImportSnapshot")
async def test_texts_are_embedded_by_nobody(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    await given.ingested(collection, "Rain fell on the town.", "rain.txt")
    snapshot = await given.snapshot(collection)
    data, _ = await exported(rung, snapshot)
    made = await rung.upload("ImportSnapshot", import_pieces(data))
    assert made.collection.fingerprint and made.points >= 1
    search = pb.SearchCollectionRequest(
        collection=made.collection.name, text="rain", limit=1, min_watermark=made.watermark
    )
    (hit,) = (await rung.call("SearchCollection", search)).hits
    assert "Rain" in hit.point.text and not hit.point.document
