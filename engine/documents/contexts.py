"""What stands before a chunk when it is embedded: where in the document it is, and what the columns
of its table are called."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from engine.documents.formats import CSV, ODS, TSV, XLS, XLSX
from engine.documents.pack import first_content
from engine.documents.parsed import Parsed
from engine.documents.units import Unit
from engine.types import Span

_SHEETS = frozenset((CSV, TSV, XLS, XLSX, ODS))
"""Kinds whose tables go on over several blocks, because a block is 500 rows at most."""


def contexts(
    parsed: Parsed, units: Sequence[Unit], runs: Sequence[tuple[int, int]], tokens_max: int
) -> Generator[Sequence[str], Sequence[int], list[str]]:
    """For each chunk, a range of `units`, the first of its candidates that has at most `tokens_max`
    tokens, possibly nothing. Yields texts once, is sent the token count of each."""
    wanted = [_candidates(parsed, units, first, end) for first, end in runs]
    distinct = sorted({text for candidates in wanted for text in candidates})
    if not distinct:
        return ["" for _ in runs]
    tokens = dict(zip(distinct, (yield distinct), strict=True))
    return [
        next((text for text in candidates if tokens[text] <= tokens_max), "")
        for candidates in wanted
    ]


def _candidates(parsed: Parsed, units: Sequence[Unit], first: int, end: int) -> list[str]:
    """The best first. Rows without their header have it below title and headings; where there is no
    room, outer headings go first, then the title, then the others; then the header, and the same
    without it.

    Headings that the chunk itself holds are left out.
    """
    paths = [parsed.blocks[u.block].heading_path for u in units[first:end] if u.is_heading]
    inside = {path[-1] for path in paths if path}
    content = first_content(units, first, end)
    path = parsed.blocks[content.block].heading_path
    headings = [heading for heading in path if heading not in inside and heading != parsed.title]
    title = [parsed.title] if parsed.title and parsed.title not in inside else []
    options = [title + headings[n:] for n in range(len(headings) + 1)]
    options += [headings[n:] for n in range(len(headings))]
    places = [" > ".join(option) for option in options if option]
    header = _header(parsed, content)
    return [f"{place}\n{header}" for place in places] + [header] + places if header else places


def _header(parsed: Parsed, unit: Unit) -> str:
    """The first row of the table that `unit` is a later row of; empty for what is none."""
    block = unit.block
    if parsed.blocks[block].kind != "table":
        return ""
    if parsed.media_type in _SHEETS:
        while block and parsed.blocks[block - 1].kind == "table":
            block -= 1
    start, end = parsed.blocks[block].span.start, parsed.blocks[block].span.end
    stop = parsed.text.find("\n", start, end)
    row = Span(start, end if stop < 0 else stop)
    return parsed.text[row.start : row.end].strip() if unit.span.start >= row.end else ""
