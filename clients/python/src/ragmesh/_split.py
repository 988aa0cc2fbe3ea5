"""Batches cut into requests that keep the contract's limits of items and bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from ragmesh._errors import MessageTooLarge
from ragmesh._names import refuse
from ragmesh._plan import MESSAGE_BYTES_MAX, Plan, send
from ragmesh._rpcs import Req, Res, Rpc
from ragmesh._session import Lane, Session

I = TypeVar("I")  # noqa: E741

# A repeated field's tag and length, at most.
_FRAME_BYTES = 6


def text_bytes(text: str) -> int:
    """The text's size on the wire."""
    return len(text.encode()) if not text.isascii() else len(text)


def checked_texts(texts: Iterable[str], field: str) -> list[str]:
    """The texts; raises InvalidField for a lone string, whose characters are not meant."""
    if isinstance(texts, str):
        raise refuse(field, "is one string; give a list of strings.")
    listed = list(texts)
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise refuse(f"{field}[{index}]", f"is of type {type(text).__name__}; give strings.")
    return listed


def split(
    items: Iterable[I], base: Message, *, items_max: int, size: Callable[[I], int]
) -> Iterator[list[I]]:
    """Lists of at most `items_max` that fit into one message beside `base`; at least one list.

    Raises MessageTooLarge for an item that fits into none.
    """
    room = MESSAGE_BYTES_MAX - base.ByteSize() - 2 * _FRAME_BYTES
    part: list[I] = []
    used = 0
    full_once = False
    for index, item in enumerate(items):
        item_bytes = size(item) + _FRAME_BYTES
        if item_bytes > room:
            raise MessageTooLarge(
                f"Item {index} has {item_bytes - _FRAME_BYTES} bytes; the limit of a message is "
                f"{MESSAGE_BYTES_MAX} bytes (16 MiB). Make it smaller.",
                metadata={
                    "index": str(index),
                    "size_bytes": str(item_bytes - _FRAME_BYTES),
                    "size_bytes_max": str(MESSAGE_BYTES_MAX),
                },
            )
        if part and (len(part) == items_max or used + item_bytes > room):
            yield part
            part, used, full_once = [], 0, True
        part.append(item)
        used += item_bytes
    if part or not full_once:
        yield part


def send_halving(
    session: Session,
    rpc: Rpc[Req, Res],
    items: Sequence[I],
    make: Callable[[Sequence[I]], Req],
    *,
    timeout_s: float | None,
    lane: Lane | None = None,
) -> Plan[list[Res]]:
    """One request for all items, or for halves of them where the answer would be too large."""
    request = make(items)
    try:
        response = yield from send(session, rpc, request, timeout_s=timeout_s, lane=lane)
    except MessageTooLarge:
        if len(items) < 2:
            raise
    else:
        return [response]
    middle = len(items) // 2
    joined: list[Res] = []
    for half in (items[:middle], items[middle:]):
        part = send_halving(session, rpc, half, make, timeout_s=timeout_s, lane=lane)
        joined += yield from part
    return joined
