"""What users may rely on of the recall that is measured, and of the beams that follow from it."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.index import GraphSettings, IndexSettings, Mode, Query, search
from engine.index import recall as seen
from engine.index.beams import BEAM_MAX, EXACT, OWN, Band, Beams, band_of
from engine.index.filters import Range
from engine.types import Point
from tests.engine.index.sealing import loaded

pytestmark = pytest.mark.usefixtures("walks")

RNG = np.random.default_rng(5)
ROWS = RNG.standard_normal((3_000, 16)).astype(np.float32)
GRAPH = GraphSettings(m=2, ef_construction=4, ef_search=1, exact_values=0)
VIEW = loaded(
    IndexSettings(16, graph=GRAPH),
    (Point(f"{n:04d}", row, payload={"n": n}, text="word") for n, row in enumerate(ROWS)),
).view
"""A graph as bad as it gets, so that there is something to see."""

QUERIES = RNG.standard_normal((60, 16)).astype(np.float32)


@given(st.integers(0, 300), st.integers(1, 300))
def test_a_band_has_the_shares_that_it_names(matches: int, points: int) -> None:
    band = band_of(matches, points)
    share = Fraction(min(matches, points), points)
    assert share >= Fraction(str(band.share_min))
    if band is not Band.ALL:
        assert share < Fraction(str(Band(band - 1).share_min))


def test_without_a_filter_everything_counts() -> None:
    assert band_of(None, 10) is band_of(10, 10) is band_of(None, 0) is Band.ALL


@pytest.mark.parametrize("efs", [(), (0,) * 4, (0, 0, 0, 0, -2), (0, 0, 0, 0, BEAM_MAX + 1)])
def test_beams_that_are_none_are_refused(efs: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no beams"):
        Beams.of(efs)


@given(st.integers(1, 400), st.data())
def test_the_interval_holds_the_shares_that_explain_what_was_seen(
    trials: int, data: st.DataObject
) -> None:
    found = data.draw(st.integers(0, trials))
    low, high = seen.wilson(found / trials, trials)
    assert 0 <= low <= found / trials + 1e-9 and found / trials - 1e-9 <= high <= 1
    # Its ends are the shares from which what was seen is Z standard errors away.
    for end in (low, high):
        error = math.sqrt(end * (1 - end) / trials)
        assert abs(found / trials - end) == pytest.approx(seen.Z * error, abs=1e-6)


def test_the_interval_covers_the_true_share_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    for share in (0.8, 0.95, 0.99):
        spans = [seen.wilson(found / 500, 500) for found in rng.binomial(500, share, 4_000)]
        covered = np.mean([low <= share <= high for low, high in spans])
        assert 0.93 <= covered <= 0.97


def test_searches_that_go_astray_whole_are_no_independent_trials() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(600):
        astray = rng.random(200) < 0.1
        covered += (
            seen.interval([seen.Trial(10, 0 if one else 10) for one in astray]).low <= 0.9
            and seen.interval([seen.Trial(10, 0 if one else 10) for one in astray]).high >= 0.9
        )
    assert covered >= 0.92 * 600
    clustered = seen.interval([seen.Trial(10, 0), *[seen.Trial(10, 10)] * 9])
    even = seen.interval([seen.Trial(10, 9)] * 10)
    assert clustered.share == even.share and clustered.low < even.low


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 12))
def test_ties_count_as_found(values: list[int], k: int) -> None:
    best = sorted(map(float, values), reverse=True)
    truth = best[:k]
    others = [score for score in reversed(best) if score >= truth[-1]][:k]
    assert seen.trial(others, truth) == (len(truth), len(truth))
    worse = [*truth[:-1], truth[-1] - 1]
    assert seen.trial(worse, truth) == (len(truth), len(truth) - 1)


def _measured(query: Query) -> seen.Sampled:
    found = seen.measure(VIEW, query)
    assert found is not None
    return found


def test_what_is_measured_is_what_an_oracle_counts() -> None:
    wanted = found = 0
    for vector in QUERIES:
        one = _measured(Query(vector, limit=7))
        assert one.walked and one.band is Band.ALL
        got = {hit.point.id for hit in search(VIEW, Query(vector, limit=7)).hits}
        best = np.argsort(-(ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)) @ vector)[:7]
        assert one.trial == (7, len(got & {f"{row:04d}" for row in best}))
        wanted, found = wanted + one.trial.wanted, found + one.trial.found
    assert found < wanted, "nothing was there to see"


def test_searches_that_scan_find_everything() -> None:
    few = _measured(Query(QUERIES[0], filter=Range("n", lt=5.0), limit=10))
    assert few == seen.Sampled(Band.RARE, seen.Trial(5, 5), walked=False)
    exact = Query(QUERIES[0], beams=Beams((EXACT,) * 5))
    assert _measured(exact) == seen.Sampled(Band.ALL, seen.Trial(10, 10), walked=False)
    assert seen.measure(VIEW, Query(text="word")) is None
    assert seen.measure(VIEW, Query(QUERIES[0], filter=Range("n", lt=0.0))) is None


def test_the_leg_of_a_hybrid_search_is_measured_as_deep_as_it_goes() -> None:
    narrow = [_measured(Query(vector)).trial.found for vector in QUERIES]
    deep = [_measured(Query(vector, "word", mode=Mode.HYBRID)).trial.found for vector in QUERIES]
    assert all(len(str(found)) <= 2 for found in deep)
    assert sum(deep) > sum(narrow)


def test_a_band_has_its_beam_and_an_asked_one_comes_first() -> None:
    half = Range("n", lt=2_000.0)
    beams = Beams((100, 20, OWN, OWN, OWN))
    for filter, band, ef in ((None, Band.ALL, 100), (half, Band.HALF, 20)):
        plan = search(VIEW, Query(QUERIES[0], filter=filter, beams=beams)).explain
        assert (plan.band, plan.ef) == (band, ef)
        asked = Query(QUERIES[0], filter=filter, beams=beams, ef=50)
        assert search(VIEW, asked).explain.ef == 50
    exact = Beams((EXACT,) * 5)
    assert search(VIEW, Query(QUERIES[0], beams=exact)).explain.walked == 0
    assert search(VIEW, Query(QUERIES[0], beams=exact, ef=20)).explain.walked == 1


def test_wider_beams_make_a_bad_graph_reach_the_target() -> None:
    ef, beams = OWN, Beams()
    for _ in range(30):
        window = seen.Window().at(ef)
        for vector in QUERIES:
            window.add(_measured(Query(vector, limit=10, beams=beams)).trial)
        then = seen.next_beam(ef, GRAPH.ef_search, window.interval, 0.9)
        if then == ef:
            break
        ef = then
        beams = beams.with_band(Band.ALL, ef)
    assert ef != OWN
    assert window.interval.low >= 0.9


class Simulated:
    """A band whose searches find a share of the truth that grows with the beam."""

    def __init__(self, hardness: float, own_ef: int, seed: int) -> None:
        self.hardness, self.own_ef = hardness, own_ef
        self.rng = np.random.default_rng(seed)

    def share(self, ef: int) -> float:
        if ef == EXACT:
            return 1.0
        return 1 - math.exp(-max(ef, self.own_ef) / self.hardness)

    def history(self, target: float, searches: int) -> list[tuple[int, int]]:
        """Each beam with how many trials came before it was left."""
        window, ef, beams, trials = seen.Window(), OWN, [], 0
        for _ in range(searches):
            window.at(ef).add(seen.Trial(10, int(self.rng.binomial(10, self.share(ef)))))
            trials += 10
            if trials % 100:  # nobody decides after each search
                continue
            then = seen.next_beam(ef, self.own_ef, window.interval, target)
            if then != ef:
                beams.append((ef, trials))
                ef, trials = then, 0
        return [*beams, (ef, trials)]


@settings(max_examples=20, deadline=None)
@given(st.floats(1, 5_000), st.integers(1, 4_096), st.floats(0.5, 0.99), st.integers(0, 2**32 - 1))
def test_beams_widen_step_by_step_and_do_not_go_to_and_fro(
    hardness: float, own_ef: int, target: float, seed: int
) -> None:
    band = Simulated(hardness, own_ef, seed)
    history = band.history(target, 2_500)
    for (ef, trials), (then, _) in pairwise(history):
        assert ef != EXACT, "what is exact stays exact"
        assert trials >= seen.TRIALS_MIN
        before = max(ef, own_ef)
        if then == EXACT:
            assert before >= BEAM_MAX
        elif then == OWN or then < before:
            assert trials >= seen.NARROWING_TRIALS_MIN
        else:
            assert before < then <= min(BEAM_MAX, math.ceil(before * seen.STEP))
    last = history[-1][0]
    if band.share(BEAM_MAX) < target - 0.1:
        assert last == EXACT
    if band.share(own_ef) > target + 0.6 * (1 - target) + 0.02:
        assert last != EXACT


@given(st.integers(1, 4_096), st.floats(0, 1), st.integers(0, 199), st.sampled_from([OWN, 96]))
def test_few_trials_decide_nothing(own_ef: int, target: float, trials: int, ef: int) -> None:
    assert seen.next_beam(ef, own_ef, seen.Interval(0.0, 0.0, 0.1, trials), target) == ef


@given(st.floats(0.01, 0.999))
def test_searches_that_find_everything_are_never_widened(target: float) -> None:
    trials = seen.trials_needed(target)
    low, high = seen.wilson(1.0, trials)
    assert low >= target - 1e-12
    assert seen.next_beam(OWN, 64, seen.Interval(1.0, low, high, trials), target) == OWN


def test_one_search_that_missed_some_widens_nothing_where_more_than_wanted_is_found() -> None:
    for trials, then in ((200, OWN), (999, OWN), (1_000, 96)):
        unsure = seen.Interval(0.985, 0.94, 0.995, trials)
        assert seen.next_beam(OWN, 64, unsure, 0.95) == then
    assert seen.next_beam(OWN, 64, seen.Interval(0.94, 0.93, 0.96, 200), 0.95) == 96


def test_a_beam_that_is_too_wide_is_narrowed_to_the_collections_own() -> None:
    good = seen.Interval(1.0, 0.999, 1.0, seen.NARROWING_TRIALS_MIN)
    steps = [BEAM_MAX]
    while steps[-1] != OWN:
        steps.append(seen.next_beam(steps[-1], 64, good, 0.95))
    assert steps == sorted(steps, reverse=True) and len(steps) == 8
    early = good._replace(trials=seen.NARROWING_TRIALS_MIN - 1)
    assert seen.next_beam(96, 64, early, 0.95) == 96


def test_another_beam_empties_a_window() -> None:
    window = seen.Window(searches_max=3).at(OWN)
    for found in range(5):
        window.add(seen.Trial(10, found))
    assert window.searches == 3 and window.interval.share == pytest.approx(0.3)
    assert window.at(OWN).searches == 3
    assert window.at(96).interval == seen.NOTHING_SEEN
