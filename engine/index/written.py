"""Payloads as the JSON that is stored of them, taken apart when somebody looks.

Most payloads are written, sealed and never looked at in between. Taken apart they need several
times the memory, and the time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from engine.types import JsonValue, Payload


class WrittenPayload(Mapping[str, JsonValue]):
    """Equal to the dict that the text says. The text is a JSON object in UTF-8, and never changes.

    Readers may race: each takes the text apart, and all get the same.
    """

    __slots__ = ("_taken", "text")

    def __init__(self, text: bytes) -> None:
        """`text` is trusted to be a JSON object."""
        self.text = text
        self._taken: dict[str, JsonValue] | None = None

    def taken_apart(self) -> dict[str, JsonValue]:
        """The values, not kept: for who looks at many payloads once."""
        if self._taken is not None:
            return self._taken
        values: dict[str, JsonValue] = json.loads(self.text.decode())
        return values

    def _values(self) -> dict[str, JsonValue]:
        if self._taken is None:
            self._taken = self.taken_apart()
        return self._taken

    def __getitem__(self, key: str) -> JsonValue:
        return self._values()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def __bool__(self) -> bool:
        return len(self.text) > 2

    def __repr__(self) -> str:
        return repr(self._values())

    def __reduce__(self) -> tuple[Any, ...]:
        return WrittenPayload, (self.text,)


def values_of(payload: Payload) -> Payload:
    """A payload to look at once."""
    return payload.taken_apart() if isinstance(payload, WrittenPayload) else payload
