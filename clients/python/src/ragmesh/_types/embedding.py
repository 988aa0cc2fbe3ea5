"""Results of the embedding service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ragmesh._vectors import Vector

InputKind = Literal["query", "passage"]


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
    """One text's vector (L2-normalized). `tokens` counts those read, special tokens included."""

    vector: Vector
    tokens: int
    truncated: bool
    sentences: tuple[SentenceVector, ...]


@dataclass(frozen=True, slots=True)
class EmbedTimings:
    """Milliseconds: sums over the requests of one call; the longest of them for the queue."""

    tokenize_ms: float
    queue_wait_ms: float
    inference_ms: float


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
class EmbeddingModel:
    """A model that turns texts into vectors.

    `tokens_max` counts special tokens; `precision` is `fp32`, `fp16` or `int8`.
    """

    name: str
    display_name: str
    dimensions: int
    tokens_max: int
    fingerprint: str
    provider: str
    precision: str
