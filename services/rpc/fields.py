"""The checks that requests share. Each raises InvalidField with the value, the bound and the
field, whatever the state."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sized
from functools import cache

from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from engine.errors import InvalidField


def required(value: Sized, field: str) -> None:
    """A text or list that may not be empty."""
    if not value:
        raise InvalidField(f"{field} is missing.", field=field, metadata={"field": field})


def items(value: Sized, field: str, most: int, least: int = 1) -> None:
    """A list of `least` to `most` items."""
    if not least <= len(value) <= most:
        raise InvalidField(
            f"{field} has {len(value):,} items, but takes {least:,} to {most:,}. "
            "Split it into several requests.",
            field=field,
            metadata={"field": field, "items": len(value), "items_min": least, "items_max": most},
        )


def characters(value: str, field: str, most: int, least: int = 0) -> None:
    """A text of `least` to `most` characters."""
    if not least <= len(value) <= most:
        raise InvalidField(
            f"{field} has {len(value):,} characters, but takes {least:,} to {most:,}.",
            field=field,
            metadata={
                "field": field,
                "characters": len(value),
                "characters_min": least,
                "characters_max": most,
            },
        )


def storable(value: str, field: str) -> None:
    """A text without U+0000, which PostgreSQL cannot keep."""
    if "\0" in value:
        raise InvalidField(
            f"{field} contains U+0000, which cannot be stored. Remove it.",
            field=field,
            metadata={"field": field},
        )


def number(value: float, field: str, least: float, most: float) -> None:
    """A number from `least` to `most`; not a number fails."""
    if not least <= value <= most:
        raise InvalidField(
            f"{field} is {value:,}, but lies between {least:,} and {most:,}.",
            field=field,
            metadata={"field": field, "value": value, "min": least, "max": most},
        )


def request_id(value: str) -> None:
    """Empty or a UUID."""
    if not value:
        return
    try:
        uuid.UUID(value)
    except ValueError as error:
        raise InvalidField(
            "request_id is not a UUID. Make one for each new request, and repeat it only when "
            "the same request is sent again.",
            field="request_id",
        ) from error


def watermark(value: str, field: str = "min_watermark") -> int:
    """The commit number of a watermark; 0 for an empty one."""
    if not value:
        return 0
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise InvalidField(
            f"{field} is not a watermark. Pass one as a write returned it.", field=field
        )
    return int(value)


def enum(message: Message, field: str) -> None:
    """An enum field whose number has a name."""
    value = getattr(message, field)
    name, numbers = _enum(message.DESCRIPTOR, field)
    if value not in numbers:
        raise InvalidField(
            f"{field} is {value}, which {name} does not have.",
            field=field,
            metadata={"field": field, "value": value},
        )


@cache
def _enum(message: Descriptor, field: str) -> tuple[str, frozenset[int]]:
    """The name and the numbers of a field's enum: as many as the contract has."""
    kind = message.fields_by_name[field].enum_type
    assert kind is not None
    return kind.name, frozenset(kind.values_by_number)


def payload(value: struct_pb2.Struct, field: str, bytes_max: int) -> None:
    """A payload: at most `bytes_max` bytes, and only numbers that JSON has."""
    size = value.ByteSize()
    if size > bytes_max:
        raise InvalidField(
            f"{field} has {size:,} bytes; at most {bytes_max:,} are kept. Keep large things "
            "elsewhere, and a reference here.",
            field=field,
            metadata={"field": field, "bytes": size, "bytes_max": bytes_max},
        )
    if size and not _finite(value):
        raise InvalidField(
            f"{field} has a number that is not finite, which JSON cannot say.", field=field
        )


def _finite(value: struct_pb2.Struct | struct_pb2.ListValue) -> bool:
    values = value.fields.values() if isinstance(value, struct_pb2.Struct) else value.values
    for item in values:
        kind = item.WhichOneof("kind")
        if kind == "number_value" and not math.isfinite(item.number_value):
            return False
        if kind == "struct_value" and not _finite(item.struct_value):
            return False
        if kind == "list_value" and not _finite(item.list_value):
            return False
    return True
