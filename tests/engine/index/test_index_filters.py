"""What users may rely on of filters: one meaning, however they are written or evaluated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidFilter
from engine.index.filters import (
    CONDITIONS_MAX,
    DEPTH_MAX,
    VALUES_MAX,
    And,
    Equals,
    Exists,
    Filter,
    In,
    Not,
    Or,
    Range,
    canonical,
    canonical_text,
    matches,
    validate,
)
from engine.index.payloads import PATHS_MAX, PayloadIndex
from engine.types import Point

# A small world, so that filters hit: few keys, few values, every kind.
KEYS = st.sampled_from(["a", "b", "a.b", ""])
SCALARS = st.sampled_from([True, False, 0, 1, 1.0, -0.0, 2.5, 2**70, -3, "", "1", "x", "xy", "é"])
VALUES = st.recursive(
    SCALARS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
PAYLOADS = st.dictionaries(KEYS, VALUES, max_size=3)
FIELDS = st.sampled_from(["a", "b", "a.b", "b.a", "a.b.a", ".a", "c"])
NUMBERS = st.none() | st.sampled_from([-3, 0, 1, 1.0, 2.0, 2.5, 2**70])
WORDS = st.none() | st.sampled_from(["", "1", "x", "xx", "é"])


def _ranges(bound: st.SearchStrategy[Any]) -> st.SearchStrategy[Filter]:
    bounded = st.tuples(bound, bound, bound, bound).filter(
        lambda bounds: any(one is not None for one in bounds)
    )
    return st.builds(lambda field, bounds: Range(field, *bounds), FIELDS, bounded)


LEAVES: st.SearchStrategy[Filter] = (
    st.builds(Equals, FIELDS, SCALARS)
    | st.builds(In, FIELDS, st.lists(SCALARS, min_size=1, max_size=4).map(tuple))
    | _ranges(NUMBERS)
    | _ranges(WORDS)
    | st.builds(Exists, FIELDS)
)
FILTERS: st.SearchStrategy[Filter] = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(And, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(Not, inner)
    ),
    max_leaves=6,
)


def _points(payloads: list[dict[str, Any]]) -> list[Point]:
    return [Point(str(row), None, payload=payload) for row, payload in enumerate(payloads)]


@settings(max_examples=300, deadline=None)
@given(st.lists(PAYLOADS, max_size=12), st.integers(0, 12), st.integers(0, 12), FILTERS)
def test_columns_agree_with_the_meaning_of_a_filter(
    payloads: list[dict[str, Any]], split: int, seen: int, filter: Filter
) -> None:
    points = _points(payloads)
    index = PayloadIndex(points)
    index.append(0, payloads[:split])
    index.append(min(split, len(payloads)), payloads[split:])
    rows = min(seen, len(payloads))  # a reader of an older view sees fewer rows than there are
    expected = [matches(filter, payload) for payload in payloads[:rows]]
    assert index.mask(filter, rows).tolist() == expected
    assert index.mask(canonical(filter), rows).tolist() == expected


@settings(max_examples=200, deadline=None)
@given(FILTERS, st.randoms(use_true_random=False))
def test_filters_that_differ_in_writing_only_have_one_canonical_form(
    filter: Filter, random: Any
) -> None:
    def rewritten(part: Filter) -> Filter:
        match part:
            case And(parts) | Or(parts):
                children = [rewritten(child) for child in parts]
                children.append(random.choice(children))
                random.shuffle(children)
                half = len(children) // 2
                if half:
                    children = [type(part)(tuple(children[:half])), *children[half:]]
                return Not(Not(type(part)(tuple(children))))
            case Not(child):
                return Not(rewritten(child))
            case In(field, values):
                return In(field, (*reversed(values), values[0]))
            case _:
                return And((part,))

    assert canonical_text(rewritten(filter)) == canonical_text(filter)
    assert canonical_text(canonical(filter)) == canonical_text(filter)


def test_kinds_do_not_mix_in_the_canonical_form() -> None:
    texts = {canonical_text(Equals("a", value)) for value in (True, 1, "1", 1.0, False, 0)}
    assert len(texts) == 5  # 1 and 1.0 are one number
    both = canonical(Or((Equals("a", True), Equals("a", 1))))
    assert matches(both, {"a": True})
    assert matches(both, {"a": 1.0})


@pytest.mark.parametrize(
    ("filter", "payload", "expected"),
    [
        (Equals("a", 1), {"a": 1.0}, True),
        (Equals("a", 1), {"a": True}, False),
        (Equals("a", "1"), {"a": 1}, False),
        (Equals("a.b", "x"), {"a": {"b": "x"}}, True),
        (Equals("a.b", "x"), {"a.b": "x"}, True),
        (Equals("a.b", "x"), {"a": [{"b": "y"}, {"b": ["z", "x"]}]}, True),
        (Range("d", gte="2024-01-01", lt="2024-02-01"), {"d": "2024-01-31T10:00:00Z"}, True),
        (Range("n", gt=1, lt=3), {"n": [0, 5]}, False),
        (Range("n", gt=1), {"n": "2"}, False),
        (Exists("a"), {"a": None}, False),
        (Exists("a"), {"a": []}, False),
        (Exists("a"), {"a": {}}, True),
        (Exists("a"), {"a": False}, True),
        (Not(Equals("a", 1)), {}, True),
    ],
)
def test_what_conditions_mean(filter: Filter, payload: dict[str, Any], expected: bool) -> None:
    assert matches(filter, payload) is expected
    index = PayloadIndex(_points([payload]))
    index.append(0, [payload])
    assert index.mask(filter, 1).tolist() == [expected]


def _nested(depth: int) -> Filter:
    filter: Filter = Equals("a", 1)
    for _ in range(depth - 1):
        filter = Not(filter)
    return filter


@pytest.mark.parametrize(
    "filter",
    [
        _nested(DEPTH_MAX + 1),
        _nested(5_000),
        Or(tuple(Equals("a", n) for n in range(CONDITIONS_MAX))),
        In("a", tuple(range(VALUES_MAX + 1))),
        In("a", ()),
        And(()),
        Or(()),
        Equals("", 1),
        Equals("a" * 257, 1),
        Equals("a", math.nan),
        Equals("a", math.inf),
        Equals("a", None),  # type: ignore[arg-type]
        Range("a"),
        Range("a", gt=1, lt="x"),
        Range("a", gt=True),
        Range("a", gt=1, lt=True),
    ],
)
def test_filters_that_cannot_be_read_are_refused(filter: Filter) -> None:
    with pytest.raises(InvalidFilter) as caught:
        validate(filter)
    assert caught.value.field == "filter"


def test_filters_at_their_bounds_are_accepted() -> None:
    validate(_nested(DEPTH_MAX))
    validate(Or(tuple(Equals("a", n) for n in range(CONDITIONS_MAX - 1))))
    validate(In("a", tuple(range(VALUES_MAX))))


def test_payloads_with_more_paths_than_columns_are_still_filtered_right() -> None:
    payloads = [{f"user-{row}": row, "all": 1} for row in range(PATHS_MAX + 20)]
    index = PayloadIndex(_points(payloads))
    index.append(0, payloads)
    for row in (0, PATHS_MAX - 5, PATHS_MAX + 15):
        mask = index.mask(And((Equals(f"user-{row}", row), Exists("all"))), len(payloads))
        assert np.flatnonzero(mask).tolist() == [row]
    assert not index.mask(Exists("nobody"), len(payloads)).any()
