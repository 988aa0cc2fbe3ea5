"""Conditions on payloads: `(Field("year") >= 2020) & ~Field("lang").one_of("de", "fr")`."""

from __future__ import annotations

from typing import NoReturn

from google.protobuf import struct_pb2, text_format

from ragmesh._errors import InvalidFilter
from ragmesh._values import to_value
from ragmesh.api.retrieval.v1 import filter_pb2

FilterValue = str | int | float | bool


class Filter:
    """A condition on payloads. Made by `Field`, joined by `&`, `|` and `~`."""

    __slots__ = ("_message",)

    def __init__(self, message: filter_pb2.Filter) -> None:
        self._message = message

    def to_proto(self) -> filter_pb2.Filter:
        """A copy as the contract's message."""
        return filter_pb2.Filter.FromString(self._message.SerializeToString())

    def __and__(self, other: Filter) -> Filter:
        parts = [*_parts(self, "all_of"), *_parts(other, "all_of")]
        return Filter(filter_pb2.Filter(all_of=filter_pb2.FilterList(filters=parts)))

    def __or__(self, other: Filter) -> Filter:
        parts = [*_parts(self, "any_of"), *_parts(other, "any_of")]
        return Filter(filter_pb2.Filter(any_of=filter_pb2.FilterList(filters=parts)))

    def __invert__(self) -> Filter:
        return Filter(
            filter_pb2.Filter(none_of=filter_pb2.FilterList(filters=_parts(self, "any_of")))
        )

    def __eq__(self, other: object) -> bool:
        return self._message == other._message if isinstance(other, Filter) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._message.SerializeToString(deterministic=True))

    def __bool__(self) -> NoReturn:
        # `a and b`, `not a` and `1 < Field("x") < 3` would silently drop a condition.
        raise TypeError("A Filter has no truth value: join filters with &, | and ~.")

    def __repr__(self) -> str:
        return f"Filter({text_format.MessageToString(self._message, as_one_line=True)})"


class Field:
    """A payload's field; keys of nested objects are joined by dots.

    Where the field holds an array, a condition is true if any element meets it.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not name:
            raise InvalidFilter("A field's name is empty: give a key of the payload.")
        self.name = name

    def __eq__(self, value: FilterValue) -> Filter:  # type: ignore[override]
        message = filter_pb2.FieldEquals(field=self.name, value=_value(self.name, value))
        return Filter(filter_pb2.Filter(equals=message))

    def __ne__(self, value: FilterValue) -> Filter:  # type: ignore[override]
        return ~(self == value)

    __hash__ = None  # type: ignore[assignment]

    def __gt__(self, value: FilterValue) -> Filter:
        return self.between(gt=value)

    def __ge__(self, value: FilterValue) -> Filter:
        return self.between(gte=value)

    def __lt__(self, value: FilterValue) -> Filter:
        return self.between(lt=value)

    def __le__(self, value: FilterValue) -> Filter:
        return self.between(lte=value)

    def one_of(self, *values: FilterValue) -> Filter:
        """True if the field equals one of 1 to 1,024 values."""
        message = filter_pb2.FieldIn(
            field=self.name, values=[_value(self.name, value) for value in values]
        )
        return Filter(filter_pb2.Filter(one_of=message))

    def between(
        self,
        *,
        gt: FilterValue | None = None,
        gte: FilterValue | None = None,
        lt: FilterValue | None = None,
        lte: FilterValue | None = None,
    ) -> Filter:
        """True if the field lies within the bounds given; all numbers or all strings."""
        given = {"gt": gt, "gte": gte, "lt": lt, "lte": lte}
        bounds = {k: _value(self.name, v) for k, v in given.items() if v is not None}
        if not bounds:
            raise InvalidFilter(f"The range of field {self.name!r} has no bound: give one.")
        return Filter(filter_pb2.Filter(range=filter_pb2.FieldRange(field=self.name, **bounds)))

    def exists(self) -> Filter:
        """True if the field is there and not null."""
        return Filter(filter_pb2.Filter(exists=filter_pb2.FieldExists(field=self.name)))

    def __repr__(self) -> str:
        return f"Field({self.name!r})"


def to_message(condition: Filter | None) -> filter_pb2.Filter | None:
    """The contract's message, for requests."""
    if condition is None:
        return None
    if not isinstance(condition, Filter):
        raise InvalidFilter(
            f"A filter is made of Field, not {type(condition).__name__}: "
            'write, say, Field("year") >= 2020.'
        )
    return condition.to_proto()


def _parts(condition: Filter, kind: str) -> list[filter_pb2.Filter]:
    """A list's own conditions, so that `a & b & c` stays one level deep."""
    message = condition._message
    if message.WhichOneof("condition") == kind:
        inner: filter_pb2.FilterList = getattr(message, kind)
        return list(inner.filters)
    return [message]


def _value(field: str, value: FilterValue) -> struct_pb2.Value:
    if not isinstance(value, str | int | float | bool):
        raise InvalidFilter(
            f"Field {field!r} is compared with {value!r}: give a string, number or boolean "
            "(for null, use ~Field(...).exists()).",
            metadata={"field": field},
        )
    return to_value(value, field)
