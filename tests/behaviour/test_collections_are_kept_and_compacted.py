"""A collection can be kept as it is and brought back under another name, and gives back what
deleted points took."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given, new_id, packed, point, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

ROWS = vectors(60)


async def contents(rung: Rung, collection: str, watermark: str) -> list[Any]:
    request = pb.ListPointsRequest(
        collection=collection, page_size=1_000, include_vectors=True, min_watermark=watermark
    )
    return list((await rung.call("ListPoints", request)).points)


async def filled(rung: Rung, given: Given) -> tuple[str, str]:
    """60 points of which 20 are deleted; the collection and the watermark."""
    collection = await given.vector_collection()
    await given.points(collection, [point(f"{i:02}", row, n=i) for i, row in enumerate(ROWS)])
    gone = pb.DeletePointsRequest(collection=collection, ids=[f"{i:02}" for i in range(20)])
    return collection, (await rung.call("DeletePoints", gone)).watermark


async def test_a_snapshot_brings_back_what_was_there(rung: Rung, given: Given) -> None:
    collection, watermark = await filled(rung, given)
    wanted = await contents(rung, collection, watermark)
    made = await rung.call("CreateSnapshot", pb.CreateSnapshotRequest(parent=collection))
    kept = made.snapshot
    assert kept.points == 40 and int(kept.watermark) >= int(watermark) and kept.size_kib > 0
    assert kept.name.startswith(f"{collection}/snapshots/")
    got = await rung.call("GetSnapshot", pb.GetSnapshotRequest(name=kept.name))
    assert got.snapshot == kept
    await given.points(collection, [point("30", ROWS[0], n=-1), point("new", ROWS[1])], wait=True)
    target = new_id()
    request = pb.RestoreSnapshotRequest(name=kept.name, collection_id=target)
    restored = await rung.call("RestoreSnapshot", request)
    assert restored.collection.name == f"collections/{target}" and restored.points == 40
    assert restored.collection.dimensions == 8
    assert await contents(rung, f"collections/{target}", restored.watermark) == wanted
    search = pb.SearchCollectionRequest(
        collection=f"collections/{target}", vector=packed(ROWS[30]), limit=1
    )
    [hit] = (await rung.call("SearchCollection", search)).hits
    assert hit.point.id == "30" and hit.point.payload["n"] == 30
    with pytest.raises(Refused) as refused:
        await rung.call("RestoreSnapshot", request)
    assert refused.value.reason == "COLLECTION_EXISTS"
    await given.points(f"collections/{target}", [point("30", ROWS[2])], wait=True)
    await rung.call("DeleteSnapshot", pb.DeleteSnapshotRequest(name=kept.name))
    with pytest.raises(Refused) as refused:
        await rung.call("GetSnapshot", pb.GetSnapshotRequest(name=kept.name))
    assert refused.value.reason == "SNAPSHOT_NOT_FOUND"


async def test_snapshots_are_made_and_restored_once(rung: Rung, given: Given) -> None:
    collection, _ = await filled(rung, given)
    make = pb.CreateSnapshotRequest(parent=collection, request_id=str(uuid.uuid4()))
    first = await rung.call("CreateSnapshot", make)
    assert await rung.call("CreateSnapshot", make) == first
    restore = pb.RestoreSnapshotRequest(name=first.snapshot.name, request_id=str(uuid.uuid4()))
    second = await rung.call("RestoreSnapshot", restore)
    assert await rung.call("RestoreSnapshot", restore) == second
    restore.collection_id = new_id()
    with pytest.raises(Refused) as refused:
        await rung.call("RestoreSnapshot", restore)
    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_snapshots_are_listed_by_page(rung: Rung, given: Given) -> None:
    collection, _ = await filled(rung, given)
    ids = ["a", "b", "c", "d", "e"]
    for snapshot_id in reversed(ids):
        request = pb.CreateSnapshotRequest(parent=collection, snapshot_id=snapshot_id)
        await rung.call("CreateSnapshot", request)
    found, token = [], ""
    for _ in range(3):
        asked = pb.ListSnapshotsRequest(parent=collection, page_size=2, page_token=token)
        page = await rung.call("ListSnapshots", asked)
        found += [one.name for one in page.snapshots]
        token = page.next_page_token
    assert found == [f"{collection}/snapshots/{one}" for one in ids] and token == ""


async def test_passages_come_back_as_plain_points(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    await given.points(collection, [point("own", text="A point of its own.")])
    await given.ingested(collection, "Rain fell on the town all night.", "rain.txt")
    kept = await given.snapshot(collection)
    request = pb.RestoreSnapshotRequest(name=kept, collection_id=new_id())
    restored = await rung.call("RestoreSnapshot", request)
    points = await contents(rung, restored.collection.name, restored.watermark)
    assert len(points) == restored.points == 2
    assert {one.text for one in points} == {
        "A point of its own.",
        "Rain fell on the town all night.",
    }
    assert not any(one.document for one in points)
    assert restored.collection.embedding_model and restored.collection.fingerprint


async def test_a_compaction_says_what_it_gave_back(rung: Rung, given: Given) -> None:
    collection, watermark = await filled(rung, given)
    wanted = await contents(rung, collection, watermark)
    first = await rung.call("CompactCollection", pb.CompactCollectionRequest(collection=collection))
    assert not first.rolled_back and first.points == 40
    gone = pb.DeletePointsRequest(collection=collection, ids=["20", "21"], wait=True)
    await rung.call("DeletePoints", gone)
    receipt = await rung.call(
        "CompactCollection", pb.CompactCollectionRequest(collection=collection, queries=10)
    )
    assert receipt.tombstones_removed == 2 and receipt.points == 38 and receipt.queries == 10
    assert receipt.recall_before == receipt.recall_after == 1.0
    assert receipt.after.disk_kib <= receipt.before.disk_kib
    assert receipt.after.resident_kib > 1_000 and receipt.compact_ms > 0
    request = pb.GetCollectionStatsRequest(name=collection)
    headers = {"x-ragmesh-watermark": receipt.watermark}
    stats = await rung.call("GetCollectionStats", request, headers=headers)
    assert (stats.tombstones, stats.buffered_points, stats.segments) == (0, 0, 1)
    assert stats.points == 38 and receipt.after.segments == 1
    assert await contents(rung, collection, receipt.watermark) == wanted[2:]
