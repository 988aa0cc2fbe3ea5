"""The suite `filter` judges what was asked: the worst of all cases, and nothing outside it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.conditions import RELATIONS, nearest_within, number, ranges
from benchmarks.data import clustered
from benchmarks.suites.filter import SELECTIVITIES, Case, checked_recall, targets
from benchmarks.timing import Series


def _ms(value: float) -> Series:
    return Series(np.full((3, 10), value))


def test_the_targets_are_of_the_worst_case() -> None:
    cases = [
        Case(relation, selectivity, {"sdk": _ms(1.0)}, {"sdk": 1.0})
        for relation in RELATIONS
        for selectivity in SELECTIVITIES
    ]
    cases[7] = Case("correlated", 0.2, {"sdk": _ms(3.0)}, {"sdk": 0.9})
    found = {target.name: target for target in targets(cases, _ms(1.5))}
    assert {name: target.value for name, target in found.items()} == {
        "filter_independent_recall_at_10": 1.0,
        "filter_correlated_recall_at_10": 0.9,
        "filter_opposed_recall_at_10": 1.0,
        "filter_over_unfiltered_p50": 2.0,
    }


def test_a_point_outside_its_filter_fails_the_suite_however_near_it_is() -> None:
    data = clustered(300, 4, dimensions=8, clusters=6)
    numbered = number(data.points)
    asked = ranges(numbered, data.queries, "independent", 0.2)
    exact = nearest_within(data.points, numbered.numbers, data.queries, asked, 10)
    found = [rows.tolist() for rows in exact]
    assert checked_recall(found, exact, data.points, data.queries, asked, numbered) == 1
    assert checked_recall(found[:2], exact, data.points, data.queries, asked, numbered) == 1
    outside = np.flatnonzero(~asked[1].mask(numbered.numbers))
    found[1][0] = int(outside[0])
    with pytest.raises(AssertionError, match="let through points"):
        checked_recall(found, exact, data.points, data.queries, asked, numbered)
