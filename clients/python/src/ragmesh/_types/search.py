"""Values of searches: what is asked beyond the best hits, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from ragmesh._filters import Filter
from ragmesh._types.embedding import SentenceVector, TextSpan
from ragmesh._types.retrieval import Point
from ragmesh._vectors import SparseVectorLike, VectorLike

SearchMode = Literal["dense", "lexical", "hybrid", "sparse"]
SearchLeg = Literal["unspecified", "dense", "lexical", "sparse"]
SearchStage = Literal[
    "unspecified",
    "embed",
    "watermark",
    "examples",
    "filter",
    "dense",
    "lexical",
    "sparse",
    "fusion",
    "decode",
    "formula",
    "rerank",
    "finish",
]
FusionMethod = Literal["rank", "score"]
DecayKind = Literal["exponential", "gaussian", "linear"]
ExampleStrategy = Literal["average", "best_score"]
RerankMethod = Literal["none", "sentences", "model", "tokens"]
RerankOutcome = Literal["unspecified", "done", "partial", "late", "unavailable", "nothing_stored"]


@dataclass(frozen=True, slots=True)
class RankFusion:
    """How the legs of a hybrid search become one list.

    By `rank` (the default) the sum over the legs of weight / (`k` + rank), `k` 0 for 10; by
    `score` the sum of weight times the score's place in its leg's distribution. `candidates` is
    how many points each leg brings, 0 for four times the limit, at least 100.
    """

    k: int = 0
    dense_weight: float | None = None
    lexical_weight: float | None = None
    method: FusionMethod | Literal[""] = ""
    candidates: int = 0
    sparse_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Examples:
    """What hits should be like (1 to 32) and unlike (at most 32): ids of points, or vectors.

    By `average` (the default) one search for mean(positive) + (mean(positive) - mean(negative));
    by `best_score` one for each positive example. The examples themselves are not found.
    """

    positive: tuple[str | VectorLike, ...]
    negative: tuple[str | VectorLike, ...] = ()
    strategy: ExampleStrategy | Literal[""] = ""


@dataclass(frozen=True, slots=True)
class Boost:
    """Multiplies the scores of points that satisfy `filter` by `factor` (1e-6 to 1e6), and adds
    `addend`."""

    filter: Filter
    factor: float = 1.0
    addend: float = 0.0


@dataclass(frozen=True, slots=True)
class NumberDecay:
    """Multiplies scores by what falls with a number's distance from `origin`: 1 there, `midpoint`
    (0.5 if None) at the distance `scale`, `missing` (`midpoint` if None) without a number."""

    field: str
    origin: float
    scale: float
    kind: DecayKind | Literal[""] = ""
    midpoint: float | None = None
    missing: float | None = None


@dataclass(frozen=True, slots=True)
class TimeDecay:
    """The same for RFC 3339 times: `origin` None is the time of the search, so that
    `TimeDecay("published", timedelta(days=30))` halves a score each month."""

    field: str
    scale: timedelta
    origin: datetime | None = None
    kind: DecayKind | Literal[""] = ""
    midpoint: float | None = None
    missing: float | None = None


@dataclass(frozen=True, slots=True)
class Rerank:
    """A second look at the best `candidates`: 0 for 50 by sentences, 20 by tokens or by a model; at
    most 200.

    By default `model` looks where one is named (an id, or `embeddingModels/{id}`), else the
    collection's `rerank_model`, else its stored tokens, if it has a token store and the search a
    text, else its stored sentences. `tokens` without a token store raises TokenStoreMissing.
    """

    method: RerankMethod | Literal[""] = ""
    candidates: int = 0
    model: str = ""


@dataclass(frozen=True, slots=True)
class Diversity:
    """Hits that are good and unlike each other (maximal marginal relevance).

    `relevance_weight` is 0 to 1, 1 for relevance alone, None for 0.5; `candidates` 0 for four
    times the limit, at least 50.
    """

    relevance_weight: float | None = None
    candidates: int = 0


@dataclass(frozen=True, slots=True)
class Grouping:
    """Hits by the value of a payload's `field`, or by their document if it is empty; the limit
    counts groups. `hits_per_group` is 0 for 1, at most 100."""

    field: str = ""
    hits_per_group: int = 0


@dataclass(frozen=True, slots=True)
class Search:
    """One search of a batch; its fields are those of `search_collection`."""

    text: str | None = None
    vector: VectorLike | None = None
    point_id: str | None = None
    examples: Examples | None = None
    mode: SearchMode | Literal[""] = ""
    filter: Filter | None = None
    limit: int = 0
    fusion: RankFusion | None = None
    score_threshold: float | None = None
    boosts: tuple[Boost, ...] = ()
    decays: tuple[NumberDecay | TimeDecay, ...] = ()
    rerank: Rerank | None = None
    diversity: Diversity | None = None
    group: Grouping | None = None
    ef_search: int = 0
    exact: bool = False
    include_vectors: bool = False
    include_sentences: bool = False
    ids_only: bool = False
    explain: bool = False
    fingerprint: str = ""
    sparse_vector: SparseVectorLike | None = None
    include_parents: bool = False


@dataclass(frozen=True, slots=True)
class ParentPassage:
    """The larger passage that a small one is a part of: exactly the characters of `span` in the
    document's stored text. `sentences` are spans of `text`, but those that it repeats of the parent
    before."""

    span: TextSpan
    text: str
    sentences: tuple[SentenceVector, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A point that was found; a higher `score` is better.

    `dense_score`, `lexical_score` and `sparse_score` are the legs' own, None where a leg did not
    find it; `rerank_score` is the reranking's, None where it did not look. `group` is its place in
    the result's groups. `parent` is what a passage of a hierarchical collection is a part of, if
    `include_parents` asked for it and it is there.
    """

    point: Point
    score: float
    dense_score: float | None
    lexical_score: float | None
    rerank_score: float | None = None
    group: int | None = None
    sparse_score: float | None = None
    parent: ParentPassage | None = None


