"""Compaction and snapshots: what is asked goes out, and what is answered comes back whole."""

from __future__ import annotations

import hashlib
import io
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
import ragmesh
from google.protobuf.timestamp_pb2 import Timestamp
from ragmesh.api.retrieval.v1 import collection_pb2, snapshot_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.clients.either_client import EitherClient
from tests.clients.scripted_server import ScriptedServer, failing, status, streaming

NAME = "collections/papers/snapshots/monday"
MESSAGE = snapshot_pb2.Snapshot(
    name=NAME, watermark="9", points=4, size_kib=5, create_time=Timestamp(seconds=60)
)


async def test_a_receipt_comes_back_whole(client: EitherClient, script: ScriptedServer) -> None:
    before = pb.IndexFootprint(segments=4, disk_kib=300, index_kib=400, resident_kib=5_000)
    after = pb.IndexFootprint(segments=1, disk_kib=100, index_kib=90, resident_kib=4_000)
    answer = pb.CompactCollectionResponse(
        before=before,
        after=after,
        points=7,
        tombstones_removed=3,
        rolled_back=True,
        reason="because",
        queries=10,
        recall_before=0.99,
        recall_after=0.5,
        compact_ms=12.5,
        watermark="8",
    )
    script.on("CompactCollection", answer)
    receipt = await client.call("compact_collection", "papers", full=True, queries=10)
    (request,) = script.requests("CompactCollection")
    assert (request.collection, request.full, request.queries) == ("collections/papers", True, 10)
    assert receipt == ragmesh.Compaction(
        before=ragmesh.IndexFootprint(4, 300, 400, 5_000),
        after=ragmesh.IndexFootprint(1, 100, 90, 4_000),
        points=7,
        tombstones_removed=3,
        rolled_back=True,
        reason="because",
        queries=10,
        recall_before=0.99,
        recall_after=0.5,
        compact_ms=12.5,
        watermark="8",
    )


async def test_a_snapshot_is_made_once(client: EitherClient, script: ScriptedServer) -> None:
    script.on("CreateSnapshot", pb.CreateSnapshotResponse(snapshot=MESSAGE))
    made = await client.call("create_snapshot", "papers", "monday")
    (request,) = script.requests("CreateSnapshot")
    assert (request.parent, request.snapshot_id) == ("collections/papers", "monday")
    assert uuid.UUID(request.request_id)
    assert (made.name, made.watermark, made.points, made.size_kib) == (NAME, "9", 4, 5)
    assert made.create_time.timestamp() == 60


@pytest.mark.parametrize(
    ("given", "options"),
    [(NAME, {}), ("monday", {"collection": "papers"}), (NAME, {"collection": "papers"})],
)
async def test_a_snapshot_is_named_whole_or_in_its_collection(
    client: EitherClient, script: ScriptedServer, given: str, options: dict[str, Any]
) -> None:
    script.on("GetSnapshot", pb.GetSnapshotResponse(snapshot=MESSAGE))
    script.on("DeleteSnapshot", pb.DeleteSnapshotResponse())
    script.on(
        "RestoreSnapshot",
        pb.RestoreSnapshotResponse(
            collection=collection_pb2.Collection(name="collections/again", dimensions=3),
            points=4,
            watermark="12",
        ),
    )
    assert (await client.call("get_snapshot", given, **options)).name == NAME
    await client.call("delete_snapshot", given, **options)
    restored = await client.call("restore_snapshot", given, "again", **options)
    for rpc in ("GetSnapshot", "DeleteSnapshot", "RestoreSnapshot"):
        assert script.requests(rpc)[0].name == NAME
    assert script.requests("RestoreSnapshot")[0].collection_id == "again"
    assert (restored.collection.name, restored.points) == ("collections/again", 4)
    assert restored.watermark == "12"


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ("monday", {}),
        ("collections/papers/documents/monday", {}),
        (NAME, {"collection": "others"}),
        ("", {"collection": "papers"}),
    ],
)
async def test_what_names_no_snapshot_is_refused_before_it_is_sent(
    client: EitherClient, script: ScriptedServer, given: str, options: dict[str, Any]
) -> None:
    script.on("GetSnapshot", pb.GetSnapshotResponse(snapshot=MESSAGE))
    with pytest.raises(ragmesh.InvalidField):
        await client.call("get_snapshot", given, **options)
    assert script.seen["GetSnapshot"] == []


