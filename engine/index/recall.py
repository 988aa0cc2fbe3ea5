"""How much of the truth searches by graph find, how sure that is, and what follows from it.

A sampled search is done again twice over the same view: by the graph with the beam that it had,
which gives again what its caller got, and by scanning every row. Of the first `limit` hits of the
scan those count as found that the graph has, or for which it has another of the same score: the
order among equals is nobody's right answer.

The interval is Wilson's score interval (E. B. Wilson, "Probable inference, the law of succession,
and statistical inference", Journal of the American Statistical Association 22, 1927, pages 209 to
212), which stays within 0 and 1 and holds for shares close to 1, where the textbook's interval
does not. It wants independent trials; the hits of one search are not, as a search that goes astray
misses many. So it is given as many trials as independent ones would say as much: their number
divided by the design effect, the ratio of the variance between searches to the binomial one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from engine.index.beams import BEAM_MAX, EXACT, OWN, Band
from engine.index.search import LIMIT_MAX, Mode, Query, search
from engine.index.view import View

Z = 1.959964
"""Of the standard normal distribution: 95 % lie within this many deviations."""

SEARCHES_MAX = 1_024
"""Searches that a window remembers."""

TRIALS_MIN = 200
"""Fewer decide nothing."""

UNSURE_TRIALS_MAX = 1_000
"""So long a beam waits where more than wanted was found and only the bound is under the target:
with 0.995 found and 0.95 wanted, 200 trials widened it wherever one search had missed some."""

NARROWING_TRIALS_MIN = 4_000
"""A beam is only narrowed after so many trials, which takes far longer than to widen it: a band
that goes up and down does so rarely."""

NARROWING_MARGIN = 0.8
"""How far the bound has to be above the target, as a share of what is left to 1."""

STEP = 1.5
"""By how much a beam widens or narrows."""


class Trial(NamedTuple):
    """One search: how many hits there were to find, and how many of them it found."""

    wanted: int
    found: int


class Interval(NamedTuple):
    """A share, and where it lies with 95 % confidence; 0 to 1. `trials` were seen."""

    share: float
    low: float
    high: float
    trials: int


NOTHING_SEEN = Interval(0.0, 0.0, 1.0, 0)


class Sampled(NamedTuple):
    """What a search done again says: its band, and its trial. `walked` is False where the search
    scanned every row anyway."""

    band: Band
    trial: Trial
    walked: bool


def measure(view: View, query: Query) -> Sampled | None:
    """Does the dense leg of a search again, as it was and exactly. None where it has no vector, or
    nothing is to be found. Raises as `search` does."""
    if query.vector is None:
        return None
    depth = query.limit
    if query.mode is not Mode.DENSE and (query.text or query.sparse is not None):
        # As deep as the leg of a hybrid search goes, which is part of how well it finds.
        depth = min(LIMIT_MAX, max(depth, query.candidates or max(100, 4 * depth)))
    again = replace(query, mode=Mode.DENSE, text=None, limit=depth, score_threshold=None)
    seen = search(view, replace(again, with_vectors=False))
    band, walked = seen.explain.band, seen.explain.walked > 0
    scores = [hit.score for hit in seen.hits[: query.limit]]
    if walked:
        asked = replace(again, limit=query.limit, exact=True, with_vectors=False)
        truth = [hit.score for hit in search(view, asked).hits]
    else:
        truth = scores
    return Sampled(band, trial(scores, truth), walked) if truth else None


def trial(scores: Sequence[float], truth: Sequence[float]) -> Trial:
    """Compares the scores of what was found with those of the best there is, each the best
    first."""
    if not truth:
        return Trial(0, 0)
    found = sum(score >= truth[-1] for score in scores)
    return Trial(len(truth), min(found, len(truth)))


def wilson(share: float, trials: float, z: float = Z) -> tuple[float, float]:
    """The interval of a share that was seen in so many independent trials."""
    if trials <= 0:
        return 0.0, 1.0
    spread = z * z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    # At the ends the two are equal, but for rounding.
    low = 0.0 if share <= 0 else max(0.0, middle - half)
    return low, 1.0 if share >= 1 else min(1.0, middle + half)


def interval(trials: Sequence[Trial]) -> Interval:
    """The share found, over all trials of several searches."""
    wanted = sum(one.wanted for one in trials)
    if not wanted:
        return NOTHING_SEEN
    share = sum(one.found for one in trials) / wanted
    low, high = wilson(share, wanted / _design_effect(trials, wanted, share))
    return Interval(share, low, high, wanted)


def _design_effect(trials: Sequence[Trial], wanted: int, share: float) -> float:
    """At least 1: trials are never taken for more than they are."""
    binomial = share * (1 - share) / wanted
    if len(trials) < 2 or binomial <= 0:
        return 1.0
    off = sum((one.found - share * one.wanted) ** 2 for one in trials)
    between = off * len(trials) / (len(trials) - 1) / wanted**2
    return max(1.0, between / binomial)


class Window:
    """The latest searches of one band, all with one beam: another one empties it."""

    def __init__(self, searches_max: int = SEARCHES_MAX) -> None:
        self._trials: deque[Trial] = deque(maxlen=searches_max)
        self._ef = OWN
        self._interval: Interval | None = None

    @property
    def searches(self) -> int:
        """How many it has."""
        return len(self._trials)

    @property
    def interval(self) -> Interval:
        """What they say."""
        if self._interval is None:
            self._interval = interval(self._trials)
        return self._interval

    def at(self, ef: int) -> Window:
        """Itself, emptied if it held searches with another beam."""
        if ef != self._ef:
            self._trials.clear()
            self._ef, self._interval = ef, None
        return self

    def add(self, one: Trial) -> None:
        """One more; the oldest goes where it is full."""
        self._trials.append(one)
        self._interval = None


def trials_needed(target: float) -> int:
    """With fewer, not even a search that finds everything could be known to reach the target."""
    if target >= 1:
        return TRIALS_MIN
    return max(TRIALS_MIN, math.ceil(Z * Z * target / (1 - target)) + 1)


def next_beam(ef: int, own_ef: int, seen: Interval, target: float) -> int:
    """The beam that a band should have after what was seen with `ef`.

    `own_ef` is the collection's `ef_search`. Wider where the lower bound is under the target, and
    what was found is too, or the bound stays there for long; exact where BEAM_MAX was not enough;
    narrower, down to the collection's own, where it was far above for long. Otherwise `ef`. A band
    that is exact stays so: it cannot be seen any more how a graph would do. A target of 0 asks for
    nothing, one of 1 for exact searches.
    """
    if ef == EXACT or seen.trials < trials_needed(target):
        return ef
    present = own_ef if ef == OWN else max(ef, own_ef)
    if seen.low < target:
        if seen.share > target and seen.trials < UNSURE_TRIALS_MAX:
            return ef
        if present >= BEAM_MAX:
            return EXACT
        return min(BEAM_MAX, math.ceil(present * STEP))
    far_above = target + NARROWING_MARGIN * (1 - target)
    if ef != OWN and seen.trials >= NARROWING_TRIALS_MIN and seen.low >= far_above:
        narrower = math.floor(present / STEP)
        return narrower if narrower > own_ef else OWN
    return ef
