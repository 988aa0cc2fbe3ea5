"""Tables as text: comma, semicolon, tab or bar between cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from engine.documents.encoding import decode
from engine.documents.formats import CSV, TSV, Hints
from engine.documents.formats.tables import table_text
from engine.documents.parsed import Draft, Parsed, assemble

_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 50
_SAMPLE_CHARS = 100_000
_BLOCK_ROWS = 500
_CELL_CHARS_MAX = 1_000_000


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read a table; formulas are text like any other."""
    source = decode(data).replace("\x00", "")
    ending = hints.name.rpartition(".")[2].lower()
    delimiter = "\t" if ending in ("tsv", "tab") else delimiter_of(source)
    return assemble("", TSV if delimiter == "\t" else CSV, _blocks(source, delimiter))


def delimiter_of(source: str) -> str:
    """What parts the cells: the sign that gives most lines of the beginning the same number of
    cells, more than one. Pure."""
    best, found = 0.0, ","
    source = source[:_SAMPLE_CHARS]
    for delimiter in _DELIMITERS:
        widths = []
        for row in _rows(source, delimiter):
            widths.append(len(row))
            if len(widths) >= _SAMPLE_LINES:
                break
        usual = max(set(widths), key=widths.count, default=0)
        share = widths.count(usual) / len(widths) if widths else 0.0
        score = share * min(usual, 10) if usual > 1 else 0.0
        if score > best:
            best, found = score, delimiter
    return found


def _rows(source: str, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(_CELL_CHARS_MAX)
    rows = csv.reader(io.StringIO(source, newline=""), delimiter=delimiter, strict=False)
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error:  # a cell longer than any; the next line is a row again
            continue


def _blocks(source: str, delimiter: str) -> Iterator[Draft]:
    rows: list[list[str]] = []
    for row in _rows(source, delimiter):
        if any(cell.strip() for cell in row):
            rows.append(row)
        if len(rows) >= _BLOCK_ROWS:
            yield Draft("table", table_text(rows))
            rows = []
    if rows:
        yield Draft("table", table_text(rows))
