"""Values of the retrieval service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ragmesh._types.embedding import SentenceVector, TextSpan
from ragmesh._vectors import SparseVector, SparseVectorLike, Vector, VectorLike, to_sparse

Metric = Literal["unspecified", "cosine", "dot", "euclidean"]
VectorStorage = Literal["unspecified", "float32", "float16", "int8"]
ChunkingStrategy = Literal["unspecified", "structure", "semantic", "hierarchical"]


@dataclass(frozen=True, slots=True)
class Chunking:
    """How documents are cut into passages.

    `tokens_max`: 16 to 2,048, 0 for the server's default. `overlap_tokens`: 0 to half of it,
    None for the default. `strategy`: "structure" (by headings, paragraphs and length; the default),
    "semantic" (where neighboring sentences differ most; repeats nothing, costs twice as much), or
    "hierarchical" (small passages of a quarter of the tokens, with the larger one that each is a
    part of; see `include_parents` of a search).
    """

    tokens_max: int = 0
    overlap_tokens: int | None = None
    strategy: ChunkingStrategy = "unspecified"


@dataclass(frozen=True, slots=True)
class HnswSettings:
    """Settings of the HNSW graph; 0 for the default of each."""

    m: int = 0
    ef_construction: int = 0
    ef_search: int = 0


@dataclass(frozen=True, slots=True)
class CollectionLimits:
    """What a collection may be asked for; more raises LimitReached. 0 of each for what the node
    says.

    `limit_max` and `ef_search_max` bound searches, `upsert_points_max` the points of one request,
    `payload_bytes_max` a point's payload, `filter_conditions_max` a filter, `points_max` and
    `bytes_max` what is stored. Rates are requests a second on each node; more raise RateLimited.
    """

    limit_max: int = 0
    ef_search_max: int = 0
    upsert_points_max: int = 0
    payload_bytes_max: int = 0
    filter_conditions_max: int = 0
    points_max: int = 0
    bytes_max: int = 0
    searches_per_second: float = 0.0
    writes_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class RecallSettings:
    """How searches by graph are watched: `sample_share` of them (0 to 1) is done again exactly in
    the background, and `target` (0 to 1) is the share of the best hits that has to be found; where
    it is not, searches look at more candidates."""

    sample_share: float = 0.01
    target: float = 0.95


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
    limits: CollectionLimits = CollectionLimits()
    recall: RecallSettings = RecallSettings()
    rerank_model: str = ""
    vector_storage: VectorStorage = "float32"
    token_store: bool = False


@dataclass(frozen=True, slots=True)
class BandRecall:
    """How much of the truth searches find whose filters let through `selectivity_min` of all points
    or more, up to the next band: `recall`, from `recall_low` to `recall_high` with 95 % confidence,
    as `searches` say that were done again. `ef_search` is what they look at; 0 for all vectors."""

    selectivity_min: float
    recall: float
    recall_low: float
    recall_high: float
    searches: int
    ef_search: int


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """Figures of one collection on the node that answered. `memory_kib` is an estimate; `recall`
    has the bands of which searches were done again, `refusal_reason` with what the node refuses
    points for want of room, `token_bytes` what token vectors take in memory or mapped files."""

    points: int
    passages: int
    tombstones: int
    segments: int
    buffered_points: int
    memory_kib: int
    watermark: str
    lag_commits: int
    recall: tuple[BandRecall, ...] = ()
    refusal_reason: str = ""
    token_bytes: int = 0


@dataclass(frozen=True, slots=True, init=False)
class Point:
    """One entry of a collection.

    To write one give `id` (1 to 256 characters), and `vector`, `text` (embedded by the server if
    there is no vector), `sparse_vector` or several of them, and a JSON-like `payload`. The other
    fields are the server's. Raises InvalidVector if `vector` is no flat row of numbers.
    """

    id: str
    vector: Vector | None
    text: str
    payload: Mapping[str, Any]
    document: str
    passage_index: int
    span: TextSpan | None
    sentences: tuple[SentenceVector, ...]
    sparse_vector: SparseVector | None

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
        sparse_vector: SparseVectorLike | None = None,
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
        put(self, "sparse_vector", to_sparse(sparse_vector))


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
