"""Calls of the retrieval service about collections."""

from __future__ import annotations

from typing import Literal

from google.protobuf.field_mask_pb2 import FieldMask

from ragmesh import _rpcs as rpcs
from ragmesh._convert import retrieval as convert
from ragmesh._names import collection as collection_name
from ragmesh._names import optional, plain_id, refuse
from ragmesh._plan import Pages, Plan, paged, send
from ragmesh._session import Session, write_id
from ragmesh._types import retrieval as types
from ragmesh._values import to_enum
from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb


def create_collection(
    session: Session,
    collection_id: str = "",
    *,
    display_name: str = "",
    embedding_model: str = "",
    dimensions: int = 0,
    fingerprint: str = "",
    metric: Literal["cosine", "dot", "euclidean"] = "cosine",
    language: str = "",
    chunking: types.Chunking | None = None,
    hnsw: types.HnswSettings | None = None,
    limits: types.CollectionLimits | None = None,
    recall: types.RecallSettings | None = None,
    rerank_model: str = "",
    vector_storage: Literal["float32", "float16", "int8"] = "float32",
    token_store: bool = False,
    request_id: str | None = None,
    timeout_s: float | None = None,
) -> Plan[types.Collection]:
    """Makes a collection; the server makes up an id where none is given.

    With neither `embedding_model` nor `dimensions` it takes the server's default model; with
    `dimensions` alone, callers bring their own vectors. `vector_storage` is how vectors are kept
    where they are searched: 4, 2 or 3 bytes a value, of which a search touches 4, 2 or 1. With
    `token_store` it keeps a small vector of every token of the texts it embeds, to rerank by: some
    90 KB a passage of 240 tokens. Raises CollectionExists, EmbeddingModelNotFound, InvalidField or
    RequestIdReused.
    """
    request = pb.CreateCollectionRequest(
        collection=collection_pb2.Collection(
            display_name=display_name,
            embedding_model=optional("embeddingModels", embedding_model, "embedding_model"),
            fingerprint=fingerprint,
            dimensions=dimensions,
            metric=to_enum(collection_pb2.Metric.DESCRIPTOR, metric, "metric"),
            language=language,
            chunking=convert.to_chunking(chunking),
            hnsw=convert.to_hnsw(hnsw),
            limits=convert.to_limits(limits),
            recall=convert.to_recall(recall),
            rerank_model=optional("embeddingModels", rerank_model, "rerank_model"),
            vector_storage=to_enum(
                collection_pb2.VectorStorage.DESCRIPTOR, vector_storage, "vector_storage"
            ),
            token_store=token_store,
        ),
        collection_id=plain_id("collections", collection_id, "collection_id"),
        request_id=write_id(request_id),
    )
    response = yield from send(session, rpcs.CREATE_COLLECTION, request, timeout_s=timeout_s)
    session.forget(response.collection.name)
    return convert.collection(response.collection)


def get_collection(
    session: Session, name: str, *, timeout_s: float | None = None
) -> Plan[types.Collection]:
    """Returns one collection; raises CollectionNotFound."""
    request = pb.GetCollectionRequest(name=collection_name(name, "name"))
    response = yield from send(session, rpcs.GET_COLLECTION, request, timeout_s=timeout_s)
    return convert.collection(response.collection)


def list_collections(
    session: Session, *, page_size: int = 0, timeout_s: float | None = None
) -> Pages[types.Collection]:
    """Lists the collections by name."""
    return paged(
        session,
        rpcs.LIST_COLLECTIONS,
        pb.ListCollectionsRequest(page_size=page_size),
        lambda response: map(convert.collection, response.collections),
        timeout_s=timeout_s,
    )


def update_collection(
    session: Session,
    name: str,
    *,
    display_name: str | None = None,
    chunking: types.Chunking | None = None,
    hnsw: types.HnswSettings | None = None,
    limits: types.CollectionLimits | None = None,
    recall: types.RecallSettings | None = None,
    rerank_model: str | None = None,
    vector_storage: Literal["float32", "float16", "int8"] | None = None,
    timeout_s: float | None = None,
) -> Plan[types.Collection]:
    """Changes what is given and leaves the rest.

    Another `vector_storage` is tried first on the vectors that are there, which takes seconds where
    they are many. Raises CollectionNotFound, InvalidField, EmbeddingModelNotFound, and RecallTooLow
    where searches would find less.
    """
    given = {
        "display_name": display_name,
        "chunking": chunking,
        "hnsw": hnsw,
        "limits": limits,
        "recall": recall,
        "rerank_model": rerank_model,
        "vector_storage": vector_storage,
    }
    paths = [path for path, value in given.items() if value is not None]
    if not paths:
        choices = ", ".join(f"`{name}`" for name in given)
        raise refuse("update_mask", f"would be empty: give one of {choices}.")
    request = pb.UpdateCollectionRequest(
        collection=collection_pb2.Collection(
            name=collection_name(name, "name"),
            display_name=display_name or "",
            chunking=convert.to_chunking(chunking),
            hnsw=convert.to_hnsw(hnsw),
            limits=convert.to_limits(limits),
            recall=convert.to_recall(recall),
            rerank_model=optional("embeddingModels", rerank_model or "", "rerank_model"),
            vector_storage=to_enum(
                collection_pb2.VectorStorage.DESCRIPTOR, vector_storage or "", "vector_storage"
            ),
        ),
        update_mask=FieldMask(paths=paths),
    )
    response = yield from send(session, rpcs.UPDATE_COLLECTION, request, timeout_s=timeout_s)
    return convert.collection(response.collection)


def delete_collection(session: Session, name: str, *, timeout_s: float | None = None) -> Plan[None]:
    """Deletes a collection with its points and documents; raises CollectionNotFound."""
    request = pb.DeleteCollectionRequest(name=collection_name(name, "name"))
    yield from send(session, rpcs.DELETE_COLLECTION, request, timeout_s=timeout_s)
    session.forget(request.name)


def get_collection_stats(
    session: Session, name: str, *, timeout_s: float | None = None
) -> Plan[types.CollectionStats]:
    """Says how large a collection is, and how far the answering node's index has come."""
    request = pb.GetCollectionStatsRequest(name=collection_name(name, "name"))
    response = yield from send(session, rpcs.GET_COLLECTION_STATS, request, timeout_s=timeout_s)
    return convert.stats(response)