async def test_snapshots_are_listed_page_by_page(
    client: EitherClient, script: ScriptedServer
) -> None:
    first = pb.ListSnapshotsResponse(snapshots=[MESSAGE], next_page_token="1")
    other = snapshot_pb2.Snapshot(name=f"{NAME}-2")
    script.on("ListSnapshots", first, pb.ListSnapshotsResponse(snapshots=[other]))
    found = [one.name for one in await client.collect("list_snapshots", "papers", page_size=1)]
    assert found == [NAME, f"{NAME}-2"]
    assert [one.parent for one in script.requests("ListSnapshots")] == ["collections/papers"] * 2


def export_events(data: bytes, step: int = 4, offset: int = 0) -> list[pb.ExportSnapshotResponse]:
    started = pb.ExportStarted(snapshot=MESSAGE, size_bytes=len(data))
    finished = pb.ExportFinished(content_sha256=hashlib.sha256(data).hexdigest())
    return [
        pb.ExportSnapshotResponse(started=started),
        *(
            pb.ExportSnapshotResponse(data=data[at : at + step])
            for at in range(offset, len(data), step)
        ),
        pb.ExportSnapshotResponse(finished=finished),
    ]


async def test_a_snapshot_comes_as_pieces_of_a_file(
    client: EitherClient, script: ScriptedServer
) -> None:
    data = bytes(range(10))
    script.on("ExportSnapshot", streaming(*export_events(data)))
    pieces = await client.collect("export_snapshot", "monday", collection="papers")
    (request,) = script.requests("ExportSnapshot")
    assert (request.name, request.offset_bytes) == (NAME, 0)
    assert b"".join(piece.data for piece in pieces) == data
    assert [piece.offset_bytes for piece in pieces] == [0, 0, 4, 8, 10]
    assert {piece.size_bytes for piece in pieces} == {10}
    assert {piece.snapshot.name for piece in pieces} == {NAME}
    assert pieces[-1].content_sha256 == hashlib.sha256(data).hexdigest()
    script.on("ExportSnapshot", streaming(*export_events(data, offset=4)))
    pieces = await client.collect("export_snapshot", NAME, offset_bytes=4)
    assert script.requests("ExportSnapshot")[0].offset_bytes == 4
    assert b"".join(piece.data for piece in pieces) == data[4:] and pieces[0].offset_bytes == 4


async def test_pieces_that_are_not_what_was_given_are_noticed(
    client: EitherClient, script: ScriptedServer
) -> None:
    events = export_events(bytes(10))
    script.on("ExportSnapshot", streaming(events[0], events[1], *events[3:]))
    with pytest.raises(ragmesh.DataCorrupted):
        await client.collect("export_snapshot", NAME)
    script.on("ExportSnapshot", streaming(*events[:-1]))
    with pytest.raises(ragmesh.StreamCut):
        await client.collect("export_snapshot", NAME)
    failed = status(grpc.StatusCode.DATA_LOSS, "gone", reason="DATA_CORRUPTED")
    last = pb.ExportSnapshotResponse(failed=failed)
    script.on("ExportSnapshot", streaming(*events[:2], last))
    with pytest.raises(ragmesh.DataCorrupted, match="gone"):
        await client.collect("export_snapshot", NAME)


@pytest.mark.parametrize("kind", ["path", "bytes", "file"])
async def test_a_file_is_sent_whole_and_makes_a_collection(
    client: EitherClient, script: ScriptedServer, tmp_path: Path, kind: str
) -> None:
    data = bytes(1_200_000)
    path = tmp_path / "papers.snapshot"
    path.write_bytes(data)
    source = {"path": path, "bytes": data, "file": io.BytesIO(data)}[kind]
    answer = pb.ImportSnapshotResponse(
        collection=collection_pb2.Collection(name="collections/again"), points=4, watermark="12"
    )
    script.on("ImportSnapshot", failing(grpc.StatusCode.UNAVAILABLE), answer)
    limits = ragmesh.CollectionLimits(points_max=9)
    made = await client.call("import_snapshot", source, "again", limits=limits)
    assert (made.collection.name, made.points, made.watermark) == ("collections/again", 4, "12")
    tries = script.requests("ImportSnapshot")
    assert len(tries) == 2 and tries[0][0] == tries[1][0]
    header = tries[1][0].header
    assert (header.collection_id, header.limits.points_max) == ("again", 9)
    assert uuid.UUID(header.request_id)
    assert b"".join(piece.data for piece in tries[1][1:]) == data
    assert max(len(piece.data) for piece in tries[1][1:]) <= 1 << 20
