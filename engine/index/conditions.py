"""Conditions on payloads and what they mean, one payload at a time.

What a field means. A payload is a JSON object and a field is a dotted path into it: `a.b` is the
value of `b` inside the object `a` (or the value of a key spelled `a.b`). Arrays are transparent: a
condition on a field holds if any element satisfies it, also for arrays of objects. Values have
kinds, and a value of one kind never equals or orders against a value of another: numbers (int and
float alike, compared as IEEE 754 doubles, the number type of JSON and of the wire), strings
(ordered by code point), and booleans (equality only). Strings that name an instant (see
`instants`) can also be compared as instants, whatever their offsets. `Not` is plain negation: it
also holds where the field is missing.

`matches` is the meaning; `payloads.PayloadIndex` and `sealed_payloads.SealedPayloads` compute the
same for many rows at once, and are tested to agree with it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from engine.index.instants import instant_of
from engine.types import JsonValue, Payload, Scalar

Analyze: TypeAlias = Callable[[str], Sequence[str]]
"""The words of a text, as a collection's language takes them apart: folded, stemmed."""


@dataclass(frozen=True, slots=True)
class Equals:
    """The field has this value."""

    field: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class In:
    """The field has one of these 1 to `VALUES_MAX` values."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class HasAll:
    """The field has every one of these 1 to `VALUES_MAX` values: an array with all of them."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The field has a value inside all the bounds given; at least one, all numbers or all strings.

    In an array one and the same element has to satisfy all of them.
    """

    field: str
    gt: int | float | str | None = None
    gte: int | float | str | None = None
    lt: int | float | str | None = None
    lte: int | float | str | None = None


@dataclass(frozen=True, slots=True)
class DatetimeRange:
    """The field has a string that names an instant inside all the bounds given; at least one.

    A bound is RFC 3339 text, or an integer, microseconds since 1970. In an array one and the same
    element has to satisfy all of them. Strings that name no instant are in no range.
    """

    field: str
    gt: str | int | None = None
    gte: str | int | None = None
    lt: str | int | None = None
    lte: str | int | None = None


@dataclass(frozen=True, slots=True)
class HasWords:
    """The field has a string with all words of `text`, or with `any` of them.

    Words are compared as analyzed; their order and number do not matter. In an array one and the
    same element has to have them. `text` as a tuple is words analyzed before.
    """

    field: str
    text: str | tuple[str, ...]
    any: bool = False


@dataclass(frozen=True, slots=True)
class Exists:
    """The field has a value that is neither null nor an empty array."""

    field: str


@dataclass(frozen=True, slots=True)
class IsNull:
    """The field is there and null, or an array with a null in it; a missing field is not null."""

    field: str


@dataclass(frozen=True, slots=True)
class ValuesCount:
    """The field has a number of values inside all the bounds given; at least one, 0 or more.

    Arrays count their elements, nested ones too, nulls left out. A missing field has 0 values, any
    scalar or object 1.
    """

    field: str
    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None


@dataclass(frozen=True, slots=True)
class And:
    """All of these, at least one."""

    all: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of these, at least one."""

    any: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The filter does not hold; true for a missing field."""

    filter: Filter


Leaf: TypeAlias = (
    Equals | In | HasAll | Range | DatetimeRange | HasWords | Exists | IsNull | ValuesCount
)
Filter: TypeAlias = Leaf | And | Or | Not

Key: TypeAlias = tuple[int, float | str]
"""A scalar with its kind, (0, bool), (1, number) or (2, string); ordered within a kind."""

BOOLEAN, NUMBER, STRING = 0, 1, 2

_WORD = re.compile(r"\w+")


def plain_words(text: str) -> list[str]:
    """Words as they stand, without regard to case: the analysis where none is given."""
    return _WORD.findall(text.casefold())


def key_of(value: Scalar) -> Key:
    """The kind and comparable form of a scalar. An integer beyond a double's range is infinite."""
    if isinstance(value, bool):
        return BOOLEAN, float(value)
    if isinstance(value, str):
        return STRING, value
    try:
        return NUMBER, float(value) + 0.0  # + 0.0 turns -0.0 into 0.0
    except OverflowError:
        return NUMBER, math.inf if value > 0 else -math.inf


def within(key: Key, bounds: Range) -> bool:
    """Whether one scalar lies in a range; never for another kind than the bounds'."""
    kind, value = key
    for bound, strict, sign in (
        (bounds.gt, True, 1),
        (bounds.gte, False, 1),
        (bounds.lt, True, -1),
        (bounds.lte, False, -1),
    ):
        if bound is None:
            continue
        bound_kind, limit = key_of(bound)
        if kind != bound_kind or kind == BOOLEAN:
            return False
        low, high = (limit, value) if sign > 0 else (value, limit)
        if not (low < high or (not strict and low == high)):  # type: ignore[operator]
            return False
    return True


