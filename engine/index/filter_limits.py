"""Which filters can be read: the bounds of the filter language, each refused with its reason."""

from __future__ import annotations

import math

from engine.errors import InvalidFilter
from engine.index.conditions import (
    BOOLEAN,
    And,
    DatetimeRange,
    Equals,
    Exists,
    Filter,
    HasAll,
    HasWords,
    In,
    IsNull,
    Leaf,
    Not,
    Or,
    Range,
    ValuesCount,
    key_of,
)
from engine.index.instants import instant_of

DEPTH_MAX = 16
CONDITIONS_MAX = 256
"""Parts of a filter in all, `Not` left out: it stands before a condition and is none."""
VALUES_MAX = 1_024
FIELD_CHARACTERS_MAX = 256
TEXT_CHARACTERS_MAX = 1_000
COUNT_MAX = 2**31 - 1
INSTANT_MAX = 2**61
"""Microseconds either side of 1970 that a bound may give as an integer: 73,000 years."""


def validate(filter: Filter) -> None:
    """Refuse what cannot be read.

    Raises InvalidFilter: nested deeper than `DEPTH_MAX`, more than `CONDITIONS_MAX` parts in all,
    an empty or too long list, field, text or range, bounds of different kinds, a bound that names
    no instant, a count below 0, or a value that is no finite scalar.
    """
    conditions = 0
    open_parts: list[tuple[Filter, int]] = [(filter, 1)]
    while open_parts:
        part, depth = open_parts.pop()
        conditions += not isinstance(part, Not)
        check_depth(depth)
        check_conditions(conditions)
        match part:
            case And(children) | Or(children):
                if not children:
                    name = "and" if isinstance(part, And) else "or"
                    raise InvalidFilter(
                        f"`{name}` has no conditions; leave it out or give at least one",
                        field="filter",
                        metadata={"condition": name},
                    )
                open_parts.extend((child, depth + 1) for child in children)
            case Not(child):
                open_parts.append((child, depth + 1))
            case _:
                _validate_leaf(part)


def conditions_of(filter: Filter) -> int:
    """How many parts a filter has that can be read, as `CONDITIONS_MAX` counts them."""
    count, open_parts = 0, [filter]
    while open_parts:
        part = open_parts.pop()
        count += not isinstance(part, Not)
        match part:
            case And(children) | Or(children):
                open_parts.extend(children)
            case Not(child):
                open_parts.append(child)
    return count


def check_depth(depth: int) -> None:
    """Refuse a part more than `DEPTH_MAX` levels deep, the filter itself being 1 deep. Raises
    InvalidFilter."""
    if depth > DEPTH_MAX:
        raise InvalidFilter(
            f"the filter is nested deeper than {DEPTH_MAX} levels; flatten it",
            field="filter",
            metadata={"depth_max": DEPTH_MAX},
        )


def check_conditions(conditions: int) -> None:
    """Refuse more than `CONDITIONS_MAX` parts. Raises InvalidFilter."""
    if conditions > CONDITIONS_MAX:
        raise InvalidFilter(
            f"the filter has more than {CONDITIONS_MAX} conditions; "
            "use one `in` condition for many values of a field",
            field="filter",
            metadata={"conditions_max": CONDITIONS_MAX},
        )


def check_values(field: str, values: int) -> None:
    """Refuse a list of no values or of more than `VALUES_MAX`. Raises InvalidFilter."""
    _check_length(f"the condition on {field!r} lists", values, "values", VALUES_MAX)


def _validate_leaf(leaf: Leaf) -> None:
    if not 1 <= len(leaf.field) <= FIELD_CHARACTERS_MAX:
        raise InvalidFilter(
            f"a field path has {len(leaf.field)} characters; give 1 to {FIELD_CHARACTERS_MAX}",
            field="filter",
            metadata={"characters": len(leaf.field), "characters_max": FIELD_CHARACTERS_MAX},
        )
    match leaf:
        case Equals(field, value):
            _validate_scalar(field, value)
        case In(field, values) | HasAll(field, values):
            check_values(field, len(values))
            for value in values:
                _validate_scalar(field, value)
        case Range(field):
            _validate_range(leaf)
        case DatetimeRange(field):
            for bound in _bounds(leaf):
                _validate_instant(field, bound)
        case HasWords(field, text):
            characters = sum(map(len, text))
            _check_length(
                f"the text for {field!r} has", characters, "characters", TEXT_CHARACTERS_MAX
            )
        case ValuesCount(field):
            for count in _bounds(leaf):
                if type(count) is not int or not 0 <= count <= COUNT_MAX:
                    raise InvalidFilter(
                        f"{count!r} is no count of values of {field!r}; give 0 to {COUNT_MAX}",
                        field="filter",
                        metadata={"path": field, "value": repr(count), "value_max": COUNT_MAX},
                    )
        case Exists() | IsNull():
            pass


def _check_length(what: str, length: int, unit: str, most: int) -> None:
    if not 1 <= length <= most:
        raise InvalidFilter(
            f"{what} {length} {unit}; give 1 to {most}",
            field="filter",
            metadata={unit: length, f"{unit}_max": most},
        )


def _validate_range(leaf: Range) -> None:
    bounds = [bound for bound in (leaf.gt, leaf.gte, leaf.lt, leaf.lte) if bound is not None]
    for bound in bounds:
        _validate_scalar(leaf.field, bound)
    if len({key_of(bound)[0] for bound in bounds} - {BOOLEAN}) != 1 or any(
        isinstance(bound, bool) for bound in bounds
    ):
        raise InvalidFilter(
            f"the range on {leaf.field!r} needs at least one bound, all numbers or all strings",
            field="filter",
            metadata={"path": leaf.field},
        )


def _bounds(leaf: DatetimeRange | ValuesCount) -> list[str | int]:
    bounds = [bound for bound in (leaf.gt, leaf.gte, leaf.lt, leaf.lte) if bound is not None]
    if not bounds:
        raise InvalidFilter(
            f"the range on {leaf.field!r} has no bound; give at least one",
            field="filter",
            metadata={"path": leaf.field},
        )
    return bounds


def _validate_instant(field: str, bound: str | int) -> None:
    if isinstance(bound, str):
        valid = instant_of(bound) is not None
    else:
        valid = type(bound) is int and abs(bound) <= INSTANT_MAX
    if not valid:
        raise InvalidFilter(
            f"{bound!r} on {field!r} names no instant; give a date and time with its offset, as "
            "2024-02-29T23:30:00+01:00, or a date",
            field="filter",
            metadata={"path": field, "value": repr(bound)},
        )


def _validate_scalar(field: str, value: object) -> None:
    if not isinstance(value, bool | int | float | str) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise InvalidFilter(
            f"{value!r} on {field!r} is no string, boolean or finite number; give one of these",
            field="filter",
            metadata={"path": field, "value": repr(value)},
        )
