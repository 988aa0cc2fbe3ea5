"""Values of the retrieval service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ragmesh._types.embedding import SentenceVector, TextSpan
from ragmesh._vectors import Vector, VectorLike

Metric = Literal["unspecified", "cosine", "dot", "euclidean"]


@dataclass(frozen=True, slots=True)
class Chunking:
    """How documents are cut into passages.

    `tokens_max`: 16 to 2,048, 0 for the server's default. `overlap_tokens`: 0 to half of it,
    None for the default.
    """

    tokens_max: int = 0
    overlap_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class HnswSettings:
    """Settings of the HNSW graph; 0 for the default of each."""

    m: int = 0
    ef_construction: int = 0
    ef_search: int = 0


@dataclass(frozen=True, slots=True)
class Collection:
    """A set of points that are searched together."""

    name: str
    display_name: str
    embedding_model: str
    fingerprint: str
    dimensions: int
    metric: Metric
    language: str
    chunking: Chunking
    hnsw: HnswSettings
    create_time: datetime | None
    update_time: datetime | None


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """Figures of one collection on the node that answered. `memory_kib` is an estimate."""

    points: int
    passages: int
    tombstones: int
    segments: int
    buffered_points: int
    memory_kib: int
    watermark: str
    lag_commits: int


@dataclass(frozen=True, slots=True, init=False)
class Point:
    """One entry of a collection.

    To write one give `id` (1 to 256 characters), and `vector`, `text` (embedded by the server if
    there is no vector) or both, and a JSON-like `payload`. The other fields are the server's.
    Raises InvalidVector if `vector` is no flat row of numbers.
    """

    id: str
    vector: Vector | None
    text: str
    payload: Mapping[str, Any]
    document: str
    passage_index: int
    span: TextSpan | None
    sentences: tuple[SentenceVector, ...]

    def __init__(
        self,
        id: str,
        vector: VectorLike | None = None,
        text: str = "",
        payload: Mapping[str, Any] | None = None,
        *,
        document: str = "",
        passage_index: int = 0,
        span: TextSpan | None = None,
        sentences: tuple[SentenceVector, ...] = (),
    ) -> None:
        # Written out because it takes any vector and keeps one kind.
        put = object.__setattr__
        put(self, "id", id)
        kept = vector if vector is None or isinstance(vector, Vector) else Vector(vector)
        put(self, "vector", kept)
        put(self, "text", text)
        put(self, "payload", {} if payload is None else payload)
        put(self, "document", document)
        put(self, "passage_index", passage_index)
        put(self, "span", span)
        put(self, "sentences", sentences)


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """Durable writes: the last request's commit, the points written, the requests it took.

    With `wait`, `lagging_nodes` names other live nodes that had not applied them when the call's
    time was nearly over.
    """

    watermark: str
    upserted: int
    requests: int
    lagging_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """Durable deletes: the last request's commit, the points deleted, the requests it took.

    `filter_watermark` is the commit at which a filter was resolved to points; empty without one.
    `lagging_nodes` as in UpsertResult.
    """

    watermark: str
    deleted: int
    requests: int
    filter_watermark: str = ""
    lagging_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PointCount:
    """An exact count, and how far the index had come."""

    count: int
    watermark: str
