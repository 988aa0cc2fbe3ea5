"""How many cells a spreadsheet spans, before anyone makes room for them.

A reader of sheets takes room for every cell up to the last one that is filled; a few bytes may put
that one far away, or repeat a cell a million times.
"""

from __future__ import annotations

import io
import re
import zipfile

from lxml import etree

from engine.documents.formats.container import attribute, local_name, read_entry
from engine.errors import ParserLimitExceeded

CELLS_MAX = 8_000_000
"""Of all sheets: 24 bytes each, empty or not."""

_WHAT = "spreadsheet"
_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml")
_FILLED = re.compile(rb'<(?:\w{1,20}:)?c\s[^>]{0,200}?r="([A-Z]{1,3})(\d{1,7})"[^>]{0,200}?(?<!/)>')


def check_cells(archive: zipfile.ZipFile) -> None:
    """Raise ParserLimitExceeded if the sheets in `archive` span more than CELLS_MAX cells."""
    cells = 0
    for name in archive.namelist():
        if _SHEET.fullmatch(name):
            cells += spanned_by_references(read_entry(archive, name, _WHAT) or b"")
        elif name == "content.xml":
            cells += spanned_by_repeats(read_entry(archive, name, _WHAT) or b"")
        if cells > CELLS_MAX:
            raise ParserLimitExceeded(
                f"the sheets span {cells:,} cells, empty ones included, more than {CELLS_MAX:,}; "
                "delete what stands far from the rest, or split the file",
                metadata={"cells": cells, "bound": CELLS_MAX},
            )


def spanned_by_references(sheet: bytes) -> int:
    """Rows times columns up to the last cell with content of an Office Open XML sheet."""
    rows = columns = 0
    first_row = 0
    for found in _FILLED.finditer(sheet):
        row = int(found.group(2))
        first_row = first_row or row
        rows = max(rows, row)
        columns = max(columns, _column(found.group(1)))
    return (rows - first_row + 1) * columns if rows else 0


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def spanned_by_repeats(content: bytes) -> int:
    """The same of an OpenDocument sheet, whose rows and cells say how often they stand there."""
    cells = width = 0
    steps = etree.iterparse(
        io.BytesIO(content), events=("end",), resolve_entities=False, no_network=True, recover=True
    )
    for _, node in steps:
        name = local_name(node)
        if name == "table-row":
            position = reach = 0
            for cell in node:
                position += _repeated(cell, "number-columns-repeated")
                if len(cell):
                    reach = position
            width = max(width, reach)
            cells += _repeated(node, "number-rows-repeated") * reach
            node.clear()
        elif name == "table":
            node.clear()
    return max(cells, width)


def _repeated(node: etree._Element, name: str) -> int:
    said = attribute(node, name)
    return int(said) if said.isdigit() and len(said) < 10 else 1
