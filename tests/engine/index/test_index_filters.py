"""What users may rely on of filters: one meaning, however they are written or evaluated."""

from __future__ import annotations

import json
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
    TEXT_CHARACTERS_MAX,
    VALUES_MAX,
    And,
    DatetimeRange,
    Equals,
    Exists,
    Filter,
    HasAll,
    HasWords,
    In,
    IsNull,
    Not,
    Or,
    Range,
    ValuesCount,
    canonical,
    canonical_text,
    matches,
    validate,
)
from engine.index.payloads import PATHS_MAX, PayloadIndex
from engine.index.written import WrittenPayload
from engine.types import Payload, Point
from tests.engine.index.filter_cases import FILTERS, PAYLOADS


def _text(payload: Payload) -> bytes:
    return json.dumps(payload).encode()


def _points(payloads: list[dict[str, Any]]) -> list[Point]:
    return [Point(str(row), None, payload=payload) for row, payload in enumerate(payloads)]


@settings(max_examples=300, deadline=None)
@given(st.lists(PAYLOADS, max_size=12), st.integers(0, 12), st.integers(0, 12), FILTERS)
def test_columns_agree_with_the_meaning_of_a_filter(
    payloads: list[dict[str, Any]], split: int, seen: int, filter: Filter
) -> None:
    points = _points(payloads)
    index = PayloadIndex(points)
    rows = min(seen, len(payloads))  # a reader of an older view sees fewer rows than there are
    expected = [matches(filter, payload) for payload in payloads[:rows]]
    other = min(split, len(payloads))  # a column grows with the views that are asked about
    assert index.mask(filter, other).tolist() == [matches(filter, p) for p in payloads[:other]]
    assert index.mask(filter, rows).tolist() == expected
    written = [Point(p.id, None, payload=WrittenPayload(_text(p.payload))) for p in points]
    assert PayloadIndex(written).mask(filter, rows).tolist() == expected
    assert index.mask(canonical(filter), rows).tolist() == expected


@settings(max_examples=300, deadline=None)
@given(FILTERS, st.randoms(use_true_random=False), st.lists(PAYLOADS, max_size=4))
def test_filters_that_differ_in_writing_only_have_one_canonical_form(
    filter: Filter, random: Any, payloads: list[dict[str, Any]]
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
                if random.random() < 0.5:  # De Morgan
                    other = Or if isinstance(part, And) else And
                    return Not(other(tuple(Not(child) for child in children)))
                return Not(Not(type(part)(tuple(children))))
            case Not(child):
                return Not(rewritten(child))
            case In(field, values):
                return Or(tuple(Equals(field, value) for value in (*reversed(values), values[0])))
            case HasAll(field, values):
                return And((HasAll(field, values[1:] or values), Equals(field, values[0])))
            case Exists(field):
                return Not(ValuesCount(field, lt=1))
            case _:
                return And((part,))

    other = rewritten(filter)
    assert canonical_text(other) == canonical_text(filter)
    assert canonical_text(canonical(filter)) == canonical_text(filter)
    for payload in payloads:
        assert matches(canonical(filter), payload) == matches(filter, payload)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Range("a", gte=1, gt=1.0), Range("a", gt=1)),
        (Range("a", gte=2, gt=1), Range("a", gte=2.0)),
        (Range("a", lte=1, lt=2, gt=0), Range("a", gt=0, lte=1)),
        (Range("a", gte="x", lte="x"), Equals("a", "x")),
        (DatetimeRange("a", gt="2024-01-01T01:00:00+01:00"), DatetimeRange("a", gt="2024-01-01")),
        (DatetimeRange("a", gt=7), DatetimeRange("a", gte=8)),
        (ValuesCount("a", gt=0), Exists("a")),
        (Not(ValuesCount("a", gt=2)), ValuesCount("a", lte=2)),
        (Not(And((Exists("a"), Exists("b")))), Or((Not(Exists("b")), ValuesCount("a", lte=0)))),
        (HasWords("a", "Two  words, two"), HasWords("a", ("two", "words"))),
        (HasWords("a", "one", any=True), HasWords("a", "ONE")),
        (Not(Or((Equals("a", 1), In("a", (2, 3))))), Not(In("a", (3, 2, 1)))),
        (And((Not(Equals("a", 1)), Not(Equals("a", 2)))), Not(In("a", (1, 2)))),
    ],
)
def test_ways_to_write_one_condition_have_one_form(one: Filter, other: Filter) -> None:
    assert canonical_text(one) == canonical_text(other)


