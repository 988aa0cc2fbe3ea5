"""Rich Text Format: its text by paragraphs; it names no headings that could be trusted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from engine.documents.clean import clean, is_list_line
from engine.documents.formats import RTF, Hints
from engine.documents.formats.tables import table_text
from engine.documents.parsed import Draft, Parsed, assemble
from engine.errors import DocumentUnreadable

_INFO = re.compile(rb"\{\\(title|author)\s([^{}]{0,2000})\}")
_TIME = re.compile(
    rb"\{\\(creatim|revtim)\\yr(\d{4})\\mo(\d{1,2})\\dy(\d{1,2})(?:\\hr(\d{1,2})\\min(\d{1,2}))?"
)
_TABLE_ROW = re.compile(r".*\|\s*$")


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read an .rtf; pictures and objects in it are left out."""
    from striprtf import striprtf

    text_of: Callable[..., str] = striprtf.rtf_to_text

    source = data.decode("latin-1").rstrip("\0")
    try:
        text = text_of(source, errors="replace")
    except (ValueError, LookupError, IndexError, UnicodeError) as error:
        raise DocumentUnreadable(
            "the RTF file is broken: its text cannot be told from its commands; save it again in "
            "the program that made it",
            metadata={"size_bytes": len(data), "reason": "broken"},
        ) from error
    # Characters beyond the 16-bit plane are two commands, so two surrogates.
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    said = {name.decode(): value.decode("cp1252", "replace") for name, value in _INFO.findall(data)}
    times = {name.decode(): _iso(rest) for name, *rest in _TIME.findall(data)}
    return assemble(
        clean(said.get("title", "")),
        RTF,
        _drafts(text),
        author=clean(said.get("author", "")),
        created=times.get("creatim", ""),
        modified=times.get("revtim", ""),
    )


def _iso(parts: list[bytes]) -> str:
    year, month, day, hour, minute = (int(part or 0) for part in parts)
    date = f"{year:04}-{month:02}-{day:02}"
    return f"{date}T{hour:02}:{minute:02}:00" if parts[3] else date


def _drafts(text: str) -> Iterator[Draft]:
    """A line is a paragraph; lines of cells that stand together are a table."""
    rows: list[list[str]] = []
    for line in text.split("\n"):
        if _TABLE_ROW.match(line) and "|" in line:
            rows.append(line.rstrip().rstrip("|").split("|"))
            continue
        if rows:
            yield Draft("table", table_text(rows))
            rows = []
        yield Draft("list_item" if is_list_line(line) else "paragraph", clean(line))
    if rows:
        yield Draft("table", table_text(rows))
