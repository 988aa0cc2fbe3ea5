"""Outlook messages (.msg): compound files whose streams are the properties of a mail.

A property is a stream `__substg1.0_PPPPTTTT`: its number and its type (001F is UTF-16, 001E text
in a code page, 0102 bytes), as [MS-OXMSG] says.
"""

from __future__ import annotations

import io
import struct
from typing import Any

from engine.documents.clean import clean
from engine.documents.encoding import decode
from engine.documents.formats import MSG, Hints
from engine.documents.formats.container import broken
from engine.documents.formats.html import drafts_of as html_drafts
from engine.documents.formats.mail import attachment_drafts, encrypted, envelope_drafts, mail_date
from engine.documents.formats.text import drafts_of as text_drafts
from engine.documents.parsed import Draft, Parsed, assemble

_WHAT = "Outlook message"
_STREAM = 2
"""The type of an entry that holds bytes ([MS-CFB] 2.6.1); others hold entries."""

_STREAM_BYTES_MAX = 64 << 20
_SUBJECT, _BODY, _HTML, _HEADERS = "0037", "1000", "1013", "007D"
_CLASS, _SENDER_NAME, _SENDER, _TO, _CC = "001A", "0C1A", "0C1F", "0E04", "0E03"
_FILE, _LONG_FILE, _MIME, _BYTES = "3704", "3707", "370E", "3701"
_SUBMITTED, _DELIVERED = 0x0039, 0x0E06
_EPOCH_TICKS = 116_444_736_000_000_000
"""From 1601, where Windows counts tenths of microseconds from, to 1970."""


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read a .msg as `mail.parse` reads an .eml."""
    import olefile

    try:
        with olefile.OleFileIO(io.BytesIO(data)) as ole:
            store = _Store(ole)
            folders = sorted(
                {path[0] for path in ole.listdir() if path[0].startswith("__attach_version1.0")}
            )
            attached = [store.attachment(folder) for folder in folders]
            drafts, about = _mail(store)
    except (OSError, ValueError, IndexError, KeyError, struct.error, RecursionError) as error:
        raise broken(_WHAT, len(data)) from error
    drafts += attachment_drafts([each for each in attached if each[2]], hints)
    title = about.pop("title")
    return assemble(title, MSG, drafts, page_count=0, **about)


def _mail(store: _Store) -> tuple[list[Draft], dict[str, str]]:
    if "smime" in store.text(_CLASS).lower() or "rpmsg" in store.text(_CLASS).lower():
        raise encrypted()
    subject = " ".join(store.text(_SUBJECT).split())
    sender = _both(store.text(_SENDER_NAME), store.text(_SENDER))
    date = store.time(_SUBMITTED) or store.time(_DELIVERED) or _header_date(store.text(_HEADERS))
    fields = {
        "From": sender,
        "To": store.text(_TO),
        "Cc": store.text(_CC),
        "Date": date,
        "Subject": subject,
    }
    drafts = list(envelope_drafts(fields))
    page = store.bytes_of(_HTML) or store.text(_HTML).encode()
    read = html_drafts(decode(page)) if page else []
    drafts += read or text_drafts(store.text(_BODY))
    return drafts, {"title": subject, "author": sender, "created": date}


def _both(name: str, address: str) -> str:
    return f"{name} <{address}>" if name and "@" in address and address != name else name or address


def _header_date(headers: str) -> str:
    for line in headers.split("\n"):
        if line.lower().startswith("date:"):
            return mail_date(line[5:].strip())
    return ""


class _Store:
    """The properties of a message, or of a folder in it."""

    def __init__(self, ole: Any) -> None:
        self._ole = ole

    def _read(self, *path: str) -> bytes:
        if self._ole.get_type(list(path)) != _STREAM:
            return b""
        if self._ole.get_size(list(path)) > _STREAM_BYTES_MAX:
            raise ValueError("a stream larger than any that is read")
        return bytes(self._ole.openstream(list(path)).read())

    def text(self, number: str, *folder: str) -> str:
        """A property of text; empty where it is missing."""
        wide = self._read(*folder, f"__substg1.0_{number}001F")
        if wide:
            return clean(wide.decode("utf-16-le", errors="replace"))
        return clean(decode(self._read(*folder, f"__substg1.0_{number}001E") or b""))

    def bytes_of(self, number: str, *folder: str) -> bytes:
        """A property of bytes."""
        return self._read(*folder, f"__substg1.0_{number}0102")

    def time(self, number: int) -> str:
        """A time of the fixed properties as ISO 8601 in UTC; empty where it is missing."""
        fixed = self._read("__properties_version1.0")
        for at in range(32, len(fixed) - 15, 16):
            kind, tag = struct.unpack_from("<HH", fixed, at)
            if (kind, tag) == (0x0040, number):
                (ticks,) = struct.unpack_from("<Q", fixed, at + 8)
                seconds = (ticks - _EPOCH_TICKS) // 10_000_000
                return iso_utc(seconds) if 0 < seconds < 1 << 33 else ""
        return ""

    def attachment(self, folder: str) -> tuple[str, str, bytes]:
        """Name, media type and bytes; a message in a message has no bytes of its own."""
        name = self.text(_LONG_FILE, folder) or self.text(_FILE, folder)
        return name, self.text(_MIME, folder), self.bytes_of(_BYTES, folder)


def iso_utc(seconds: int) -> str:
    """Seconds since 1970 as "2024-01-31T12:00:00Z"."""
    from email.utils import formatdate

    return mail_date(formatdate(seconds)).replace("+00:00", "Z")
