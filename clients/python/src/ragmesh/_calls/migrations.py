"""Calls of the retrieval service about migrations."""

from __future__ import annotations

from ragmesh import _rpcs as rpcs
from ragmesh._convert import migrations as convert
from ragmesh._convert import retrieval
from ragmesh._names import collection as collection_name
from ragmesh._names import optional
from ragmesh._plan import Plan, send
from ragmesh._session import Session
from ragmesh._types import migrations as types
from ragmesh._types.retrieval import Collection, HnswSettings
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb


def start_migration(
    session: Session,
    collection: str,
    *,
    embedding_model: str = "",
    hnsw: HnswSettings | None = None,
    timeout_s: float | None = None,
) -> Plan[types.Migration]:
    """Begins to build a second index of a collection, with another model or other HNSW settings.

    Searches and writes go on; writes reach both indexes. What is left out stays as it is. Raises
    CollectionNotFound, MigrationExists, EmbeddingModelNotFound, InvalidField where nothing would
    change, or MigrationNotReady where a point has no text to embed.
    """
    request = pb.StartMigrationRequest(
        collection=collection_name(collection),
        embedding_model=optional("embeddingModels", embedding_model, "embedding_model"),
        hnsw=retrieval.to_hnsw(hnsw),
    )
    response = yield from send(session, rpcs.START_MIGRATION, request, timeout_s=timeout_s)
    return convert.migration(response.migration)


def get_migration(
    session: Session, collection: str, *, timeout_s: float | None = None
) -> Plan[types.Migration]:
    """Says how far a migration is; raises CollectionNotFound or MigrationNotFound."""
    request = pb.GetMigrationRequest(collection=collection_name(collection))
    response = yield from send(session, rpcs.GET_MIGRATION, request, timeout_s=timeout_s)
    return convert.migration(response.migration)


def flip_migration(
    session: Session,
    collection: str,
    *,
    roll_back: bool = False,
    overlap_min: float = 0.0,
    timeout_s: float | None = None,
) -> Plan[types.Migration]:
    """Has searches answered by the new index, or with `roll_back` by the old one again.

    No acknowledged write is lost, and calling twice changes nothing. Whoever names the migration's
    `watermark`, as later calls of this client do, is answered by that index on every node; others
    are within two seconds. Raises CollectionNotFound,
    MigrationNotFound, MigrationNotReady, or RecallTooLow where the overlap is below `overlap_min`.
    """
    request = pb.FlipMigrationRequest(
        collection=collection_name(collection), roll_back=roll_back, overlap_min=overlap_min
    )
    response = yield from send(session, rpcs.FLIP_MIGRATION, request, timeout_s=timeout_s)
    session.remember(request.collection, response.migration.watermark)
    return convert.migration(response.migration)


def end_migration(
    session: Session, collection: str, *, timeout_s: float | None = None
) -> Plan[Collection]:
    """Removes the index that searches are not answered by.

    Raises CollectionNotFound or MigrationNotFound.
    """
    request = pb.EndMigrationRequest(collection=collection_name(collection))
    response = yield from send(session, rpcs.END_MIGRATION, request, timeout_s=timeout_s)
    return retrieval.collection(response.collection)
