"""Filters: when they are valid, and their one canonical form. `conditions` says what they mean.

The canonical form is what caches are keyed by and what plans are made of. Filters that differ only
in nesting, order, repetition, where a negation stands, how a bound or a value is written, or in
equalities of one field that are listed one by one or at once, have one canonical form.
"""

from __future__ import annotations

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
from engine.index.filter_limits import (
    CONDITIONS_MAX,
    COUNT_MAX,
    DEPTH_MAX,
    FIELD_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    VALUES_MAX,
    check_conditions,
    check_depth,
    check_values,
    validate,
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
    "check_conditions",
    "check_depth",
    "check_values",
    "instant_of",
    "key_of",
    "matches",
    "plain_words",
    "validate",
]

_EMPTY = 1, 0
"""The first and the last of a range with nothing in it, however it was written."""


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
