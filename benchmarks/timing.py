"""Times of several ways to do one thing, taken in turns so that they share what else goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.samples import Median

Side = Callable[[int], object]
"""Does the thing for query `i`."""


@dataclass(frozen=True, slots=True)
class Series:
    """Milliseconds of one side, a row for each round."""

    rounds_ms: NDArray[np.float64]

    def p50_ms(self) -> Median:
        """The median over the rounds of each round's median."""
        return self.percentile_ms(50)

    def p99_ms(self) -> Median:
        """The median over the rounds of each round's 99th percentile."""
        return self.percentile_ms(99)

    def percentile_ms(self, percent: float) -> Median:
        """The median over the rounds of each round's percentile, 0 to 100."""
        return Median(np.percentile(self.rounds_ms, percent, axis=1).tolist())

    def p50_over_ms(self, other: Series) -> Median:
        """How much more the median is than the other side's: the median of the differences, so
        that a slow round counts against both sides or neither."""
        own, theirs = (np.percentile(side.rounds_ms, 50, axis=1) for side in (self, other))
        return Median((own - theirs).tolist())


def in_turns(
    sides: Mapping[str, Side], *, rounds: int, calls: int, warm_up: int
) -> dict[str, Series]:
    """Calls every side `calls` times in each round, one call at a time.

    A round has the same query numbers for every side (`round * calls` and on); who goes first
    changes from round to round. `warm_up` calls of each side come before and are not counted.
    """
    names = list(sides)
    rows: dict[str, list[list[float]]] = {name: [] for name in names}
    for name in names:
        for i in range(warm_up):
            sides[name](i)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            side, row = sides[name], []
            for i in range(number * calls, (number + 1) * calls):
                begin_s = time.perf_counter()
                side(i)
                row.append((time.perf_counter() - begin_s) * 1000)
            rows[name].append(row)
    return {name: Series(np.array(rows[name])) for name in names}
