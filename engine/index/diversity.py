"""Maximal marginal relevance: hits that are good and not the same thing said again.

Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and
Producing Summaries", SIGIR 1998: the next hit is the candidate with the largest

    weight * relevance - (1 - weight) * (its largest similarity with the hits taken so far)

Relevance is the candidates' scores stretched to 0 .. 1, so that a weight means the same for
cosines, BM25 and fused scores; similarity is the cosine of the stored vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.types import Vector


def diversify(
    relevance: Sequence[float], vectors: Sequence[Vector | None], k: int, weight: float
) -> list[int]:
    """Places of up to `k` candidates in the order they are taken.

    `weight` is 0 to 1: 1 keeps the order of relevance, 0 looks at relevance only for the first.
    Candidates come the best first; of equals the earlier is taken. One without a vector is similar
    to nothing. Vectors have one length.
    """
    count = len(relevance)
    taken: list[int] = []
    unit = _stretched(np.asarray(relevance, np.float64))
    rows = _normalized(vectors)
    nearest = np.full(count, -np.inf)
    left = np.ones(count, np.bool_)
    while len(taken) < min(k, count):
        value = weight * unit - (1.0 - weight) * nearest if taken else unit
        place = int(np.argmax(np.where(left, value, -np.inf)))  # the first of equals
        taken.append(place)
        left[place] = False
        np.maximum(nearest, rows @ rows[place], out=nearest)
    return taken


def _stretched(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(values) or not np.ptp(values):
        return np.zeros(len(values))
    return np.asarray((values - values.min()) / np.ptp(values))


def _normalized(vectors: Sequence[Vector | None]) -> NDArray[np.float64]:
    dimensions = next((len(one) for one in vectors if one is not None), 1)
    rows = np.zeros((len(vectors), dimensions))
    for place, vector in enumerate(vectors):
        if vector is not None:
            rows[place] = vector
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1.0))