@dataclass(frozen=True, slots=True)
class SearchGroup:
    """Hits that belong together, the best first.

    `key` is the field's value, or the document's id; `document` is set if all of them are passages
    of one, and `span` then reaches from the first to the last.
    """

    key: str | int | float | bool | None
    document: str
    span: TextSpan | None
    hits: tuple[SearchHit, ...]


@dataclass(frozen=True, slots=True)
class SearchTimings:
    """Milliseconds of one search."""

    embed_ms: float
    watermark_wait_ms: float
    search_ms: float
    rerank_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class SearchLegPlan:
    """What one leg of a search did: how many points it brought, and what it weighs in a fusion.

    `strategy` is `hnsw`, `exact` or `filtered_exact` of the dense leg, which compared the vectors
    of `visited_points` points in graphs of `walked_segments` (with `ef_search` candidates) and by
    looking at all of `scanned_segments`; `abandoned_walks` are those that were scanned instead. It
    is `postings` of the others, whose query has so many `postings` under its words or indices.
    """

    leg: SearchLeg
    strategy: str
    candidates: int
    weight: float
    took_ms: float
    visited_points: int = 0
    walked_segments: int = 0
    scanned_segments: int = 0
    abandoned_walks: int = 0
    ef_search: int = 0
    postings: int = 0


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How a search was done. `selectivity` is the share of points that the filter lets through,
    `band_selectivity_min` the least of its band in `CollectionStats.recall`. `stages_ms` says where
    the time went, in the order of what was done."""

    strategy: str
    matching_points: int
    dense_candidates: int
    lexical_candidates: int
    segments: int
    selectivity: float = 1.0
    visited_points: int = 0
    sparse_candidates: int = 0
    band_selectivity_min: float = 1.0
    legs: tuple[SearchLegPlan, ...] = ()
    stages_ms: Mapping[SearchStage, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found, the best first, group by group if there are `groups`.

    `plan` is there if `explain` asked for it. `rerank_outcome` is `done`, or says how far the
    reranking came; `unspecified` if none was asked for.
    """

    hits: tuple[SearchHit, ...]
    watermark: str
    timings: SearchTimings
    plan: SearchPlan | None
    groups: tuple[SearchGroup, ...] = ()
    rerank_outcome: RerankOutcome = "unspecified"
