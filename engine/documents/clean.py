"""Cleaning of text: what is kept is what a person sees.

`clean` is idempotent. Its result is in Unicode NFC, can be encoded as UTF-8, and holds no control
characters but line break and tab. Invisible characters that can hide text from a reader and not
from a model (bidirectional overrides, tags, zero-width spaces) are dropped; the joiners U+200C
and U+200D stay, because scripts and emoji need them.
"""

from __future__ import annotations

import re
import unicodedata

_CONTROLS = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\U000e0000-\U000e007f"
)
_DROPPED = re.compile(f"[{_CONTROLS}]")
_ASCII_CONTROLS = bytes(code for code in range(128) if _DROPPED.match(chr(code)))
_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_SPACE_RUN = re.compile("[ \t]+")
_SPACE_AT_BREAK = re.compile(" ?\n ?")
_EMPTY_LINES = re.compile("\n{3,}")

# A word cut at the end of a line: letters, a hyphen, a line break, a small letter. The hyphen is
# kept when the word has one already ("state-of-the-\nart").
_HYPHENATED = re.compile(r"(?<![\w-])([^\W\d_]{2,})[-\u2010\u00ad\x02]\n([^\W\d_A-Z]{2,})")
_DOT_LEADER = re.compile(r"\s?\.(?:\s?\.){4,}\s?")  # of a table of contents
_LIGATURES = str.maketrans(
    {
        "\ufb00": "ff",
        "\ufb01": "fi",
        "\ufb02": "fl",
        "\ufb03": "ffi",
        "\ufb04": "ffl",
        "\ufb05": "st",
        "\ufb06": "st",
    }
)


def clean(text: str, *, keep_layout: bool = False) -> str:
    """`text` without what no reader sees. `keep_layout` leaves spaces and tabs (code, tables)."""
    text = _plain(text) if text.isascii() else _visible(text)
    if keep_layout:
        return "\n".join(line.rstrip() for line in text.strip("\n").split("\n")).strip("\n")
    text = _SPACE_AT_BREAK.sub("\n", _SPACE_RUN.sub(" ", text))
    return _EMPTY_LINES.sub("\n\n", text).strip()


def _visible(text: str) -> str:
    text = _SURROGATES.sub("\ufffd", _BREAKS.sub("\n", text))
    text = unicodedata.normalize("NFC", _DROPPED.sub("", text))
    return _SPACES.sub(" ", text)


def _plain(text: str) -> str:
    """What `_visible` makes of ASCII, in a tenth of the time."""
    if "\r" in text or "\x0b" in text or "\x0c" in text:
        text = _BREAKS.sub("\n", text)
    return text.encode("ascii").translate(None, _ASCII_CONTROLS).decode("ascii")


def join_lines(lines: list[str]) -> str:
    """One paragraph from the lines of a printed page: words cut at line ends made whole again.

    "opti-" + "mal" is "optimal". Known to be wrong for a compound whose own hyphen falls on the
    line end ("well-" + "known"), which no rule without a dictionary can tell apart.
    """
    text = "\n".join(line.strip() for line in lines if line.strip())
    text = _HYPHENATED.sub(r"\1\2", text).translate(_LIGATURES)
    return clean(_DOT_LEADER.sub(" \u2026 ", text.replace("\n", " ")))


_LIST_MARK = re.compile(r"\s*(?:[-*+\u2022\u25aa\u25cf\u2013]|\(?\d{1,3}[.)])\s+(?=\S)")


def is_list_line(line: str) -> bool:
    """Whether a line of plain text starts with a bullet or a number of a list."""
    return _LIST_MARK.match(line) is not None


def unwrap(lines: list[str]) -> str:
    """A paragraph of plain text as one line if its lines look wrapped, else line by line.

    Wrapped means: every line but the last fills at least 60 % of the longest one, and the longest
    is of a usual width (40 to 130 characters). Verses, addresses and logs keep their lines.
    """
    lengths = [len(line.strip()) for line in lines]
    longest = max(lengths, default=0)
    if 40 <= longest <= 130 and all(length >= 0.6 * longest for length in lengths[:-1]):
        return " ".join(line.strip() for line in lines)
    return "\n".join(line.strip() for line in lines)
