"""Tables as text: a line per row, `| a | b |`, so that every row can be quoted by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.documents.clean import clean


def table_text(rows: Iterable[Sequence[str]]) -> str:
    """The rows that have a cell with text; empty columns at the end are left out of each row."""
    lines = []
    for row in rows:
        cells = [" ".join(cell.split()) for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            lines.append(clean(f"| {' | '.join(cells)} |"))
    return clean("\n".join(lines), keep_layout=True)
