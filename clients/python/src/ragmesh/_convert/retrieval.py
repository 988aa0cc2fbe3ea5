"""Messages of the retrieval service."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import cast

from ragmesh._convert import embedding as vectors
from ragmesh._types import retrieval as types
from ragmesh._values import from_enum, from_struct, from_time, to_enum, to_struct
from ragmesh.api.retrieval.v1 import collection_pb2, point_pb2, retrieval_service_pb2


def collection(message: collection_pb2.Collection) -> types.Collection:
    chunking, hnsw = message.chunking, message.hnsw
    overlap = chunking.overlap_tokens if chunking.HasField("overlap_tokens") else None
    return types.Collection(
        name=message.name,
        display_name=message.display_name,
        embedding_model=message.embedding_model,
        fingerprint=message.fingerprint,
        dimensions=message.dimensions,
        metric=cast(types.Metric, from_enum(collection_pb2.Metric.DESCRIPTOR, message.metric)),
        language=message.language,
        chunking=types.Chunking(
            chunking.tokens_max,
            overlap,
            cast(
                types.ChunkingStrategy,
                from_enum(collection_pb2.ChunkingStrategy.DESCRIPTOR, chunking.strategy),
            ),
        ),
        hnsw=types.HnswSettings(hnsw.m, hnsw.ef_construction, hnsw.ef_search),
        create_time=from_time(message.create_time),
        update_time=from_time(message.update_time),
        limits=_limits(message.limits),
        recall=types.RecallSettings(message.recall.sample_share, message.recall.target),
        rerank_model=message.rerank_model,
        vector_storage=cast(
            types.VectorStorage,
            from_enum(collection_pb2.VectorStorage.DESCRIPTOR, message.vector_storage),
        ),
        token_store=message.token_store,
    )


def _limits(message: collection_pb2.CollectionLimits) -> types.CollectionLimits:
    return types.CollectionLimits(
        **{field.name: getattr(message, field.name) for field in fields(types.CollectionLimits)}
    )


def to_chunking(value: types.Chunking | None) -> collection_pb2.Chunking | None:
    if value is None:
        return None
    return collection_pb2.Chunking(
        tokens_max=value.tokens_max,
        overlap_tokens=value.overlap_tokens,
        strategy=to_enum(
            collection_pb2.ChunkingStrategy.DESCRIPTOR, value.strategy, "chunking.strategy"
        ),
    )


def to_hnsw(value: types.HnswSettings | None) -> collection_pb2.HnswSettings | None:
    if value is None:
        return None
    return collection_pb2.HnswSettings(
        m=value.m, ef_construction=value.ef_construction, ef_search=value.ef_search
    )


def to_limits(value: types.CollectionLimits | None) -> collection_pb2.CollectionLimits | None:
    if value is None:
        return None
    return collection_pb2.CollectionLimits(**asdict(value))


def to_recall(value: types.RecallSettings | None) -> collection_pb2.RecallSettings | None:
    if value is None:
        return None
    return collection_pb2.RecallSettings(sample_share=value.sample_share, target=value.target)


def stats(message: retrieval_service_pb2.GetCollectionStatsResponse) -> types.CollectionStats:
    return types.CollectionStats(
        points=message.points,
        passages=message.passages,
        tombstones=message.tombstones,
        segments=message.segments,
        buffered_points=message.buffered_points,
        memory_kib=message.memory_kib,
        watermark=message.watermark,
        lag_commits=message.lag_commits,
        recall=tuple(
            types.BandRecall(
                selectivity_min=one.selectivity_min,
                recall=one.recall,
                recall_low=one.recall_low,
                recall_high=one.recall_high,
                searches=one.searches,
                ef_search=one.ef_search,
            )
            for one in message.recall
        ),
        refusal_reason=message.refusal_reason,
        token_bytes=message.token_bytes,
    )


def point(message: point_pb2.Point) -> types.Point:
    return types.Point(
        id=message.id,
        vector=vectors.vector(message.vector) if message.HasField("vector") else None,
        text=message.text,
        # Looking at a message that is not there makes one.
        payload=from_struct(message.payload) if message.HasField("payload") else {},
        document=message.document,
        passage_index=message.passage_index,
        span=vectors.span(message.span) if message.HasField("span") else None,
        sentences=vectors.sentences(message.sentences) if message.sentences else (),
        sparse_vector=(
            vectors.sparse_vector(message.sparse_vector)
            if message.HasField("sparse_vector")
            else None
        ),
    )


def to_point(value: types.Point) -> point_pb2.Point:
    """What a caller may write of a point; the server's own fields are left out."""
    return point_pb2.Point(
        id=value.id,
        vector=vectors.to_vector(value.vector),
        text=value.text,
        payload=to_struct(value.payload) if value.payload else None,
        sparse_vector=vectors.to_sparse_vector(value.sparse_vector),
    )
