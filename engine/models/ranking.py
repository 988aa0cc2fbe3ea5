"""From what a model says of each passage to an order and to scores that mean something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Calibration:
    """How raw scores become probabilities: 1 / (1 + exp(-(slope · raw + intercept))), after
    Platt 1999. `prior_weight` is the share, 0 to 1, that the first stage's scores have in the
    order, both taken in standard deviations over the passages of a request."""

    slope: float
    intercept: float
    prior_weight: float


LATE_INTERACTION = Calibration(slope=12.1, intercept=-10.76, prior_weight=0.5)
"""Fitted for all-MiniLM-L6-v2 on the fused top 20 of SciFact's training claims
(`python -m benchmarks.calibrate`)."""

CROSS_ENCODER = Calibration(slope=1.0, intercept=0.0, prior_weight=0.0)
"""Cross-encoders are trained with the logistic loss, so their logits need no fitting."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Places in the request, the best first, and the probability of each in that order."""

    order: tuple[int, ...]
    scores: tuple[float, ...]


def rank(raw: Sequence[float], prior: Sequence[float], calibration: Calibration) -> Ranked:
    """Orders passages by raw scores and, where there are as many `prior` scores, by both.

    Equal passages keep the caller's order. `prior` may be empty.
    """
    blended = blend(np.asarray(raw, np.float64), np.asarray(prior, np.float64), calibration)
    order = np.argsort(-blended, kind="stable")
    logits = calibration.slope * blended[order] + calibration.intercept
    scores = (1 + np.tanh(logits / 2)) / 2  # the logistic function, without overflow
    return Ranked(tuple(int(i) for i in order), tuple(float(s) for s in scores))


def blend(
    raw: NDArray[np.float64], prior: NDArray[np.float64], calibration: Calibration
) -> NDArray[np.float64]:
    """Raw scores moved by what the first stage thought, in the raw scores' own unit: each
    standard deviation of `prior` counts as weight / (1 - weight) of those of `raw`."""
    weight = calibration.prior_weight
    # Spans, because rounding keeps the deviation of equal numbers from being 0, and makes that of
    # the tiniest ones 0.
    if not len(prior) or not weight or not np.ptp(prior) or not np.ptp(raw):
        return raw
    unit = (prior - prior.min()) / np.ptp(prior)
    moved = (unit - unit.mean()) / unit.std() * raw.std()
    return np.asarray(raw + weight / (1 - weight) * moved)
