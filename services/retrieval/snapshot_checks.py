"""What makes a request about compaction or snapshots wrong whatever the state."""

from __future__ import annotations

from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from services.rpc import fields, names, paging

QUERIES_MAX = 1_000


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
