"""Messages of compaction and snapshots."""

from __future__ import annotations

from ragmesh._convert import retrieval
from ragmesh._types import snapshots as types
from ragmesh._values import from_time
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh.api.retrieval.v1 import snapshot_pb2


def compaction(message: pb.CompactCollectionResponse) -> types.Compaction:
    return types.Compaction(
        before=_footprint(message.before),
        after=_footprint(message.after),
        points=message.points,
        tombstones_removed=message.tombstones_removed,
        rolled_back=message.rolled_back,
        reason=message.reason,
        queries=message.queries,
        recall_before=message.recall_before,
        recall_after=message.recall_after,
        compact_ms=message.compact_ms,
        watermark=message.watermark,
    )


def _footprint(message: pb.IndexFootprint) -> types.IndexFootprint:
    return types.IndexFootprint(
        message.segments, message.disk_kib, message.index_kib, message.resident_kib
    )


def snapshot(message: snapshot_pb2.Snapshot) -> types.Snapshot:
    return types.Snapshot(
        name=message.name,
        watermark=message.watermark,
        points=message.points,
        size_kib=message.size_kib,
        create_time=from_time(message.create_time),
    )


def restored(
    message: pb.RestoreSnapshotResponse | pb.ImportSnapshotResponse,
) -> types.Restored:
    return types.Restored(
        retrieval.collection(message.collection), message.points, message.watermark
    )
