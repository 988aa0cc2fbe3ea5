"""The body of an upload as it comes: the file itself, or a form with fields and one file.

Nothing of a file is kept. What comes is handed on before more is taken from the socket, so that a
slow reader slows the sender down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import fields, replace
from email.message import Message
from typing import TYPE_CHECKING, Protocol

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError

from engine.errors import DeadlineExceeded, InvalidField, MalformedMessage
from services.bridge.convert import Asked

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD_BYTES_MAX = 64 << 10
"""Of one field of a form: a payload has at most 32 KiB."""
FIELDS_MAX = 16

_NAMES = {field.name: field.name for field in fields(Asked)}
_NAMES |= {
    "".join(word.title() if at else word for at, word in enumerate(name.split("_"))): name
    for name in _NAMES
}
"""As in JSON, or as in the contract."""
_UNSAID = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded"})
"""Media types that programs send for want of a better one."""


class Source(Protocol):
    """A body of either form."""

    async def begin(self) -> Asked:
        """All that comes before the file's bytes. Raises InvalidField and MalformedMessage."""

    def data(self) -> AsyncIterator[bytes]:
        """The file's bytes; ends where the whole body has come. Raises the same where it was
        cut, or goes on after the file."""


def asked_of(pairs: Iterable[tuple[str, str]]) -> Asked:
    """What a query or a form says. Raises InvalidField for a name that is not known, or twice."""
    found: dict[str, str] = {}
    for given, value in pairs:
        name = _NAMES.get(given)
        if name is None:
            known = ", ".join(sorted(_NAMES))
            raise InvalidField(f"{given!r} is not known here; choose from {known}.", field=given)
        if name in found:
            raise InvalidField(f"{given!r} is given twice.", field=given)
        found[name] = value
    return Asked(**found)


def merged(asked: Asked, given: Asked) -> Asked:
    """`asked`, with what only `given` says."""
    missing = {name for name in _NAMES.values() if not getattr(asked, name)}
    return replace(asked, **{name: getattr(given, name) for name in missing})


def named_by(content_type: str, disposition: str) -> Asked:
    """What the headers of a file say of it: its media type, and its name."""
    media_type = content_type.partition(";")[0].strip().lower()
    return Asked(
        media_type="" if media_type in _UNSAID else media_type,
        display_name=_parameter("content-disposition", disposition, "filename") or "",
    )


def _parameter(header: str, value: str, name: str) -> str | None:
    """A parameter of a header, as RFC 2231 and 5987 write them too; None without it."""
    message = Message()
    message[header] = value.replace("\r", " ").replace("\n", " ")
    found = message.get_param(name, header=header)
    if isinstance(found, tuple):
        charset, _, encoded = found
        try:
            return encoded.encode("latin-1").decode(charset or "utf-8", "replace")
        except (LookupError, UnicodeEncodeError):
            return encoded
    return found


async def unstalled(pieces: AsyncIterator[bytes], stall_s: float) -> AsyncIterator[bytes]:
    """The same pieces. Raises DeadlineExceeded where none came for `stall_s`."""
    while True:
        try:
            async with asyncio.timeout(stall_s):
                piece = await anext(pieces, None)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"Nothing of the body came for {stall_s:g} s, so the upload was ended. Send it "
                "again.",
                metadata={"stall_s": stall_s},
            ) from error
        if piece is None:
            return
        if piece:
            yield piece


class RawBody:
    """A body that is the file."""

    def __init__(self, pieces: AsyncIterator[bytes], content_type: str, disposition: str) -> None:
        self._pieces = pieces
        self._asked = named_by(content_type, disposition)

    async def begin(self) -> Asked:
        """See Source."""
        return self._asked

    async def data(self) -> AsyncIterator[bytes]:
        """See Source."""
        async for piece in self._pieces:
            yield piece


class FormBody:
    """A body that is multipart/form-data: fields that say what the file is, then the file."""

    def __init__(self, pieces: AsyncIterator[bytes], content_type: str) -> None:
        """Raises InvalidField where the header names no boundary."""
        boundary = _parameter("content-type", content_type, "boundary")
        if not boundary:
            raise InvalidField(
                "multipart/form-data needs its boundary in the header.", field="content-type"
            )
        self._pieces = pieces
        self._form = _Form()
        try:
            self._parser = MultipartParser(boundary, self._form.callbacks())
        except MultipartParseError as error:
            raise InvalidField(
                f"The boundary is refused: {error}.", field="content-type"
            ) from error

    async def begin(self) -> Asked:
        """See Source."""
        while not self._form.in_file and await self._more():
            pass
        if not self._form.in_file:
            raise InvalidField(
                "The form has no file: a part with a filename, or named `file`.", field="file"
            )
        return merged(asked_of(self._form.fields), self._form.file)

    async def data(self) -> AsyncIterator[bytes]:
        """See Source."""
        while True:
            if self._form.pieces:
                data = b"".join(self._form.pieces)
                self._form.pieces.clear()
                yield data
            elif not await self._more():
                break
        if not self._form.whole:
            raise InvalidField(
                "The form was cut: its last boundary never came. Send it again.", field="body"
            )

    async def _more(self) -> bool:
        piece = await anext(self._pieces, None)
        if piece is None:
            return False
        try:
            self._parser.write(piece)
        except MultipartParseError as error:
            raise MalformedMessage(f"The body is no multipart/form-data: {error}.") from error
        return True


class _Form:
    """What the parser tells, part by part."""

    def __init__(self) -> None:
        self.fields: list[tuple[str, str]] = []
        self.pieces: list[bytes] = []
        self.file = Asked()
        self.in_file = False
        self.whole = False
        self._headers: dict[str, str] = {}
        self._name = self._header = self._value = b""
        self._field = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        """By the parser's names."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._head(data[start:end], b""),
            "on_header_value": lambda data, start, end: self._head(b"", data[start:end]),
            "on_header_end": self._head_end,
            "on_headers_finished": self._heads_end,
            "on_part_data": lambda data, start, end: self._data(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._all,
        }

    def _begin(self) -> None:
        if self.in_file:
            raise InvalidField(
                "The form goes on after its file. One file is taken at a time, and fields come "
                "before it.",
                field="file",
            )
        if len(self.fields) >= FIELDS_MAX:
            raise InvalidField(f"The form has over {FIELDS_MAX} fields.", field="body")
        self._headers = {}
        self._field.clear()

    def _head(self, name: bytes, value: bytes) -> None:
        self._header += name
        self._value += value

    def _head_end(self) -> None:
        self._headers[_text(self._header).lower()] = _text(self._value)
        self._header = self._value = b""

    def _heads_end(self) -> None:
        disposition = self._headers.get("content-disposition", "")
        name = _parameter("content-disposition", disposition, "name") or ""
        filename = _parameter("content-disposition", disposition, "filename")
        self._name = name.encode(errors="replace")
        self.in_file = filename is not None or name == "file"
        if self.in_file:
            self.file = named_by(self._headers.get("content-type", ""), disposition)

    def _data(self, data: bytes) -> None:
        if self.in_file:
            self.pieces.append(data)
            return
        self._field += data
        if len(self._field) > FIELD_BYTES_MAX:
            name = _text(self._name)
            raise InvalidField(
                f"The field {name!r} has over {FIELD_BYTES_MAX:,} bytes. A file needs a filename.",
                field=name,
            )

    def _end(self) -> None:
        if not self.in_file:
            self.fields.append((_text(self._name), _text(bytes(self._field))))

    def _all(self) -> None:
        self.whole = True


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
