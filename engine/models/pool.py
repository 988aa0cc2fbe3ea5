"""Token outputs to vectors: one for each text, and small ones for its sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.models.model_dir import Pooling
from engine.models.sentences import split
from engine.models.tokenize import Tokenized
from engine.types import Matrix, Sentences

INT8_SCALE = 127
"""A sentence vector's unit: its numbers lie in [-1, 1], int8 in [-127, 127]."""

NORM_MIN = 1e-12
"""Below it a vector is divided by it and not by its norm, as torch's `normalize` does."""


def pool(tokens: NDArray[np.float32], counts: Sequence[int], pooling: Pooling) -> Matrix:
    """Token outputs (texts, tokens, hidden) to L2-normalized, contiguous vectors (texts, hidden).

    `counts` says how many leading tokens of each row are not padding. "mean" averages those,
    special tokens included; "cls" takes the first, "last" the last. As sentence-transformers does.
    """
    if pooling == "cls":
        return normalize(tokens[:, 0])
    if pooling == "last":
        return normalize(tokens[np.arange(len(tokens)), np.asarray(counts) - 1])
    vectors = np.empty((len(tokens), tokens.shape[2]), dtype=np.float32)
    for row, count in enumerate(counts):
        # Row by row, only what is not padding is read: padding cannot leak into a sum.
        np.mean(tokens[row, :count], axis=0, dtype=np.float32, out=vectors[row])
    return normalize(vectors)


def normalize(vectors: NDArray[np.float32]) -> Matrix:
    """Each row (…, dimensions) divided by its Euclidean norm, as a new contiguous array."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(norms, NORM_MIN), dtype=np.float32)


def pool_sentences(tokens: NDArray[np.float32], tokenized: Tokenized) -> Sentences:
    """The sentences of one text from its token outputs (tokens, hidden).

    `tokens` may have padding at its end. A sentence's vector is the normalized mean over the tokens
    whose last character it holds, special tokens and prompt left out. A sentence without any, such
    as one beyond the cut of a truncated text, is left out; one that the cut divides is kept whole
    with the vector of what was read.
    """
    spans = np.array([(s.start, s.end) for s in split(tokenized.text)], np.int32).reshape(-1, 2)
    hidden = tokens.shape[1]
    places = np.flatnonzero(~tokenized.special)
    if not len(spans) or not len(places):
        return Sentences(np.empty((0, 2), np.int32), np.empty((0, hidden), np.int8))
    # The last character decides: pieces of SentencePiece begin with the space before their word.
    ends = tokenized.offsets[places, 1] - 1
    owner = np.searchsorted(spans[:, 0], ends, side="right") - 1
    inside = (owner >= 0) & (ends < spans[owner, 1])
    places, owner = places[inside], owner[inside]
    kept, first = np.unique(owner, return_index=True)
    if not len(kept):
        return Sentences(np.empty((0, 2), np.int32), np.empty((0, hidden), np.int8))
    # Offsets never go back, so the tokens of a sentence stand together. The mean's divisor
    # falls away in the norm.
    sums = np.add.reduceat(tokens[places], first, axis=0)
    vectors = np.rint(normalize(sums) * INT8_SCALE).astype(np.int8)
    return Sentences(spans[kept], vectors)