INTEGER_LEAST, INTEGER_MOST = -(2**62), 2**62
"""Where an open side of a range of instants or counts ends: beyond anything there is."""


def closed(bounds: DatetimeRange | ValuesCount) -> tuple[int, int]:
    """The first and the last integer of a valid range: microseconds since 1970, or a count."""
    first, last = INTEGER_LEAST, INTEGER_MOST
    if bounds.gt is not None:
        first = _integer(bounds.gt) + 1
    if bounds.gte is not None:
        first = max(first, _integer(bounds.gte))
    if bounds.lt is not None:
        last = _integer(bounds.lt) - 1
    if bounds.lte is not None:
        last = min(last, _integer(bounds.lte))
    return first, last


def _integer(bound: str | int) -> int:
    if not isinstance(bound, str):
        return bound
    found = instant_of(bound)
    if found is None:
        raise AssertionError(f"{bound!r} is no instant: validate the filter first")
    return found


def words_of(leaf: HasWords, analyze: Analyze) -> tuple[str, ...]:
    """The distinct words a condition looks for, in order."""
    words = analyze(leaf.text) if isinstance(leaf.text, str) else leaf.text
    return tuple(sorted(set(words)))


def matches(filter: Filter, payload: Payload, analyze: Analyze = plain_words) -> bool:
    """Whether a payload satisfies a valid filter. The oracle: slow and obvious."""
    match filter:
        case And(parts):
            return all(matches(part, payload, analyze) for part in parts)
        case Or(parts):
            return any(matches(part, payload, analyze) for part in parts)
        case Not(part):
            return not matches(part, payload, analyze)
        case _:
            return _leaf_matches(filter, list(values_at(payload, filter.field)), analyze)


def _leaf_matches(leaf: Leaf, values: list[JsonValue], analyze: Analyze) -> bool:
    scalars = [value for value in values if isinstance(value, bool | int | float | str)]
    strings = [value for value in scalars if isinstance(value, str)]
    match leaf:
        case Equals(_, value):
            return key_of(value) in set(map(key_of, scalars))
        case In(_, wanted):
            return not set(map(key_of, wanted)).isdisjoint(map(key_of, scalars))
        case HasAll(_, wanted):
            return set(map(key_of, wanted)).issubset(map(key_of, scalars))
        case Range():
            return any(within(key_of(value), leaf) for value in scalars)
        case DatetimeRange():
            first, last = closed(leaf)
            times = [instant_of(string) for string in strings]
            return any(time is not None and first <= time <= last for time in times)
        case HasWords():
            words = set(words_of(leaf, analyze))
            found = [words.intersection(analyze(string)) for string in strings]
            return any(bool(some) if leaf.any else some == words for some in found)
        case Exists():
            return any(value is not None for value in values)
        case IsNull():
            return any(value is None for value in values)
        case ValuesCount():
            first, last = closed(leaf)
            return first <= sum(value is not None for value in values) <= last


def values_at(value: JsonValue, field: str) -> Iterator[JsonValue]:
    """What a path leads to: scalars, nulls and objects, arrays taken apart."""
    if isinstance(value, Mapping):
        if field in value:
            yield from _elements(value[field])
        for dot in (i for i, character in enumerate(field) if character == "."):
            if field[:dot] in value:
                for element in _elements(value[field[:dot]]):
                    if isinstance(element, Mapping):
                        yield from values_at(element, field[dot + 1 :])


def _elements(value: JsonValue) -> Iterator[JsonValue]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        for element in value:
            yield from _elements(element)
    else:
        yield value


def flatten(value: JsonValue, path: str | None = None) -> Iterator[tuple[str, JsonValue]]:
    """Every path of a payload with each scalar, null or object it leads to; None is the root.

    Each path comes with exactly the values that a condition on it looks at.
    """
    if isinstance(value, (dict, Mapping)):
        if path is not None:
            yield path, value
        for key, child in value.items():
            inner = key if path is None else f"{path}.{key}"
            if type(child) in _PLAIN:
                yield inner, child
            else:
                yield from flatten(child, inner)
    elif isinstance(value, (list, Sequence)) and not isinstance(value, str):
        for element in value:
            if type(element) in _PLAIN and path is not None:
                yield path, element
            else:
                yield from flatten(element, path)
    elif path is not None:
        yield path, value


_PLAIN = frozenset({bool, int, float, str, type(None)})
"""Looked up instead of asked: a segment's payloads have millions of values."""
