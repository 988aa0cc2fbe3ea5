"""Bytes of a text to characters, whatever encoding it was written in."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

_META_CHARSET = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,300}?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE
)
# UTF-32 first: its little-endian mark starts with the one of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
PIECE_BYTES = 1 << 20

_DAMAGED_SHARE_MAX = 0.1
"""Of the characters beyond ASCII: with fewer that are none, a text is damaged UTF-8."""

_GUESSED_BYTES = 16_384
_GUESSED_HIGH_BYTES_MIN = 24
"""With fewer bytes beyond ASCII no guess is better than Windows-1252."""

_WESTERN = frozenset(("cp1252", "latin_1", "iso8859_15", "iso8859_9", "cp1254"))


@dataclass(frozen=True, slots=True)
class Encoding:
    """A codec of Python's, and what becomes of bytes that mean nothing in it."""

    name: str
    errors: str = "strict"


def decode(data: bytes) -> str:
    """The text of `data` in the first encoding that fits (`encoding_of`); never fails."""
    found = encoding_of(data)
    # A sample may end inside a character: the incremental decoder waits for the rest of it.
    return codecs.getincrementaldecoder(found.name)(found.errors).decode(data)


def encoding_of(data: bytes) -> Encoding:
    """The first encoding that fits, in memory that does not grow with `data`.

    In this order: a byte order mark; UTF-16 without a mark (every second byte of the start is
    zero); the charset that an HTML page or XML declares; UTF-8, a little damaged if need be; what
    the statistics of letters say; and at last Windows-1252, in which every byte means something
    (its five holes become U+FFFD).
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return Encoding(encoding, "replace")
    wide = _wide_encoding(data[:1024])
    if wide:
        return Encoding(wide, "replace")
    declared = _META_CHARSET.search(data[:2048])
    if declared:
        name = declared.group(1).decode("ascii", errors="replace")
        if _fits(data, name):
            return Encoding(name)
    if _fits(data, "utf-8", final=False):
        return Encoding("utf-8")
    if _little_damaged(data):
        return Encoding("utf-8", "replace")
    return Encoding(_guess(data), "replace")


def decode_as(data: bytes, encoding: str) -> str:
    """`data` in the encoding that its envelope names, or as `decode` finds it."""
    text = _try_decode(data, encoding) if encoding else None
    return decode(data) if text is None else text


def decoded(data: bytes, encoding: Encoding) -> Iterator[str]:
    """`data` as text, a piece of PIECE_BYTES after the other."""
    decoder = codecs.getincrementaldecoder(encoding.name)(encoding.errors)
    for start in range(0, len(data), PIECE_BYTES):
        yield decoder.decode(data[start : start + PIECE_BYTES])


def _fits(data: bytes, name: str, *, final: bool = True) -> bool:
    """Whether all of `data` means something in a codec; with `final`, its end as well."""
    try:
        if not codecs.lookup(name)._is_text_encoding:
            return False
        decoder = codecs.getincrementaldecoder(name)()
        for start in range(0, len(data), PIECE_BYTES):
            decoder.decode(data[start : start + PIECE_BYTES])
        decoder.decode(b"", final)
    except (LookupError, UnicodeError, ValueError):
        return False
    return True


def _little_damaged(data: bytes) -> bool:
    damaged = beyond = 0
    for text in decoded(data, Encoding("utf-8", "replace")):
        damaged += text.count("\ufffd")
        beyond += sum(map(len, re.findall("[^\x00-\x7f]+", text)))
    return damaged <= _DAMAGED_SHARE_MAX * beyond


def _guess(data: bytes) -> str:
    """By statistics; Windows-1252 where they do not clearly say something else."""
    # The part with the most to tell: a page of another alphabet may begin with ASCII.
    first = next((at for at, byte in enumerate(data) if byte > 0x7F), 0)
    sample = data[max(0, first - 256) : first + _GUESSED_BYTES]
    if sum(byte > 0x7F for byte in sample) < _GUESSED_HIGH_BYTES_MIN:
        return "cp1252"
    import charset_normalizer

    best = charset_normalizer.from_bytes(sample).best()
    if best is None or best.encoding in _WESTERN or _WESTERN & set(best.could_be_from_charset):
        return "cp1252"
    return best.encoding


def _try_decode(data: bytes, encoding: str) -> str | None:
    try:
        if not codecs.lookup(encoding)._is_text_encoding:
            return None
        return data.decode(encoding)
    except (LookupError, UnicodeError, ValueError):
        return None


def _wide_encoding(start: bytes) -> str:
    even, odd = start[0::2], start[1::2]
    if len(odd) < 4:
        return ""
    zeros_even, zeros_odd = even.count(0) / len(even), odd.count(0) / len(odd)
    if zeros_odd > 0.6 and zeros_even < 0.05:
        return "utf-16-le"
    if zeros_even > 0.6 and zeros_odd < 0.05:
        return "utf-16-be"
    return ""
