"""Orders and scores of passages: by what the model said, and by what the search before it said."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.models.ranking import CROSS_ENCODER, LATE_INTERACTION, Calibration, blend, rank

NUMBERS = st.integers(-1000, 1000).map(lambda n: n / 1000)
CALIBRATIONS = st.sampled_from([LATE_INTERACTION, CROSS_ENCODER, Calibration(3.0, 1.0, 0.4)])
Pairs = list[tuple[float, float]]
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12)
"""Raw and prior score of each passage."""


def _raw(pairs: Pairs) -> list[float]:
    return [raw for raw, _ in pairs]


def _prior(pairs: Pairs) -> list[float]:
    return [prior for _, prior in pairs]


@given(PAIRS, CALIBRATIONS, st.booleans())
def test_every_passage_has_one_place_and_scores_fall_from_1_to_0(
    pairs: Pairs, calibration: Calibration, with_prior: bool
) -> None:
    ranked = rank(_raw(pairs), _prior(pairs) if with_prior else [], calibration)
    assert sorted(ranked.order) == list(range(len(pairs)))
    assert len(ranked.scores) == len(pairs)
    assert all(0 <= score <= 1 for score in ranked.scores)
    assert sorted(ranked.scores, reverse=True) == list(ranked.scores)


@given(PAIRS, CALIBRATIONS)
def test_without_a_prior_the_model_decides_and_equals_keep_the_callers_order(
    pairs: Pairs, calibration: Calibration
) -> None:
    raw = _raw(pairs)
    by_hand = sorted(range(len(raw)), key=lambda i: (-raw[i], i))
    assert list(rank(raw, [], calibration).order) == by_hand
    unweighed = replace(calibration, prior_weight=0.0)
    assert rank(raw, _prior(pairs), unweighed) == rank(raw, [], unweighed)


@given(st.lists(NUMBERS, min_size=1, max_size=8), st.floats(-1e6, 1e6), CALIBRATIONS)
def test_a_prior_that_is_the_same_for_all_says_nothing(
    raw: list[float], prior: float, calibration: Calibration
) -> None:
    assert rank(raw, [prior] * len(raw), calibration) == rank(raw, [], calibration)


@given(PAIRS, CALIBRATIONS)
def test_who_is_better_by_both_is_never_behind(pairs: Pairs, calibration: Calibration) -> None:
    raw = _raw(pairs)
    order = rank(raw, _prior(pairs), calibration).order
    if len(set(raw)) < 2:  # what the model cannot tell apart keeps the caller's order
        assert list(order) == list(range(len(raw)))
        return
    if not calibration.prior_weight:  # then priors do not even part equals
        pairs = [(one, 0.0) for one in raw]
    for place, one in enumerate(order):
        for other in order[place + 1 :]:
            behind = pairs[one][0] <= pairs[other][0] and pairs[one][1] <= pairs[other][1]
            assert not behind or pairs[one] == pairs[other]


@given(PAIRS, st.sampled_from([0.25, 8.0, 1e-6, 1024.0]), st.integers(-50, 50), CALIBRATIONS)
def test_the_unit_of_a_prior_does_not_matter(
    pairs: Pairs, factor: float, moved: int, calibration: Calibration
) -> None:
    raw, prior = np.array(_raw(pairs)), np.array(_prior(pairs))
    expected = blend(raw, prior, calibration)
    other = (prior + moved) * factor
    np.testing.assert_allclose(blend(raw, other, calibration), expected, atol=1e-9)


@given(st.permutations([0.5, 0.1, -0.2, 0.9, 0.3]), CALIBRATIONS)
def test_a_prior_in_the_models_own_order_changes_no_places(
    raw: list[float], calibration: Calibration
) -> None:
    assert rank(raw, raw, calibration).order == rank(raw, [], calibration).order


def test_a_prior_counts_by_its_weight() -> None:
    raw, prior = [0.6, 0.5], [1.0, 2.0]
    assert rank(raw, prior, Calibration(1.0, 0.0, 0.4)).order == (0, 1)
    assert rank(raw, prior, Calibration(1.0, 0.0, 0.6)).order == (1, 0)


def test_scores_are_the_logistic_function_of_what_was_ranked_by() -> None:
    calibration = Calibration(slope=2.0, intercept=-1.0, prior_weight=0.5)
    ranked = rank([0.0, 0.5, 1.0], [], calibration)
    expected = [1 / (1 + np.exp(-x)) for x in (1.0, 0.0, -1.0)]
    assert ranked.scores == pytest.approx(expected)


@pytest.mark.parametrize("tiny", [1e-200, 5e-324])
def test_however_small_a_prior_is_it_counts(tiny: float) -> None:
    calibration = Calibration(1.0, 0.0, 0.6)
    assert rank([0.6, 0.5], [0.0, tiny], calibration) == rank([0.6, 0.5], [0.0, 1.0], calibration)


@pytest.mark.parametrize("calibration", [LATE_INTERACTION, CROSS_ENCODER])
def test_extreme_scores_are_scores_too(calibration: Calibration) -> None:
    """One prior far from a thousand others, and logits that no model gives."""
    raw = [1.0, -1.0] * 512
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for prior in ([0.0] * 1023 + [1e6], [0.0] * 1023 + [-1e6], []):
            ranked = rank([one * 2000 for one in raw], prior, calibration)
            assert all(0 <= score <= 1 for score in ranked.scores)
