"""Server-sent events out of bytes, as the HTML standard says, with bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator

EVENT_BYTES_MAX = 1 << 20
"""Of the data of one event, and of one line."""

_END = re.compile(rb"\r\n|\n|\r")


class EventTooLarge(ValueError):
    """An event, or a line, is over EVENT_BYTES_MAX."""


class EventReader:
    """Takes bytes as they come, and gives the data of each event that is complete."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._after_return = False

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The data of the events that end in `chunk`. Raises EventTooLarge, and UnicodeDecodeError
        (a ValueError too) for what is no UTF-8."""
        start = 0
        if self._after_return and chunk:
            # The line ended with what came before; this is the other half of its CRLF.
            start = 1 if chunk[:1] == b"\n" else 0
            self._after_return = False
        for end in _END.finditer(chunk, start):
            self._line += chunk[start : end.start()]
            start = end.end()
            self._bound(len(self._line))
            yield from self._ended(bytes(self._line))
            self._line.clear()
        self._after_return = chunk[-1:] == b"\r"
        self._line += chunk[start:]
        self._bound(len(self._line))

    def _ended(self, line: bytes) -> Iterator[str]:
        if not line:
            if self._data:
                data = b"\n".join(self._data).decode()
                self._data, self._size = [], 0
                yield data
            return
        name, _, value = line.partition(b":")
        if name != b"data":  # a comment, or the event's name, which its data repeats
            return
        value = value.removeprefix(b" ")
        self._size += len(value) + 1
        self._bound(self._size)
        self._data.append(value)

    def _bound(self, size: int) -> None:
        if size > EVENT_BYTES_MAX:
            raise EventTooLarge(f"{size:,} bytes")
