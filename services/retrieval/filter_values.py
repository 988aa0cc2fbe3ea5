"""From the contract's filters to those of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf import struct_pb2
from ragmesh.api.retrieval.v1 import filter_pb2

from engine.errors import InvalidFilter
from engine.index import filters
from engine.types import Scalar


def filter_value(message: filter_pb2.Filter) -> filters.Filter:
    """A filter as the engine reads it; the engine checks its bounds.

    Raises InvalidFilter: no condition, a value that is no scalar, or so many levels, conditions or
    values that reading them would take longer than refusing them.
    """
    return _Reader().read(message, 1)


class _Reader:
    """Reads one filter, and counts its conditions."""

    def __init__(self) -> None:
        self._conditions = 0

    def read(self, message: filter_pb2.Filter, depth: int) -> filters.Filter:
        self._conditions += 1
        filters.check_conditions(self._conditions)
        filters.check_depth(depth)
        kind = message.WhichOneof("condition")
        if kind == "all_of":
            return filters.And(self._parts(message.all_of, depth + 1))
        if kind == "any_of":
            return filters.Or(self._parts(message.any_of, depth + 1))
        if kind == "none_of":
            return filters.Not(filters.Or(self._parts(message.none_of, depth + 2)))
        return _leaf(message, kind)

    def _parts(self, parts: filter_pb2.FilterList, depth: int) -> tuple[filters.Filter, ...]:
        return tuple(self.read(part, depth) for part in parts.filters)


def _leaf(message: filter_pb2.Filter, kind: str | None) -> filters.Leaf:
    match kind:
        case "equals":
            return filters.Equals(message.equals.field, _scalar(message.equals.value))
        case "one_of":
            return filters.In(message.one_of.field, _scalars(message.one_of))
        case "has_all":
            return filters.HasAll(message.has_all.field, _scalars(message.has_all))
        case "range":
            bounds = {name: _bound(value) for name, value in _given(message.range).items()}
            return filters.Range(message.range.field, **bounds)
        case "datetime_range":
            times = message.datetime_range
            return filters.DatetimeRange(times.field, **_given(times))
        case "has_words":
            words = message.has_words
            return filters.HasWords(words.field, words.text, words.any)
        case "exists":
            return filters.Exists(message.exists.field)
        case "is_null":
            return filters.IsNull(message.is_null.field)
        case "values_count":
            counts = message.values_count
            return filters.ValuesCount(counts.field, **_given(counts))
    raise InvalidFilter("A filter has no condition. Set exactly one.", field="filter")


def _given(
    message: filter_pb2.FieldRange | filter_pb2.FieldDatetimeRange | filter_pb2.FieldValuesCount,
) -> dict[str, Any]:
    """The bounds that a range has."""
    present = {descriptor.name: value for descriptor, value in message.ListFields()}
    return {name: present[name] for name in ("gt", "gte", "lt", "lte") if name in present}


def _scalars(listed: filter_pb2.FieldIn | filter_pb2.FieldHasAll) -> tuple[Scalar, ...]:
    values: Sequence[struct_pb2.Value] = listed.values
    filters.check_values(listed.field, len(values))
    return tuple(map(_scalar, values))


def _scalar(value: struct_pb2.Value) -> Scalar:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "number_value":
        return value.number_value
    raise InvalidFilter(
        f"A filter compares with {kind or 'nothing'}; it takes strings, numbers and booleans.",
        field="filter",
        metadata={"kind": kind or ""},
    )


def _bound(value: struct_pb2.Value) -> float | str:
    scalar = _scalar(value)
    if isinstance(scalar, bool):
        raise InvalidFilter("A range takes numbers or strings, not booleans.", field="filter")
    return scalar
