"""Calls of the retrieval service about compaction and snapshots."""

from __future__ import annotations

from ragmesh import _rpcs as rpcs
from ragmesh._convert import snapshots as convert
from ragmesh._convert.retrieval import to_limits
from ragmesh._names import collection as collection_name
from ragmesh._names import plain_id
from ragmesh._names import snapshot as snapshot_name
from ragmesh._plan import Pages, Plan, paged, send
from ragmesh._session import Session, write_id
from ragmesh._types import snapshots as types
from ragmesh._types.retrieval import CollectionLimits
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb


def compact_collection(
    session: Session,
    collection: str,
    *,
    full: bool = False,
    queries: int = 0,
    timeout_s: float | None = None,
) -> Plan[types.Compaction]:
    """Gives the memory and disk of deleted and replaced points back, if searches find as much.

    With `full` every segment is built anew, which applies changed HNSW settings too. `queries` is
    how many recall is compared on: 0 for 64, at most 1,000. If `timeout_s` ends first the work
    goes on, and a second call joins it. Raises CollectionNotFound, IndexUnavailable or
    DeadlineExceeded.
    """
    request = pb.CompactCollectionRequest(
        collection=collection_name(collection), full=full, queries=queries
    )
    response = yield from send(session, rpcs.COMPACT_COLLECTION, request, timeout_s=timeout_s)
    return convert.compaction(response)


def create_snapshot(
    session: Session,
    collection: str,
    snapshot_id: str = "",
    *,
    request_id: str | None = None,
    timeout_s: float | None = None,
) -> Plan[types.Snapshot]:
    """Keeps a collection as it is; the server makes up an id where none is given.

    Every write that was acknowledged before is in it. Raises CollectionNotFound, SnapshotExists,
    IndexUnavailable or RequestIdReused.
    """
    request = pb.CreateSnapshotRequest(
        parent=collection_name(collection),
        snapshot_id=snapshot_id,
        request_id=write_id(request_id),
    )
    response = yield from send(session, rpcs.CREATE_SNAPSHOT, request, timeout_s=timeout_s)
    return convert.snapshot(response.snapshot)


def get_snapshot(
    session: Session, name: str, *, collection: str | None = None, timeout_s: float | None = None
) -> Plan[types.Snapshot]:
    """Returns one snapshot; raises CollectionNotFound or SnapshotNotFound."""
    request = pb.GetSnapshotRequest(name=snapshot_name(name, collection))
    response = yield from send(session, rpcs.GET_SNAPSHOT, request, timeout_s=timeout_s)
    return convert.snapshot(response.snapshot)


def list_snapshots(
    session: Session, collection: str, *, page_size: int = 0, timeout_s: float | None = None
) -> Pages[types.Snapshot]:
    """Lists a collection's snapshots by name; raises CollectionNotFound."""
    return paged(
        session,
        rpcs.LIST_SNAPSHOTS,
        pb.ListSnapshotsRequest(parent=collection_name(collection), page_size=page_size),
        lambda response: map(convert.snapshot, response.snapshots),
        timeout_s=timeout_s,
    )


def delete_snapshot(
    session: Session, name: str, *, collection: str | None = None, timeout_s: float | None = None
) -> Plan[None]:
    """Deletes a snapshot; raises CollectionNotFound or SnapshotNotFound."""
    request = pb.DeleteSnapshotRequest(name=snapshot_name(name, collection))
    yield from send(session, rpcs.DELETE_SNAPSHOT, request, timeout_s=timeout_s)


def restore_snapshot(
    session: Session,
    name: str,
    collection_id: str = "",
    *,
    collection: str | None = None,
    limits: CollectionLimits | None = None,
    request_id: str | None = None,
    timeout_s: float | None = None,
) -> Plan[types.Restored]:
    """Makes a new collection of a snapshot, all of it or nothing.

    The server makes up an id where `collection_id` is empty. Passages of documents come back as
    plain points. `limits` replaces what the snapshot's collection could be asked for. If
    `timeout_s` ends first the work goes on, and a call with the same `request_id` joins it. Raises
    CollectionNotFound, SnapshotNotFound, CollectionExists, DataCorrupted, DeadlineExceeded or
    RequestIdReused; for want of room LimitReached or IndexMemoryFull.
    """
    request = pb.RestoreSnapshotRequest(
        name=snapshot_name(name, collection),
        collection_id=plain_id("collections", collection_id, "collection_id"),
        limits=to_limits(limits),
        request_id=write_id(request_id),
    )
    response = yield from send(session, rpcs.RESTORE_SNAPSHOT, request, timeout_s=timeout_s)
    session.forget(response.collection.name)
    return convert.restored(response)
