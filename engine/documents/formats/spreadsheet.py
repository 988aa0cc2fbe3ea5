"""Spreadsheets (.xlsx, .xlsb, .xls, .ods): each sheet a heading, and a table of its cells."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from engine.documents.clean import clean
from engine.documents.formats import OLE, XLS, XLSX, Hints
from engine.documents.formats.container import (
    broken,
    children,
    local_name,
    open_zip,
    read_xml,
)
from engine.documents.formats.dates import iso
from engine.documents.formats.sheet_bounds import check_cells
from engine.documents.formats.tables import table_text
from engine.documents.parsed import Draft, Parsed, assemble
from engine.errors import DocumentUnreadable

_WHAT = "spreadsheet"
_BLOCK_ROWS = 500
"""A block of a table holds so many rows at the most, so that a page of results can show one."""


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read all sheets; formulas as the values they had when the file was saved."""
    about: dict[str, str] = {}
    kind = OLE
    if data.startswith(b"PK"):
        with open_zip(data, _WHAT) as archive:
            core = read_xml(archive, "docProps/core.xml", _WHAT)
            check_cells(archive)
            kind = XLSX if "xl/workbook.xml" in archive.namelist() else "ods"
        about = {} if core is None else _core_properties(core)
    from python_calamine import CalamineWorkbook, PasswordError

    try:
        workbook = CalamineWorkbook.from_object(io.BytesIO(data))
        drafts = [draft for name in workbook.sheet_names for draft in _sheet(workbook, name)]
    except PasswordError as error:
        raise DocumentUnreadable(
            "the spreadsheet is encrypted and opens only with a password; send it decrypted",
            metadata={"reason": "encrypted"},
        ) from error
    except BaseException as error:
        # A panic of its Rust is no Exception, so that nobody who cannot know it goes on.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise broken(_WHAT, len(data)) from error
        raise
    if all(draft.kind == "heading" for draft in drafts):
        drafts = []  # names of sheets that hold nothing
    media_type = XLS if kind == OLE else _zip_type(kind)
    title = about.pop("title", "")
    return assemble(clean(title), media_type, drafts, page_count=0, **about)


def _zip_type(kind: str) -> str:
    from engine.documents.formats import ODS

    return ODS if kind == "ods" else XLSX


def _sheet(workbook: Any, name: str) -> Iterator[Draft]:
    sheet = workbook.get_sheet_by_name(name)
    heading = clean(name).replace("\n", " ")
    if heading:
        yield Draft("heading", heading, level=1)
    rows: list[list[str]] = []
    for row in sheet.iter_rows():
        cells = [_cell(value) for value in row]
        if any(cells):
            rows.append(cells)
        if len(rows) >= _BLOCK_ROWS:
            yield Draft("table", table_text(rows))
            rows = []
    if rows:
        yield Draft("table", table_text(rows))


def _cell(value: object) -> str:
    """As a reader sees it: 3 and not 3.0, yes and no in the words of spreadsheets."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def _core_properties(root: Any) -> dict[str, str]:
    """Title, author and dates of an office package."""
    said = {local_name(node): (node.text or "").strip() for node in children(root)}
    return {
        "title": said.get("title", ""),
        "author": clean(said.get("creator", "")),
        "created": iso(said.get("created", "")),
        "modified": iso(said.get("modified", "")),
    }
