"""A small world of payloads and filters, so that filters hit: few keys, few values, every kind."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from engine.index.conditions import (
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
)

KEYS = st.sampled_from(["a", "b", "a.b", ""])
TIMES = (
    "2024-02-29",
    "2024-02-29T00:00:00Z",
    "2024-02-28 23:30:00.5-01:00",
    "2024-03-01t00:00:00z",
)
TEXTS = ("", "1", "x", "xy", "é", "x É 1", "2024-02-29T00:00:00", "x\ud800")
SCALARS = st.sampled_from([True, False, 0, 1, 1.0, -0.0, 2.5, 2**70, -3, *TEXTS, *TIMES])
VALUES = st.recursive(
    SCALARS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
PAYLOADS = st.dictionaries(KEYS, VALUES, max_size=3)
FIELDS = st.sampled_from(["a", "b", "a.b", "b.a", "a.b.a", ".a", "c"])
NUMBERS = st.none() | st.sampled_from([-3, 0, 1, 1.0, 2.0, 2.5, 2**70])
WORDS = st.none() | st.sampled_from(["", "1", "x", "xx", "é", "2024"])
INSTANTS = st.none() | st.sampled_from([*TIMES, "2024-02-29T00:30:00.5Z", 0, 1709164800_000_001])
COUNTS = st.none() | st.integers(0, 4)


def _bounded(kind: Any, bound: st.SearchStrategy[Any]) -> st.SearchStrategy[Filter]:
    bounds = st.tuples(bound, bound, bound, bound).filter(
        lambda bounds: any(one is not None for one in bounds)
    )
    return st.builds(lambda field, bounds: kind(field, *bounds), FIELDS, bounds)


LISTS = st.lists(SCALARS, min_size=1, max_size=4).map(tuple)
LEAVES: st.SearchStrategy[Filter] = (
    st.builds(Equals, FIELDS, SCALARS)
    | st.builds(In, FIELDS, LISTS)
    | st.builds(HasAll, FIELDS, LISTS)
    | _bounded(Range, NUMBERS)
    | _bounded(Range, WORDS)
    | _bounded(DatetimeRange, INSTANTS)
    | _bounded(ValuesCount, COUNTS)
    | st.builds(HasWords, FIELDS, st.sampled_from(["x", "X é", "1 x x", "2024 1"]), st.booleans())
    | st.builds(Exists, FIELDS)
    | st.builds(IsNull, FIELDS)
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