def test_equalities_are_joined_only_as_far_as_one_list_may_go() -> None:
    many = [In("a", tuple(range(1_000 * part, 1_000 * part + 1_000))) for part in range(2)]
    joined = canonical(Or(tuple(many)))
    assert joined == canonical(Or(tuple(reversed(many))))
    assert canonical(joined) == joined
    assert matches(joined, {"a": 1_999})


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
        (HasAll("a", (1, "x")), {"a": ["x", 0, 1.0]}, True),
        (HasAll("a", (1, "x")), {"a": "x"}, False),
        (
            DatetimeRange("d", gte="2024-01-01", lt="2024-02-01"),
            {"d": "2024-01-31T23:59:59Z"},
            True,
        ),
        (DatetimeRange("d", lt="2024-02-01"), {"d": "2024-02-01T00:30:00+01:00"}, True),
        (DatetimeRange("d", gte="2024-01-01"), {"d": "2024-01-31T10:00:00"}, False),
        (DatetimeRange("d", gte=0), {"d": 1}, False),
        (HasWords("t", "graph SEARCH"), {"t": "Search in a graph"}, True),
        (HasWords("t", "graph search"), {"t": ["a graph", "a search"]}, False),
        (HasWords("t", "graph search", any=True), {"t": ["a graph"]}, True),
        (IsNull("a"), {"a": None}, True),
        (IsNull("a"), {"a": [1, None]}, True),
        (IsNull("a"), {}, False),
        (ValuesCount("a", gte=2), {"a": [1, [2, None]]}, True),
        (ValuesCount("a", gt=2), {"a": [1, [2, None]]}, False),
        (ValuesCount("a", lte=0), {"a": []}, True),
        (ValuesCount("a.b", gte=2), {"a": [{"b": 1}, {"b": {}}]}, True),
    ],
)
def test_what_conditions_mean(filter: Filter, payload: dict[str, Any], expected: bool) -> None:
    assert matches(filter, payload) is expected
    index = PayloadIndex(_points([payload]))
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
        HasAll("a", ()),
        HasAll("a", tuple(range(100_000))),
        DatetimeRange("a"),
        DatetimeRange("a", gte="2024-01-01T00:00:00"),
        DatetimeRange("a", gte="yesterday"),
        DatetimeRange("a", gte=True),
        DatetimeRange("a", gte=2**64),
        HasWords("a", ""),
        HasWords("a", "x" * (TEXT_CHARACTERS_MAX + 1)),
        ValuesCount("a"),
        ValuesCount("a", gte=-1),
        ValuesCount("a", gte=True),
        ValuesCount("a", gte=2**31),
    ],
)
def test_filters_that_cannot_be_read_are_refused(filter: Filter) -> None:
    with pytest.raises(InvalidFilter) as caught:
        validate(filter)
    assert caught.value.field == "filter"


def test_a_text_of_stop_words_only_is_refused_once_it_is_analyzed() -> None:
    with pytest.raises(InvalidFilter, match="no words"):
        canonical(HasWords("a", "the of"), lambda text: [])


def test_filters_at_their_bounds_are_accepted() -> None:
    validate(_nested(DEPTH_MAX))
    validate(Or(tuple(Equals("a", n) for n in range(CONDITIONS_MAX - 1))))
    validate(In("a", tuple(range(VALUES_MAX))))


def test_payloads_with_more_paths_than_columns_are_still_filtered_right() -> None:
    payloads = [{f"user-{row}": row, "all": 1} for row in range(PATHS_MAX + 20)]
    index = PayloadIndex(_points(payloads))
    for row in range(len(payloads)):
        mask = index.mask(And((Equals(f"user-{row}", row), Exists("all"))), len(payloads))
        assert np.flatnonzero(mask).tolist() == [row]
    assert not index.mask(Exists("nobody"), len(payloads)).any()
