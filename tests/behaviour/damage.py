"""Ways in which bytes on the wire can be wrong, whatever the message means."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any
from urllib.parse import quote

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.behaviour.transcoding import HttpRequest

MIB = 1 << 20
LARGE_BYTES = 17 * MIB
_MARK = "broken-utf-8"


class Damage(Enum):
    """What is wrong."""

    UNKNOWN_FIELD = "a field that the contract does not have"
    BAD_UTF8 = "a text whose bytes are no UTF-8"
    NOT_A_MESSAGE = "bytes that are no message, or a body that is no JSON"
    TOO_LARGE = "a message, or a body, of 17 MiB"


def damaged_bytes(request: Message, damage: Damage) -> bytes:
    """The message's bytes with the damage done."""
    data = request.SerializeToString()
    if damage is Damage.UNKNOWN_FIELD:
        return data + _varint(2047 << 3) + b"\x01"
    if damage is Damage.BAD_UTF8:
        return data + _text(request.DESCRIPTOR, b"\xff\xfe")
    if damage is Damage.TOO_LARGE:
        return data + _text(request.DESCRIPTOR, b"x" * LARGE_BYTES)
    return data + b"\x0a\xff"  # a length that the bytes do not have


def damaged_http(
    request: HttpRequest, damage: Damage, *, listing: bool
) -> tuple[str, str, bytes | None]:
    """Verb, path with query, and body, with the damage done. A `listing` has a page token."""
    query = "&".join(f"{name}={quote(value)}" for name, value in request.params.items())
    path = f"{request.path}?{query}" if query else request.path
    if damage is Damage.TOO_LARGE:
        return request.verb, path, b" " * LARGE_BYTES
    if damage is Damage.NOT_A_MESSAGE:
        return request.verb, path, b'{"a": ['
    if request.json is None:
        return request.verb, _damaged_url(request, path, damage, listing), None
    if damage is Damage.UNKNOWN_FIELD:
        return request.verb, path, json.dumps({**request.json, "noSuchField": 1}).encode()
    body = json.dumps({**request.json, "displayName": _MARK}).encode()
    return request.verb, path, body.replace(_MARK.encode(), b"\xff\xfe")


def _damaged_url(request: HttpRequest, path: str, damage: Damage, listing: bool) -> str:
    joint = "&" if request.params else "?"
    if damage is Damage.UNKNOWN_FIELD:
        return f"{path}{joint}noSuchField=1"
    if listing:
        return f"{path}{joint}pageToken=%FF%FE"
    name, colon, verb = path.partition(":")
    return f"{name}%FF%FE{colon}{verb}"


def _text(kind: Any, value: bytes) -> bytes:
    """The first text field of a message, however deep, with this value."""
    found = _text_field(kind, 4)
    assert found is not None, kind.full_name
    for number in reversed(found):
        value = _varint(number << 3 | 2) + _varint(len(value)) + value
    return value


def _text_field(kind: Any, depth: int) -> list[int] | None:
    for one in kind.fields:
        if one.type == FieldDescriptor.TYPE_STRING:
            return [one.number]
    for one in kind.fields:
        if one.message_type is not None and depth:
            found = _text_field(one.message_type, depth - 1)
            if found is not None:
                return [one.number, *found]
    return None


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
