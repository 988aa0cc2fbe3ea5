"""Between the contract's messages and the values of store and engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields

from ragmesh.api.retrieval.v1 import collection_pb2, point_pb2, snapshot_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.documents.chunk import Strategy
from engine.types import Hit, Point
from services.retrieval.core import PinnedModel
from services.retrieval.filter_values import filter_value as filter_value
from services.retrieval.index.recall import BandRecall
from services.rpc import names
from services.rpc.values import (
    sentence_messages,
    sparse_vector_message,
    timestamp,
    vector_message,
)
from services.store.collections import (
    RECALL_TARGET_DEFAULT,
    SAMPLE_SHARE_DEFAULT,
    Collection,
    CollectionLimits,
    CollectionSpec,
    Metric,
    VectorStorage,
)
from services.store.snapshots import Snapshot

CHUNK_TOKENS_DEFAULT = 200
OVERLAP_TOKENS_DEFAULT = 32
LIMIT_NAMES = tuple(field.name for field in fields(CollectionLimits))
"""The same in the contract."""

METRICS: Mapping[int, Metric] = {
    collection_pb2.METRIC_UNSPECIFIED: "cosine",
    collection_pb2.METRIC_COSINE: "cosine",
    collection_pb2.METRIC_DOT: "dot",
    collection_pb2.METRIC_EUCLIDEAN: "euclidean",
}
_METRIC_NUMBERS = {
    "cosine": collection_pb2.METRIC_COSINE,
    "dot": collection_pb2.METRIC_DOT,
    "euclidean": collection_pb2.METRIC_EUCLIDEAN,
}

STORAGES: Mapping[int, VectorStorage] = {
    collection_pb2.VECTOR_STORAGE_UNSPECIFIED: "float32",
    collection_pb2.VECTOR_STORAGE_FLOAT32: "float32",
    collection_pb2.VECTOR_STORAGE_FLOAT16: "float16",
    collection_pb2.VECTOR_STORAGE_INT8: "int8",
}
_STORAGE_NUMBERS = {
    "float32": collection_pb2.VECTOR_STORAGE_FLOAT32,
    "float16": collection_pb2.VECTOR_STORAGE_FLOAT16,
    "int8": collection_pb2.VECTOR_STORAGE_INT8,
}

STRATEGIES: Mapping[int, Strategy] = {
    collection_pb2.CHUNKING_STRATEGY_UNSPECIFIED: "structure",
    collection_pb2.CHUNKING_STRATEGY_STRUCTURE: "structure",
    collection_pb2.CHUNKING_STRATEGY_SEMANTIC: "semantic",
    collection_pb2.CHUNKING_STRATEGY_HIERARCHICAL: "hierarchical",
}
_STRATEGY_NUMBERS = {
    "structure": collection_pb2.CHUNKING_STRATEGY_STRUCTURE,
    "semantic": collection_pb2.CHUNKING_STRATEGY_SEMANTIC,
    "hierarchical": collection_pb2.CHUNKING_STRATEGY_HIERARCHICAL,
}


def collection_message(row: Collection) -> collection_pb2.Collection:
    """A collection."""
    return collection_pb2.Collection(
        name=names.collection_name(row.id),
        display_name=row.display_name,
        embedding_model=row.embedding_model,
        fingerprint=row.fingerprint,
        dimensions=row.dimensions,
        metric=_METRIC_NUMBERS[row.metric],
        language=row.language,
        chunking=collection_pb2.Chunking(
            tokens_max=row.chunk_tokens_max,
            overlap_tokens=row.chunk_overlap_tokens,
            strategy=_STRATEGY_NUMBERS[row.chunk_strategy],
        ),
        hnsw=collection_pb2.HnswSettings(
            m=row.hnsw_m, ef_construction=row.hnsw_ef_construction, ef_search=row.hnsw_ef_search
        ),
        limits=collection_pb2.CollectionLimits(
            **{name: getattr(row, name) for name in LIMIT_NAMES if getattr(row, name)}
        ),
        recall=collection_pb2.RecallSettings(
            sample_share=row.recall_sample_share, target=row.recall_target
        ),
        rerank_model=row.rerank_model,
        token_store=row.token_store,
        vector_storage=_STORAGE_NUMBERS[row.vector_storage],
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
    )


def chunk_tokens(message: collection_pb2.Collection, model: PinnedModel) -> int:
    """The most tokens of a passage: the default is less for a model that reads less."""
    return message.chunking.tokens_max or min(CHUNK_TOKENS_DEFAULT, model.passage_tokens_max)


def overlap(message: collection_pb2.Collection, tokens_max: int) -> int:
    """The tokens that a passage repeats."""
    if message.chunking.HasField("overlap_tokens"):
        return message.chunking.overlap_tokens
    return min(OVERLAP_TOKENS_DEFAULT, tokens_max // 2)


def collection_spec(message: collection_pb2.Collection, model: PinnedModel) -> CollectionSpec:
    """A collection to make; what its model says of itself comes beside the message."""
    tokens_max = chunk_tokens(message, model)
    return CollectionSpec(
        display_name=message.display_name,
        embedding_model=model.name,
        fingerprint=model.fingerprint,
        dimensions=model.dimensions,
        metric=METRICS[message.metric],
        language=message.language or "en",
        chunk_tokens_max=tokens_max,
        chunk_overlap_tokens=overlap(message, tokens_max),
        chunk_strategy=STRATEGIES[message.chunking.strategy],
        hnsw_m=message.hnsw.m or 16,
        hnsw_ef_construction=message.hnsw.ef_construction or 100,
        hnsw_ef_search=message.hnsw.ef_search or 64,
        recall_sample_share=sample_share(message),
        recall_target=recall_target(message),
        rerank_model=message.rerank_model,
        token_store=message.token_store,
        vector_storage=STORAGES[message.vector_storage],
        **asdict(limits(message.limits)),
    )


def limits(message: collection_pb2.CollectionLimits) -> CollectionLimits:
    """What a collection may be asked for."""
    return CollectionLimits(**{name: getattr(message, name) for name in LIMIT_NAMES})


def sample_share(message: collection_pb2.Collection) -> float:
    """The share of searches that is done again."""
    recall = message.recall
    return recall.sample_share if recall.HasField("sample_share") else SAMPLE_SHARE_DEFAULT


def recall_target(message: collection_pb2.Collection) -> float:
    """The share of the best hits that has to be found."""
    recall = message.recall
    return recall.target if recall.HasField("target") else RECALL_TARGET_DEFAULT


def snapshot_message(row: Snapshot, collection_id: str) -> snapshot_pb2.Snapshot:
    """A snapshot of the collection with this id."""
    return snapshot_pb2.Snapshot(
        name=names.snapshot_name(collection_id, row.id),
        watermark=str(row.seq),
        points=row.points,
        size_kib=row.size_bytes >> 10,
        create_time=timestamp(row.create_time),
    )


def recall_message(seen: BandRecall) -> pb.BandRecall:
    """What was seen of a band."""
    return pb.BandRecall(
        selectivity_min=seen.band.share_min,
        recall=seen.seen.share,
        recall_low=seen.seen.low,
        recall_high=seen.seen.high,
        searches=seen.searches,
        ef_search=seen.ef,
    )


def point_message(
    point: Point, collection: str, *, vectors: bool = False, bare: bool = False
) -> point_pb2.Point:
    """A point of the collection with id `collection`. `bare` leaves text and payload out."""
    message = point_pb2.Point()
    _fill_point(message, point, collection, vectors=vectors, bare=bare)
    return message


def add_hits(
    response: pb.SearchCollectionResponse,
    hits: Iterable[Hit],
    collection: str,
    request: pb.SearchCollectionRequest,
) -> None:
    """Adds hits with what the request asked to come along. Messages are filled in place: making
    and copying them took a tenth of a search's time."""
    vectors, sentences = request.include_vectors, request.include_sentences
    bare = request.ids_only
    for hit in hits:
        message = response.hits.add()
        message.score = hit.score
        if hit.dense_score is not None:
            message.dense_score = hit.dense_score
        if hit.lexical_score is not None:
            message.lexical_score = hit.lexical_score
        if hit.sparse_score is not None:
            message.sparse_score = hit.sparse_score
        if hit.rerank_score is not None:
            message.rerank_score = hit.rerank_score
        _fill_point(
            message.point, hit.point, collection, vectors=vectors, sentences=sentences, bare=bare
        )


def _fill_point(
    message: point_pb2.Point,
    point: Point,
    collection: str,
    *,
    vectors: bool = False,
    sentences: bool = False,
    bare: bool = False,
) -> None:
    """`bare` leaves text and payload out."""
    message.id = point.id
    if point.document:
        message.document = names.document_name(collection, point.document)
        message.passage_index = point.passage_index
        if point.span is not None:
            message.span.start, message.span.end = point.span.start, point.span.end
    if bare:
        return
    if point.text:
        message.text = point.text
    if point.payload:
        message.payload.update(dict(point.payload))
    if vectors and point.vector is not None:
        message.vector.CopyFrom(vector_message(point.vector))
    if vectors and point.sparse_vector is not None:
        message.sparse_vector.CopyFrom(sparse_vector_message(point.sparse_vector))
    if sentences:
        message.sentences.extend(sentence_messages(point.sentences))
