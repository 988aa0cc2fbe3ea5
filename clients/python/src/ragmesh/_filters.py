"""Conditions on payloads: `(Field("year") >= 2020) & ~Field("lang").one_of("de", "fr")`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import NoReturn, TypeVar

from google.protobuf import struct_pb2, text_format
from google.protobuf.message import DecodeError

from ragmesh._errors import InvalidFilter
from ragmesh._values import to_value
from ragmesh.api.retrieval.v1 import filter_pb2

FilterValue = str | int | float | bool

FilterTime = datetime | date | str
"""A point in time: a datetime that knows its time zone, a date (its midnight in UTC), or either as
RFC 3339 text, such as `2024-02-29T23:30:00+01:00`."""

_Bound = TypeVar("_Bound")


class Filter:
    """A condition on payloads. Made by `Field`, joined by `&`, `|` and `~`."""

    __slots__ = ("_message",)

    def __init__(self, message: filter_pb2.Filter) -> None:
        self._message = message

    def to_proto(self) -> filter_pb2.Filter:
        """A copy as the contract's message. Raises InvalidFilter if it is nested too deeply."""
        try:
            return filter_pb2.Filter.FromString(self._message.SerializeToString())
        except DecodeError as error:
            raise _too_deep() from error

    def __and__(self, other: Filter) -> Filter:
        return _joined("all_of", [*_parts(self, "all_of"), *_parts(other, "all_of")])

    def __or__(self, other: Filter) -> Filter:
        return _joined("any_of", [*_parts(self, "any_of"), *_parts(other, "any_of")])

    def __invert__(self) -> Filter:
        return _joined("none_of", _parts(self, "any_of"))

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

    def __gt__(self, value: FilterValue | date) -> Filter:
        return self.between(gt=value)

    def __ge__(self, value: FilterValue | date) -> Filter:
        return self.between(gte=value)

    def __lt__(self, value: FilterValue | date) -> Filter:
        return self.between(lt=value)

    def __le__(self, value: FilterValue | date) -> Filter:
        return self.between(lte=value)

    def one_of(self, *values: FilterValue) -> Filter:
        """True if the field equals one of 1 to 1,024 values."""
        message = filter_pb2.FieldIn(
            field=self.name, values=[_value(self.name, value) for value in values]
        )
        return Filter(filter_pb2.Filter(one_of=message))

    def has_all(self, *values: FilterValue) -> Filter:
        """True if the field has every one of 1 to 1,024 values: an array with all of them."""
        message = filter_pb2.FieldHasAll(
            field=self.name, values=[_value(self.name, value) for value in values]
        )
        return Filter(filter_pb2.Filter(has_all=message))

    def between(
        self,
        *,
        gt: FilterValue | date | None = None,
        gte: FilterValue | date | None = None,
        lt: FilterValue | date | None = None,
        lte: FilterValue | date | None = None,
    ) -> Filter:
        """True if the field lies within the bounds given; all numbers or all strings.

        Bounds that are all datetimes or dates are those of `between_times`.
        """
        given: dict[str, FilterValue | date] = self._given(gt=gt, gte=gte, lt=lt, lte=lte)
        times = {k: v for k, v in given.items() if isinstance(v, date)}
        if len(times) == len(given):
            return self._times(times)
        bounds = {k: _value(self.name, v) for k, v in given.items()}
        return Filter(filter_pb2.Filter(range=filter_pb2.FieldRange(field=self.name, **bounds)))

    def between_times(
        self,
        *,
        gt: FilterTime | None = None,
        gte: FilterTime | None = None,
        lt: FilterTime | None = None,
        lte: FilterTime | None = None,
    ) -> Filter:
        """True if the field is an RFC 3339 string that names an instant within the bounds given.

        Instants are compared, to the microsecond, whatever the offsets they are written with.
        """
        return self._times(self._given(gt=gt, gte=gte, lt=lt, lte=lte))

    def has_words(self, text: str, *, any: bool = False) -> Filter:
        """True if the field is a text with all words of `text`, or with `any` of them.

        The collection's language says what a word is: case and, with a stemmer, endings do not
        matter; nor does the order of the words.
        """
        message = filter_pb2.FieldHasWords(field=self.name, text=text, any=any)
        return Filter(filter_pb2.Filter(has_words=message))

    def exists(self) -> Filter:
        """True if the field has a value that is neither null nor an empty array."""
        return Filter(filter_pb2.Filter(exists=filter_pb2.FieldExists(field=self.name)))

    def is_null(self) -> Filter:
        """True if the field is there and null, or an array with a null in it."""
        return Filter(filter_pb2.Filter(is_null=filter_pb2.FieldIsNull(field=self.name)))

    def values_count(
        self,
        *,
        gt: int | None = None,
        gte: int | None = None,
        lt: int | None = None,
        lte: int | None = None,
    ) -> Filter:
        """True if the number of the field's values lies within the bounds given, 0 to 2^31 - 1.

        Arrays count their elements without nulls; a missing field has 0 values, any other 1.
        """
        bounds = self._given(gt=gt, gte=gte, lt=lt, lte=lte)
        for bound in bounds.values():
            if not 0 <= bound < 1 << 31:
                raise InvalidFilter(
                    f"Field {self.name!r} has no {bound} values: give 0 to {(1 << 31) - 1}."
                )
        message = filter_pb2.FieldValuesCount(field=self.name, **bounds)
        return Filter(filter_pb2.Filter(values_count=message))

    def _given(self, **bounds: _Bound | None) -> dict[str, _Bound]:
        given = {name: bound for name, bound in bounds.items() if bound is not None}
        if not given:
            raise InvalidFilter(f"The range of field {self.name!r} has no bound: give one.")
        return given

    def _times(self, bounds: Mapping[str, FilterTime]) -> Filter:
        texts = {name: _time(self.name, bound) for name, bound in bounds.items()}
        message = filter_pb2.FieldDatetimeRange(field=self.name, **texts)
        return Filter(filter_pb2.Filter(datetime_range=message))

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


def _joined(kind: str, parts: Sequence[filter_pb2.Filter]) -> Filter:
    message = filter_pb2.Filter()
    joined: filter_pb2.FilterList = getattr(message, kind)
    try:
        joined.filters.extend(parts)
    except DecodeError as error:  # protobuf copies by decoding, which goes 100 messages deep
        raise _too_deep() from error
    return Filter(message)


def _too_deep() -> InvalidFilter:
    return InvalidFilter(
        "The filter is nested deeper than the 16 levels that a server reads: flatten it."
    )


def _parts(condition: Filter, kind: str) -> list[filter_pb2.Filter]:
    """A list's own conditions, so that `a & b & c` stays one level deep."""
    message = condition._message
    if message.WhichOneof("condition") == kind:
        inner: filter_pb2.FilterList = getattr(message, kind)
        return list(inner.filters)
    return [message]


def _time(field: str, value: FilterTime) -> str:
    if not isinstance(value, datetime):
        return value if isinstance(value, str) else value.isoformat()
    if value.tzinfo is None:
        raise InvalidFilter(
            f"Field {field!r} is compared with {value!r}, which has no time zone and so is no "
            "instant: give it one, such as tzinfo=UTC.",
            metadata={"field": field},
        )
    return value.astimezone(UTC).isoformat()


def _value(field: str, value: FilterValue | date) -> struct_pb2.Value:
    if not isinstance(value, str | int | float | bool):
        raise InvalidFilter(
            f"Field {field!r} is compared with {value!r}: give a string, number or boolean "
            "(for null, use ~Field(...).exists()).",
            metadata={"field": field},
        )
    return to_value(value, field)
