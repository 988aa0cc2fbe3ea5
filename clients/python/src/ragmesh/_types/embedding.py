"""Results of the embedding service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ragmesh._vectors import Vector

InputKind = Literal["query", "passage"]
ModelTask = Literal["unspecified", "embed", "rerank"]
ServedLane = Literal["unspecified", "interactive", "bulk"]


@dataclass(frozen=True, slots=True)
class TextSpan:
    """Characters [start, end) of a text, counted in Unicode code points."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SentenceVector:
    """A sentence with a small vector from its text's own forward pass.

    `int8_vector` holds one signed byte a dimension: the normalized mean times 127, rounded.
    """

    span: TextSpan
    int8_vector: bytes


@dataclass(frozen=True, slots=True)
class Embedding:
    """One text's vector (L2-normalized). `tokens` counts those read, special tokens included.

    `token_vectors` has a small vector of each of the text's own tokens, where they were asked for:
    one signed byte a dimension, normalized, times 127 and rounded.
    """

    vector: Vector
    tokens: int
    truncated: bool
    sentences: tuple[SentenceVector, ...]
    token_vectors: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbedTimings:
    """Where the time of one call went, and how its texts were batched, over all its requests.

    `tokenize_ms` and `inference_ms` are sums, `queue_wait_ms` is the longest wait. `batch_texts`
    counts the largest batch, texts of other callers among them. `padding_share` is how much of the
    model's work was padding, 0 to 1. `lane` is the one it waited in. `cached_texts` were answered
    from the cache.
    """

    tokenize_ms: float
    queue_wait_ms: float
    inference_ms: float
    batch_texts: int
    padding_share: float
    lane: ServedLane
    cached_texts: int


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors in the order of the texts. `fingerprint` identifies their space."""

    embeddings: tuple[Embedding, ...]
    fingerprint: str
    timings: EmbedTimings

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """The vectors alone."""
        return tuple(e.vector for e in self.embeddings)


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """A passage in its new place; `index` is its old one, from 0.

    `score` is how likely it is relevant, 0 to 1; `raw_score` is what the model itself said. Both
    are None if the deadline came before it was scored. `windows` is how many pieces it was read
    in, the best of which counts, and `tokens` what they hold together.
    """

    index: int
    score: float | None
    raw_score: float | None
    windows: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Reranking:
    """Every passage that was given, the best first; those that were not scored come last.

    `partial` says that the deadline came before the last one was scored: only the first
    `passages_scored` of the caller's order were. `fingerprint` identifies model and precision.
    `query_truncated` says that the end of the query was not read.
    """

    passages: tuple[RankedPassage, ...]
    partial: bool
    passages_scored: int
    fingerprint: str
    timings: EmbedTimings
    query_truncated: bool


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model that turns texts into vectors, or a query and a passage into a score.

    `dimensions` is 0 for a cross-encoder, whose `task` is `rerank`. `tokens_max` counts special
    tokens; `precision` is `fp32`, `fp16` or `int8`. One that is not `loaded` is by the first
    request for it; `memory_kib` is then an estimate. `dimensions_offered` are the lengths that can
    be asked for; empty means any from 1.
    """

    name: str
    display_name: str
    dimensions: int
    tokens_max: int
    fingerprint: str
    provider: str
    precision: str
    task: ModelTask
    loaded: bool
    memory_kib: int
    dimensions_offered: tuple[int, ...]
