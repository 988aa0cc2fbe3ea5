"""Frozen values that cross layers. Arrays in them are read-only by convention and never mutated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float32]
"""Shape (dimensions,), finite."""

Matrix: TypeAlias = NDArray[np.float32]
"""Shape (rows, dimensions), finite."""

TokenVectors: TypeAlias = NDArray[np.int8]
"""Shape (tokens, dimensions): the L2-normalized outputs of a text's own tokens, times 127 and
rounded, special tokens and prompt left out."""

Scalar: TypeAlias = str | int | float | bool
JsonValue: TypeAlias = (
    "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
)
Payload: TypeAlias = Mapping[str, JsonValue]
"""What a caller keeps with a point: a JSON object."""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end) of a text, counted in Unicode code points."""

    start: int
    end: int

    def shifted(self, by: int) -> Span:
        """The same characters where `by` others come before them."""
        return Span(self.start + by, self.end + by)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Where a vector comes from; vectors of different fingerprints are not comparable (D11).

    `prompts` is the hash of the model's query and passage prompts: both kinds live in one space.
    """

    weights_hash: str
    precision: str
    pooling: str
    prompts: str
    dimensions: int

    @property
    def text(self) -> str:
        """The form kept in rows and sent on the wire."""
        return "/".join(
            (self.weights_hash, self.precision, self.pooling, self.prompts, str(self.dimensions))
        )


@dataclass(frozen=True, slots=True)
class Sentences:
    """The sentences of one text, each with a small vector from the text's own forward pass (D12).

    `spans` is int32 of shape (n, 2), characters [start, end) into the text. `vectors` is int8 of
    shape (n, dimensions): the L2-normalised mean of the sentence's token outputs, times 127 and
    rounded, so that `vectors / 127` has norm about 1.
    """

    spans: NDArray[np.int32]
    vectors: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.spans)


@dataclass(frozen=True, slots=True, eq=False)
class SparseVector:
    """Few numbers of a very long vector; all others are 0.

    `indices` is uint32, ascending, each once; `values` float32, finite and not 0, as many.
    """

    indices: NDArray[np.uint32]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def nbytes(self) -> int:
        """What it takes, in bytes."""
        return self.indices.nbytes + self.values.nbytes


@dataclass(frozen=True, slots=True)
class Point:
    """One entry of a collection, as the index takes it.

    `vector` may be None for a point that is only searched by words or by its `sparse_vector`.
    `text` is what the lexical side reads and what a hit returns. `document` and `passage_index` are
    set for passages; `token_vectors`, those of `text`, in collections that keep them.
    """

    id: str
    vector: Vector | None
    text: str = ""
    payload: Payload = field(default_factory=dict)
    sentences: Sentences | None = None
    document: str = ""
    passage_index: int = 0
    span: Span | None = None
    token_vectors: TokenVectors | None = None
    sparse_vector: SparseVector | None = None


class Hit(NamedTuple):
    """A found point. `score` is higher for better, in the unit of the leg or the fusion.

    `dense_score`, `lexical_score` and `sparse_score` are the legs' own scores, None where the leg
    did not find it. `rerank_score` is what a reranking said, None where none looked.
    """

    point: Point
    score: float
    dense_score: float | None = None
    lexical_score: float | None = None
    rerank_score: float | None = None
    sparse_score: float | None = None
