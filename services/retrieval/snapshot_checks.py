"""What makes a request about compaction or snapshots wrong whatever the state."""

from __future__ import annotations

from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import InvalidField
from services.rpc import fields, names, paging

QUERIES_MAX = 1_000
PIECE_BYTES_MAX = 1 << 20
OFFSET_MAX = 2**62


def compact(request: pb.CompactCollectionRequest) -> None:
    """The form of the name, and how many queries."""
    names.collection_id(request.collection, "collection")
    fields.number(request.queries, "queries", 0, QUERIES_MAX)


def create(request: pb.CreateSnapshotRequest) -> None:
    """The forms of names and ids."""
    names.collection_id(request.parent, "parent")
    fields.request_id(request.request_id)
    if request.snapshot_id:
        names.check_id(request.snapshot_id, "snapshot_id")


def named(request: pb.GetSnapshotRequest | pb.DeleteSnapshotRequest) -> None:
    """The form of the name."""
    names.snapshot_ids(request.name)


def listed(request: pb.ListSnapshotsRequest) -> None:
    """The form of the name, and the page's size."""
    names.collection_id(request.parent, "parent")
    paging.page_size(request.page_size)


def restore(request: pb.RestoreSnapshotRequest) -> None:
    """The forms of names and ids."""
    names.snapshot_ids(request.name)
    fields.request_id(request.request_id)
    if request.collection_id:
        names.check_id(request.collection_id, "collection_id")


def exported(request: pb.ExportSnapshotRequest) -> None:
    """The form of the name, and a place in a file."""
    names.snapshot_ids(request.name)
    fields.number(request.offset_bytes, "offset_bytes", 0, OFFSET_MAX)


def imported(request: pb.ImportSnapshotRequest) -> None:
    """The size of a piece, the forms of ids."""
    piece = request.WhichOneof("piece")
    if piece is None:
        raise InvalidField("A piece of an import is neither header nor data.", field="piece")
    if len(request.data) > PIECE_BYTES_MAX:
        raise InvalidField(
            f"data has {len(request.data):,} bytes; a piece has at most {PIECE_BYTES_MAX:,}. Send "
            "more and smaller pieces.",
            field="data",
            metadata={"bytes": len(request.data), "bytes_max": PIECE_BYTES_MAX},
        )
    fields.request_id(request.header.request_id)
    if request.header.collection_id:
        names.check_id(request.header.collection_id, "header.collection_id")
