"""Values that were measured several times: their median, and how far they lie apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


class Median(float):
    """The median of samples, which stay with it. Any arithmetic gives a plain float: what is
    computed of two medians was not measured several times itself.

    NaN of no samples.
    """

    samples: tuple[float, ...]

    def __new__(cls, samples: Sequence[float]) -> Median:
        """Of at least one number to be one; NaN among them makes it NaN."""
        kept = tuple(float(one) for one in samples)
        made = super().__new__(cls, float(np.median(kept)) if kept else math.nan)
        made.samples = kept
        return made

    def __reduce__(self) -> tuple[type[Median], tuple[tuple[float, ...]]]:
        return Median, (self.samples,)


def samples_of(value: float) -> tuple[float, ...]:
    """What a value is the median of; nothing where it was measured once."""
    return value.samples if isinstance(value, Median) else ()


def quartiles(samples: Sequence[float]) -> tuple[float, float] | None:
    """The 25th and the 75th percentile, between which half of the samples lie; None of fewer
    than two, and where one is not a number."""
    if len(samples) < 2 or not all(math.isfinite(one) for one in samples):
        return None
    low, high = np.percentile(samples, (25, 75))
    return float(low), float(high)


def median_ratio(own: float, theirs: float) -> float:
    """Own to theirs: the median of the rounds' ratios where both were measured in the same number
    of rounds, so that a slow round counts against both sides or neither; NaN over nothing."""
    rounds, others = samples_of(own), samples_of(theirs)
    if len(rounds) == len(others) > 1 and all(others):
        return Median([one / other for one, other in zip(rounds, others, strict=True)])
    return own / theirs if theirs else math.nan
