"""Filters: when they are valid, and their one canonical form. `conditions` says what they mean.

The canonical form is what caches are keyed by and what plans are made of. Filters that differ only
in nesting, order, repetition, where a negation stands, how a bound or a value is written, or in
equalities of one field that are listed one by one or at once, have one canonical form.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from engine.errors import InvalidFilter
from engine.index.conditions import (
    BOOLEAN,
    INTEGER_LEAST,
    INTEGER_MOST,
    NUMBER,
    STRING,
    Analyze,
    And,
    DatetimeRange,
    Equals,
    Exists,
    Filter,
    HasAll,
    HasWords,
    In,
    IsNull,
    Key,
    Leaf,
    Not,
    Or,
    Range,
    ValuesCount,
    closed,
    key_of,
    matches,
    plain_words,
    words_of,
)
from engine.index.instants import instant_of
from engine.types import Scalar

__all__ = [
    "BOOLEAN",
    "CONDITIONS_MAX",
    "DEPTH_MAX",
    "FIELD_CHARACTERS_MAX",
    "NUMBER",
    "STRING",
    "TEXT_CHARACTERS_MAX",
    "VALUES_MAX",
    "Analyze",
    "And",
    "DatetimeRange",
    "Equals",
    "Exists",
    "Filter",
    "HasAll",
    "HasWords",
    "In",
    "IsNull",
    "Key",
    "Leaf",
    "Not",
    "Or",
    "Range",
    "ValuesCount",
    "canonical",
    "canonical_text",
    "instant_of",
    "key_of",
    "matches",
    "plain_words",
    "validate",
]

DEPTH_MAX = 16
CONDITIONS_MAX = 256
"""Parts of a filter in all, `Not` left out: it stands before a condition and is none."""
VALUES_MAX = 1_024
FIELD_CHARACTERS_MAX = 256
TEXT_CHARACTERS_MAX = 1_000
COUNT_MAX = 2**31 - 1
INSTANT_MAX = 2**61
"""Microseconds either side of 1970 that a bound may give as an integer: 73,000 years."""

_EMPTY = 1, 0
"""The first and the last of a range with nothing in it, however it was written."""


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
        if depth > DEPTH_MAX:
            raise InvalidFilter(
                f"the filter is nested deeper than {DEPTH_MAX} levels; flatten it",
                field="filter",
                metadata={"depth_max": DEPTH_MAX},
            )
        if conditions > CONDITIONS_MAX:
            raise InvalidFilter(
                f"the filter has more than {CONDITIONS_MAX} conditions; "
                "use one `in` condition for many values of a field",
                field="filter",
                metadata={"conditions_max": CONDITIONS_MAX},
            )
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
            name = "in" if isinstance(leaf, In) else "has all"
            _validate_length(f"`{name}` on {field!r} lists", len(values), "values", VALUES_MAX)
            for value in values:
                _validate_scalar(field, value)
        case Range(field):
            _validate_range(leaf)
        case DatetimeRange(field):
            for bound in _bounds(leaf):
                _validate_instant(field, bound)
        case HasWords(field, text):
            characters = sum(map(len, text))
            _validate_length(
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


def _validate_length(what: str, length: int, unit: str, most: int) -> None:
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


def canonical(filter: Filter, analyze: Analyze = plain_words) -> Filter:
    """The one form of a filter; texts to look for become words, by the collection's `analyze`.

    Negations stand before single conditions only. Raises InvalidFilter as `validate` does, and for
    a text without words. Compare canonical filters, or key a cache, by `canonical_text`: to Python
    `Equals("a", True)` and `Equals("a", 1.0)` are equal.
    """
    validate(filter)
    return _canonical(filter, False, analyze)


def canonical_text(filter: Filter, analyze: Analyze = plain_words) -> str:
    """The canonical form as text: filters with the same text match the same payloads."""
    return repr(canonical(filter, analyze))


def _canonical(filter: Filter, negated: bool, analyze: Analyze) -> Filter:
    """Of the filter, or of its negation."""
    match filter:
        case Not(part):
            return _canonical(part, not negated, analyze)
        case And(parts):
            return _joined(Or if negated else And, parts, negated, analyze)
        case Or(parts):
            return _joined(And if negated else Or, parts, negated, analyze)
        case _:
            leaf = _canonical_leaf(filter, analyze)
            return _negated(leaf) if negated else leaf


def _canonical_leaf(leaf: Leaf, analyze: Analyze) -> Leaf:
    match leaf:
        case Equals(field, value):
            return Equals(field, _scalar(key_of(value)))
        case In(field, values) | HasAll(field, values):
            return _of_values(type(leaf), field, {key_of(value) for value in values})
        case Range():
            return _canonical_range(leaf)
        case DatetimeRange(field):
            first, last = closed(leaf)
            if first > last:
                first, last = _EMPTY
            return DatetimeRange(
                field,
                gte=None if first == INTEGER_LEAST else first,
                lte=None if last == INTEGER_MOST else last,
            )
        case HasWords(field, text):
            words = words_of(leaf, analyze)
            if not words:
                raise InvalidFilter(
                    f"{text!r} has no words to look for in {field!r}; give at least one that is "
                    "no stop word",
                    field="filter",
                    metadata={"path": field},
                )
            return HasWords(field, words, leaf.any and len(words) > 1)
        case ValuesCount(field):
            first, last = closed(leaf)
            return _count(field, max(first, 0), last)
        case Exists() | IsNull():
            return leaf


def _canonical_range(leaf: Range) -> Range | Equals:
    low, high = _key(leaf.gt), _key(leaf.gte)
    gt, gte = (low, None) if high is None or (low is not None and low >= high) else (None, high)
    low, high = _key(leaf.lte), _key(leaf.lt)
    lt, lte = (high, None) if low is None or (high is not None and high <= low) else (None, low)
    if gte is not None and gte == lte:
        return Equals(leaf.field, _scalar(gte))
    bounds = [None if key is None else key[1] for key in (gt, gte, lt, lte)]
    return Range(leaf.field, *bounds)


def _key(bound: int | float | str | None) -> Key | None:
    return None if bound is None else key_of(bound)


def _count(field: str, first: int, last: int) -> ValuesCount | Exists:
    if first == 1 and last >= COUNT_MAX:
        return Exists(field)
    if first > min(last, COUNT_MAX):
        first, last = _EMPTY
    return ValuesCount(field, gte=first, lte=None if last >= COUNT_MAX else last)


def _negated(leaf: Leaf) -> Filter:
    """The negation of a canonical leaf, again as a leaf where the language has one."""
    match leaf:
        case Exists(field):
            return ValuesCount(field, gte=0, lte=0)
        case ValuesCount(field, gte=first, lte=last):
            if last is None and first:
                return _count(field, 0, first - 1)
            if last is not None and not first:
                return _count(field, last + 1, INTEGER_MOST)
    return Not(leaf)


def _joined(
    kind: type[And] | type[Or], parts: Iterable[Filter], negated: bool, analyze: Analyze
) -> Filter:
    flat: dict[str, Filter] = {}  # by text, see canonical()
    for part in parts:
        child = _canonical(part, negated, analyze)
        if isinstance(child, And) and kind is And:
            flat.update((repr(grandchild), grandchild) for grandchild in child.all)
        elif isinstance(child, Or) and kind is Or:
            flat.update((repr(grandchild), grandchild) for grandchild in child.any)
        else:
            flat[repr(child)] = child
    children = _with_equalities_joined(kind, flat.values())
    return children[0] if len(children) == 1 else kind(children)


def _with_equalities_joined(
    kind: type[And] | type[Or], parts: Iterable[Filter]
) -> tuple[Filter, ...]:
    """Equalities of one field as one condition, if it stays within `VALUES_MAX`; all in order.

    Either-or of equalities is `In`, all of them is `HasAll`; under a negation it is the other way.
    """
    groups: dict[tuple[str, bool], dict[str, Leaf]] = {}
    out: dict[str, Filter] = {}
    for part in parts:
        leaf = part.filter if isinstance(part, Not) else part
        negated = isinstance(part, Not)
        joins = HasAll if (kind is And) is not negated else In
        if isinstance(leaf, Equals) or (isinstance(leaf, In | HasAll) and type(leaf) is joins):
            groups.setdefault((leaf.field, negated), {})[repr(leaf)] = leaf
        else:
            out[repr(part)] = part
    for (field, negated), leaves in groups.items():
        keys = {key for leaf in leaves.values() for key in _values_of(leaf)}
        joins = HasAll if (kind is And) is not negated else In
        joined = [_of_values(joins, field, keys)] if len(keys) <= VALUES_MAX else leaves.values()
        for leaf in joined:
            part = Not(leaf) if negated else leaf
            out[repr(part)] = part
    return tuple(out[text] for text in sorted(out))


def _values_of(leaf: Leaf) -> set[Key]:
    match leaf:
        case Equals(_, value):
            return {key_of(value)}
        case In(_, values) | HasAll(_, values):
            return {key_of(value) for value in values}
    raise AssertionError(f"{leaf!r} lists no values")


def _of_values(kind: type[In] | type[HasAll], field: str, keys: set[Key]) -> Leaf:
    values = tuple(_scalar(key) for key in sorted(keys))
    return Equals(field, values[0]) if len(values) == 1 else kind(field, values)


def _scalar(key: Key) -> Scalar:
    kind, value = key
    return bool(value) if kind == BOOLEAN else value
