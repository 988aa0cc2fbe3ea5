"""Figures of ranked lists, as trec_eval and BEIR compute them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import log2

import numpy as np
from numpy.typing import NDArray

Qrels = Mapping[str, Mapping[str, int]]
"""For each query, the judged documents and their grades (0 is not relevant)."""
Run = Mapping[str, Sequence[str]]
"""For each query, the documents found, the best first."""

_SCORE_ROUNDING = 2e-6
"""How far sums of some hundred products in float32 lie apart when their order differs."""


def ndcg(found: Sequence[str], grades: Mapping[str, int], depth: int) -> float:
    """Normalized discounted cumulative gain at `depth`, 0 to 1; 0 where nothing is relevant.

    The sum over ranks 1 to `depth` of grade / log2(rank + 1), divided by that of the best order.
    Gains are linear, as in trec_eval's `ndcg_cut`, which BEIR reports; from Järvelin and
    Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002.
    """
    best = _gain(sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:depth])
    if not best:
        return 0.0
    return _gain([max(0, grades.get(document, 0)) for document in found[:depth]]) / best


def recall(found: Sequence[str], grades: Mapping[str, int], depth: int) -> float:
    """The share of the relevant documents among the first `depth`, 0 to 1."""
    relevant = {document for document, grade in grades.items() if grade > 0}
    return len(relevant.intersection(found[:depth])) / len(relevant) if relevant else 0.0


def mean_ndcg(run: Run, qrels: Qrels, depth: int) -> float:
    """The mean of `ndcg` over the judged queries; one that found nothing counts as 0."""
    return sum(ndcg(run.get(q, ()), grades, depth) for q, grades in qrels.items()) / len(qrels)


def mean_recall(run: Run, qrels: Qrels, depth: int) -> float:
    """The mean of `recall` over the judged queries; one that found nothing counts as 0."""
    return sum(recall(run.get(q, ()), grades, depth) for q, grades in qrels.items()) / len(qrels)


def overlap(found: Sequence[Collection[int]], exact: NDArray[np.int64]) -> float:
    """recall@k against an exact search: the mean share of each row of `exact` that was found."""
    shares = [
        len({*a}.intersection(b)) / len(b) for a, b in zip(found, exact.tolist(), strict=True)
    ]
    return sum(shares) / len(shares)


def recall_by_score(
    found: Sequence[Sequence[int]],
    exact: Sequence[NDArray[np.int64]],
    points: NDArray[np.float32],
    queries: NDArray[np.float32],
) -> float:
    """recall@k by inner product, where points may be equal: the mean share of what should have
    been found, counting each point found that scores no less than the last of `exact`.

    A row of `exact` may be shorter than others, or empty, where less matched.
    """
    shares = []
    for one, best, query in zip(found, exact, queries, strict=True):
        if not len(best):
            shares.append(0.0 if one else 1.0)
            continue
        least = float(points[best[-1]] @ query) - _SCORE_ROUNDING
        rows = list(dict.fromkeys(one))[: len(best)]
        good = int(np.count_nonzero(points[rows] @ query >= least)) if rows else 0
        shares.append(good / len(best))
    return sum(shares) / len(shares)


def area_under_curve(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """The area under the ROC curve: how often a positive one is above a negative one, ties half
    (Mann and Whitney's U over the number of pairs). NaN where one side is empty."""
    if not len(positive) or not len(negative):
        return float("nan")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left")
    not_above = np.searchsorted(ordered, positive, "right")
    return float((below + not_above).sum() / (2 * len(positive) * len(negative)))


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / log2(rank + 1) for rank, grade in enumerate(grades, start=1))
