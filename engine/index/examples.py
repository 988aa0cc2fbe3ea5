"""What is like these and unlike those: search by example vectors."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidVector
from engine.index import exact
from engine.index.exact import Metric
from engine.types import Matrix, Vector

EXAMPLES_MAX = 32
"""Positive examples, and as many negative ones."""


class Strategy(StrEnum):
    """How several examples become one search."""

    AVERAGE = "average"
    BEST_SCORE = "best_score"


def average(positive: Sequence[Vector], negative: Sequence[Vector]) -> Vector:
    """The vector to search for: mean(positive) + (mean(positive) - mean(negative)).

    At least one positive; all of one length, and normalized where the metric is cosine. Raises
    InvalidVector if the examples cancel each other.
    """
    found = np.mean(np.asarray(positive, np.float64), axis=0)
    if negative:
        found = 2.0 * found - np.mean(np.asarray(negative, np.float64), axis=0)
    vector: Vector = found.astype(np.float32)
    if float(np.linalg.norm(found)) < 1e-6:
        raise InvalidVector(
            f"the {len(positive)} positive and {len(negative)} negative examples cancel each "
            "other to the zero vector; leave one out, or search by best score",
            field="examples",
            metadata={"positive": len(positive), "negative": len(negative)},
        )
    return vector


def best_scores(
    metric: Metric, rows: Matrix, positive: Sequence[Vector], negative: Sequence[Vector]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The best score of each row against any positive example, and which rows are kept: those
    that no negative example scores higher. Shapes (rows,)."""
    best = np.max([exact.scores(metric, rows, one) for one in positive], axis=0)
    if not negative or not len(rows):
        return best, np.ones(len(rows), np.bool_)
    worst = np.max([exact.scores(metric, rows, one) for one in negative], axis=0)
    return best, np.asarray(best >= worst)
