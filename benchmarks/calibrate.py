"""`python -m benchmarks.calibrate`: the constants of engine/models/ranking.py, from SciFact's
training claims.

The weight of the first stage is the one with the best nDCG@10, slope and intercept those of the
largest likelihood (Platt 1999). Nothing here looks at a test claim.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from ragmesh import Reranking

from benchmarks import fused
from benchmarks.bench import Bench, Options
from benchmarks.data import RetrievalSet
from benchmarks.fused import Candidates
from benchmarks.metrics import mean_ndcg
from engine.models.ranking import Calibration, blend

TOP = 20
WEIGHTS = tuple(float(w) for w in np.round(np.arange(0.0, 1.0, 0.05), 2))
_STEPS = 50

Array = NDArray[np.float64]


def main() -> None:
    """Prints one line for each weight, then the constants."""
    with Bench(Options(), _say) as bench:
        data = bench.scifact.data
        found = fused.candidates(bench.client, data, data.qrels["train"], TOP)
        raw = _raw_scores(bench, data, found)
    best, best_ndcg = 0.0, 0.0
    for weight in WEIGHTS:
        value = mean_ndcg(_orders(found, raw, weight), data.qrels["train"], 10)
        print(f"prior_weight {weight:.2f}  nDCG@10 {value:.4f}")
        if value > best_ndcg:
            best, best_ndcg = weight, value
    logits, labels = _pairs(data, found, raw, best)
    slope, intercept = platt(logits, labels)
    print(f"Calibration(slope={slope:.2f}, intercept={intercept:.2f}, prior_weight={best:.2f})")


def platt(scores: Array, labels: Array) -> tuple[float, float]:
    """Slope and intercept of the logistic curve that makes `labels` (0 or 1) most likely, by
    Newton's method."""
    design = np.stack([scores, np.ones_like(scores)], axis=1)
    found = np.zeros(2)
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-design @ found))
        gradient = design.T @ (labels - chance)
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design
        found = found + np.linalg.solve(curvature, gradient)
    return float(found[0]), float(found[1])


def _raw_scores(bench: Bench, data: RetrievalSet, found: dict[str, Candidates]) -> dict[str, Array]:
    texts = {one.id: fused.passage(one) for one in data.documents}
    raw = {}
    for number, (query, one) in enumerate(found.items()):
        if number % 100 == 0:
            _say(f"reranking claim {number} of {len(found)}")
        answer = fused.rerank(bench.client, data.queries[query], one, texts, prior=False)
        raw[query] = _in_order(answer)
    return raw


def _in_order(answer: Reranking) -> Array:
    by_place = {one.index: one.raw_score or 0.0 for one in answer.passages}
    return np.array([by_place[place] for place in range(len(by_place))])


def _orders(
    found: dict[str, Candidates], raw: dict[str, Array], weight: float
) -> dict[str, list[str]]:
    calibration = Calibration(1.0, 0.0, weight)
    orders = {}
    for query, one in found.items():
        blended = blend(raw[query], np.array(one.scores), calibration)
        orders[query] = [one.documents[i] for i in np.argsort(-blended, kind="stable")]
    return orders


def _pairs(
    data: RetrievalSet, found: dict[str, Candidates], raw: dict[str, Array], weight: float
) -> tuple[Array, Array]:
    scores, labels = [], []
    for query, one in found.items():
        grades = data.qrels["train"][query]
        scores += list(blend(raw[query], np.array(one.scores), Calibration(1.0, 0.0, weight)))
        labels += [float(grades.get(document, 0) > 0) for document in one.documents]
    return np.array(scores), np.array(labels)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
