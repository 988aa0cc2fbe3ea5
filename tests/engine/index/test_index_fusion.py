"""Fused scores are what the formulas say, whatever unit a leg has and however it is listed."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.index.fusion import FusionMethod, fuse, score_fusion

SCORES = st.dictionaries(st.integers(0, 20), st.integers(-1_000, 1_000).map(float), max_size=12)
WEIGHT = st.floats(0, 10)


@given(SCORES, SCORES, WEIGHT, WEIGHT)
def test_score_fusion_is_each_scores_place_in_its_legs_distribution(
    first: dict[int, float], second: dict[int, float], one: float, two: float
) -> None:
    fused = score_fusion([(first, one), (second, two)])
    assert fused.keys() == {*first, *second}
    for item, score in fused.items():
        expected = 0.0
        for leg, weight in ((first, one), (second, two)):
            if item not in leg:
                continue
            mean, deviation = statistics.fmean(leg.values()), statistics.pstdev(leg.values())
            low, high = mean - 3 * deviation, mean + 3 * deviation
            share = 0.5 if not deviation else max(0.0, (leg[item] - low) / (high - low))
            expected += weight * share
        assert score == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(SCORES, SCORES, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_a_legs_unit_and_origin_do_not_matter(
    first: dict[int, float], second: dict[int, float], unit: float, origin: float
) -> None:
    moved = {item: score * unit + origin for item, score in first.items()}
    fused = score_fusion([(first, 1.0), (second, 1.0)])
    assert score_fusion([(moved, 1.0), (second, 1.0)]) == pytest.approx(fused, rel=1e-4, abs=1e-4)


def test_a_clear_winner_of_one_leg_wins_by_scores_and_not_by_ranks() -> None:
    words = [("named", 30.0), *((f"w{n}", 5.0 - n / 100) for n in range(20))]
    meaning = [(f"w{n}", 0.5 - n / 1000) for n in range(20)]
    legs = [(words, 1.0), (meaning, 1.0)]
    by_ranks, by_scores = fuse(legs), fuse(legs, FusionMethod.SCORE)
    assert max(by_ranks, key=by_ranks.__getitem__) == "w0"
    assert max(by_scores, key=by_scores.__getitem__) == "named"


@pytest.mark.parametrize("scores", [[], [0.0], [1e-310, 2e-310], [1e300, 1.0], [7.0] * 3])
def test_no_leg_makes_a_score_that_is_no_number(scores: list[float]) -> None:
    fused = score_fusion([(dict(enumerate(scores)), 1.0)])
    assert all(math.isfinite(score) and score >= 0 for score in fused.values())
