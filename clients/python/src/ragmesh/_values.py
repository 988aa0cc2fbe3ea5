"""Payloads, times and enums between Python and Protobuf."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf import struct_pb2, timestamp_pb2
from google.protobuf.descriptor import EnumDescriptor

from ragmesh._names import refuse

# The largest magnitude up to which a JSON number (a double) holds every integer.
INTEGER_MAX = 2**53


def to_value(value: object, field: str) -> struct_pb2.Value:
    """A JSON value; raises InvalidField for what JSON cannot hold exactly."""
    if value is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    if isinstance(value, int | float):
        if isinstance(value, int) and abs(value) > INTEGER_MAX:
            raise refuse(field, f"is {value}, which JSON cannot hold exactly: give a string.")
        if not math.isfinite(value):
            raise refuse(field, f"is {value}, which JSON has no number for.")
        return struct_pb2.Value(number_value=value)
    if isinstance(value, Mapping):
        return struct_pb2.Value(struct_value=to_struct(value, field))
    if isinstance(value, list | tuple):
        items = [to_value(item, f"{field}[{i}]") for i, item in enumerate(value)]
        return struct_pb2.Value(list_value=struct_pb2.ListValue(values=items))
    raise refuse(field, f"is of type {type(value).__name__}; give JSON values.")


def to_struct(payload: Mapping[str, object], field: str = "payload") -> struct_pb2.Struct:
    """A JSON object; raises InvalidField for what JSON cannot hold exactly."""
    result = struct_pb2.Struct()
    for key, value in payload.items():
        if not isinstance(key, str):
            raise refuse(field, f"has the key {key!r}; keys are strings.")
        result.fields[key].CopyFrom(to_value(value, f"{field}.{key}"))
    return result


def from_value(value: struct_pb2.Value) -> Any:
    """Plain Python; whole numbers come back as `int`."""
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    match kind:
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [from_value(item) for item in value.list_value.values]
        case _:
            return None


def from_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Plain Python; whole numbers come back as `int`."""
    return {key: from_value(value) for key, value in struct.fields.items()}


def from_time(message: timestamp_pb2.Timestamp) -> datetime | None:
    """An aware time in UTC; None if it is unset."""
    if not message.seconds and not message.nanos:
        return None
    return message.ToDatetime(tzinfo=UTC)


def _enum_prefix(enum: EnumDescriptor) -> str:
    """`METRIC_` of Metric: the part that each of an enum's names begins with."""
    return enum.values_by_number[0].name.removesuffix("UNSPECIFIED")


def to_enum(enum: EnumDescriptor, text: str, field: str) -> Any:
    """The number of a lowercase name; empty is the enum's neutral zero."""
    if not text:
        return 0
    prefix = _enum_prefix(enum)
    names = {v.name.removeprefix(prefix).lower(): v.number for v in enum.values if v.number}
    if text not in names:
        raise refuse(field, f"is {text!r}; give one of {', '.join(sorted(names))}.")
    return names[text]


def from_enum(enum: EnumDescriptor, number: int) -> str:
    """The lowercase name; `unspecified` for numbers of a newer server."""
    known = enum.values_by_number.get(number) or enum.values_by_number[0]
    return known.name.removeprefix(_enum_prefix(enum)).lower()
