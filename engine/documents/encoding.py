"""Bytes of a text to characters, whatever encoding it was written in."""

from __future__ import annotations

import codecs
import re

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
_DAMAGED_SHARE_MAX = 0.1
"""Of the characters beyond ASCII: with fewer that are none, a text is damaged UTF-8."""

_GUESSED_BYTES = 16_384
_GUESSED_HIGH_BYTES_MIN = 24
"""With fewer bytes beyond ASCII no guess is better than Windows-1252."""

_WESTERN = frozenset(("cp1252", "latin_1", "iso8859_15", "iso8859_9", "cp1254"))


def decode(data: bytes) -> str:
    """The text of `data` in the first encoding that fits; never fails.

    In this order: a byte order mark; UTF-16 without a mark (every second byte of the start is
    zero); the charset that an HTML page or XML declares; UTF-8, a little damaged if need be; what
    the statistics of letters say; and at last Windows-1252, in which every byte means something
    (its five holes become U+FFFD).
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    wide = _wide_encoding(data[:1024])
    if wide:
        return data.decode(wide, errors="replace")
    declared = _META_CHARSET.search(data[:2048])
    if declared:
        text = _try_decode(data, declared.group(1).decode("ascii", errors="replace"))
        if text is not None:
            return text
    # A sample may end inside a character: the incremental decoder waits for the rest of it.
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return _not_utf8(data)


def decode_as(data: bytes, encoding: str) -> str:
    """`data` in the encoding that its envelope names, or as `decode` finds it."""
    text = _try_decode(data, encoding) if encoding else None
    return decode(data) if text is None else text


def _not_utf8(data: bytes) -> str:
    mended = data.decode("utf-8", errors="replace")
    damaged = mended.count("\ufffd")
    beyond = sum(map(len, re.findall("[^\x00-\x7f]+", mended)))
    if damaged <= _DAMAGED_SHARE_MAX * beyond:
        return mended
    return data.decode(_guess(data), errors="replace")


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
