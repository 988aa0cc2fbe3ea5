"""Conditions on payloads: what they mean, when they are valid, and their one canonical form.

What a field means. A payload is a JSON object and a field is a dotted path into it: `a.b` is the
value of `b` inside the object `a` (or the value of a key spelled `a.b`). Arrays are transparent: a
condition on a field holds if any element satisfies it, also for arrays of objects. Values have
kinds, and a value of one kind never equals or orders against a value of another: numbers (int and
float alike, compared as IEEE 754 doubles, the number type of JSON and of the wire), strings
(ordered by code point, so ISO 8601 dates of one format order by time), and booleans (equality
only). `Not` is plain negation: it also holds where the field is missing.

`matches` is the meaning, one payload at a time; `payloads.PayloadIndex` computes the same for many
rows at once, and is tested to agree with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from engine.errors import InvalidFilter
from engine.types import JsonValue, Payload, Scalar

DEPTH_MAX = 16
CONDITIONS_MAX = 256
VALUES_MAX = 1_024
FIELD_CHARACTERS_MAX = 256


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
class Exists:
    """The field has a value that is neither null nor an empty array."""

    field: str


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


Filter: TypeAlias = Equals | In | Range | Exists | And | Or | Not

Key: TypeAlias = tuple[int, float | str]
"""A scalar with its kind, (0, bool), (1, number) or (2, string); ordered within a kind."""

BOOLEAN, NUMBER, STRING = 0, 1, 2


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


def matches(filter: Filter, payload: Payload) -> bool:
    """Whether a payload satisfies a valid filter. The oracle: slow and obvious."""
    match filter:
        case Equals(field, value):
            return key_of(value) in set(_keys(payload, field))
        case In(field, values):
            return not {key_of(value) for value in values}.isdisjoint(_keys(payload, field))
        case Range(field):
            return any(within(key, filter) for key in _keys(payload, field))
        case Exists(field):
            return any(value is not None for value in _values(payload, field))
        case And(parts):
            return all(matches(part, payload) for part in parts)
        case Or(parts):
            return any(matches(part, payload) for part in parts)
        case Not(part):
            return not matches(part, payload)


def _keys(payload: Payload, field: str) -> Iterator[Key]:
    for value in _values(payload, field):
        if isinstance(value, bool | int | float | str):
            yield key_of(value)


def _values(value: JsonValue, field: str) -> Iterator[JsonValue]:
    """What a path leads to: scalars, nulls and objects, arrays taken apart."""
    if isinstance(value, Mapping):
        if field in value:
            yield from _elements(value[field])
        for dot in (i for i, character in enumerate(field) if character == "."):
            if field[:dot] in value:
                for element in _elements(value[field[:dot]]):
                    if isinstance(element, Mapping):
                        yield from _values(element, field[dot + 1 :])


def _elements(value: JsonValue) -> Iterator[JsonValue]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        for element in value:
            yield from _elements(element)
    else:
        yield value


def validate(filter: Filter) -> None:
    """Refuse what cannot be read.

    Raises InvalidFilter: nested deeper than `DEPTH_MAX`, more than `CONDITIONS_MAX` parts in all,
    an empty or too long list, field or range, bounds of different kinds, or a value that is no
    finite scalar.
    """
    conditions = 0
    open_parts: list[tuple[Filter, int]] = [(filter, 1)]
    while open_parts:
        part, depth = open_parts.pop()
        conditions += 1
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


def _validate_leaf(leaf: Equals | In | Range | Exists) -> None:
    if not 1 <= len(leaf.field) <= FIELD_CHARACTERS_MAX:
        raise InvalidFilter(
            f"a field path has {len(leaf.field)} characters; give 1 to {FIELD_CHARACTERS_MAX}",
            field="filter",
            metadata={"characters": len(leaf.field), "characters_max": FIELD_CHARACTERS_MAX},
        )
    match leaf:
        case Equals(field, value):
            _validate_scalar(field, value)
        case In(field, values):
            if not 1 <= len(values) <= VALUES_MAX:
                raise InvalidFilter(
                    f"`in` on {field!r} lists {len(values)} values; give 1 to {VALUES_MAX}",
                    field="filter",
                    metadata={"path": field, "values": len(values), "values_max": VALUES_MAX},
                )
            for value in values:
                _validate_scalar(field, value)
        case Range(field, gt, gte, lt, lte):
            bounds = [bound for bound in (gt, gte, lt, lte) if bound is not None]
            for bound in bounds:
                _validate_scalar(field, bound)
            if len({key_of(bound)[0] for bound in bounds} - {BOOLEAN}) != 1 or any(
                isinstance(bound, bool) for bound in bounds
            ):
                raise InvalidFilter(
                    f"the range on {field!r} needs at least one bound, all numbers or all strings",
                    field="filter",
                    metadata={"path": field},
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


def canonical(filter: Filter) -> Filter:
    """The one form of a filter under nesting, order, repetition and double negation.

    Raises InvalidFilter as `validate` does. Compare canonical filters, or key a cache, by
    `canonical_text`: to Python `Equals("a", True)` and `Equals("a", 1.0)` are equal.
    """
    validate(filter)
    return _canonical(filter)


def canonical_text(filter: Filter) -> str:
    """The canonical form as text: filters with the same text match the same payloads."""
    return repr(canonical(filter))


def _canonical(filter: Filter) -> Filter:
    match filter:
        case Equals(field, value):
            return Equals(field, _scalar(key_of(value)))
        case In(field, values):
            keys = sorted({key_of(value) for value in values})
            if len(keys) == 1:
                return Equals(field, _scalar(keys[0]))
            return In(field, tuple(_scalar(key) for key in keys))
        case Range(field):
            bounds = (filter.gt, filter.gte, filter.lt, filter.lte)
            scalars = [None if bound is None else _bound(bound) for bound in bounds]
            return Range(field, *scalars)
        case Exists():
            return filter
        case Not(part):
            inner = _canonical(part)
            return inner.filter if isinstance(inner, Not) else Not(inner)
        case And(parts):
            children = _children(parts, And)
            return children[0] if len(children) == 1 else And(children)
        case Or(parts):
            children = _children(parts, Or)
            return children[0] if len(children) == 1 else Or(children)


def _children(parts: tuple[Filter, ...], kind: type[And] | type[Or]) -> tuple[Filter, ...]:
    flat: dict[str, Filter] = {}  # by text, see canonical()
    for part in map(_canonical, parts):
        match part:
            case And(grandchildren) if kind is And:
                flat.update((repr(child), child) for child in grandchildren)
            case Or(grandchildren) if kind is Or:
                flat.update((repr(child), child) for child in grandchildren)
            case _:
                flat[repr(part)] = part
    return tuple(flat[text] for text in sorted(flat))


def _scalar(key: Key) -> Scalar:
    kind, value = key
    return bool(value) if kind == BOOLEAN else value


def _bound(bound: int | float | str) -> float | str:
    return key_of(bound)[1]
