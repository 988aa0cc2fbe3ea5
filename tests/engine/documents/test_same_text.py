"""What users may rely on: the same text is the same text, whatever format it comes in."""

from __future__ import annotations

import difflib
import gzip
import textwrap
from collections.abc import Callable, Mapping

import pytest

from engine.documents.parse import parse_document
from tests.engine.documents.pdf_bytes import Line, pdf
from tests.engine.documents.pictures import drawn, saved
from tests.engine.documents.writers import WRITERS, Content, zipped

ALIKE_MIN = 0.98
PAPER = Content(
    "The lighthouse of the northern cape",
    "It was built in 1874, when the harbor was small and ships came in by daylight only. Its "
    "keeper wrote down the weather three times a day; the books are kept in the town hall, and "
    "nobody had read them for 90 years. They tell of 212 storms, of two wrecks, and of a winter "
    "in which the sea froze as far as the eye could see.",
    ["The lamp burned oil until 1921.", "Sheep graze around it all year.", "It is 31 meters tall."],
    [["Year", "Storms", "Ships"], ["1880", "14", "310"], ["1890", "9", "422"]],
    "What came of it",
    "A second light was built on the island in 1902. Since then the older one marks the entry of "
    "the harbor and no more. It is open to visitors on the first Sunday of each month, and those "
    "who climb its 166 steps see the island, the town, and on a clear day the mountains.",
)


def as_text(content: Content) -> bytes:
    rows = "\n".join("\t".join(row) for row in content.rows)
    items = "\n".join(f"- {item}" for item in content.items)
    parts = [content.heading, content.paragraph, items, rows, content.section, content.ending]
    return "\n\n".join(parts).encode()


def as_pdf(content: Content) -> bytes:
    """Paragraphs of wrapped lines, headings in larger letters, a table of aligned columns."""
    lines: list[Line] = []
    down = 760

    def put(text: str, size: int = 11, left: int = 72) -> None:
        lines.append((left, down, size, text))

    for heading, size, paragraph in (
        (content.heading, 20, content.paragraph),
        (content.section, 15, content.ending),
    ):
        put(heading, size)
        down -= 34
        for line in textwrap.wrap(paragraph, 80):
            put(line)
            down -= 14
        down -= 16
        if paragraph == content.paragraph:
            for item in content.items:
                put(f"- {item}")
                down -= 16
            down -= 16
            for row in content.rows:
                for column, cell in enumerate(row):
                    put(cell, left=72 + 120 * column)
                down -= 16
            down -= 16
    return pdf([lines])


def _scanned(kind: str) -> Callable[[Content], bytes]:
    def write(content: Content) -> bytes:
        rows = ["   ".join(row) for row in content.rows]
        before, after = [content.heading, content.paragraph], [content.section, content.ending]
        page = drawn([*before, *content.items, *rows, *after], dpi=200)
        return saved([page], kind, dpi=200)

    return write


ALL: Mapping[str, Callable[[Content], bytes]] = {
    **WRITERS,
    "txt": as_text,
    "pdf": as_pdf,
    "md.gz": lambda content: gzip.compress(WRITERS["md"](content)),
    "zip": lambda content: zipped({"paper.docx": WRITERS["docx"](content)}),
    "scan.pdf": _scanned("PDF"),
    "scan.png": _scanned("PNG"),
    "scan.tiff": _scanned("TIFF"),
}
WRAPPED = ("md.gz", "zip")
"""In which the file's name stands before its text."""


def _said(name: str) -> str:
    """The body, without the marks that formats have for lists and tables."""
    parsed = parse_document(ALL[name](PAPER), f"paper.{name}")
    bodies = [
        parsed.text[block.span.start : block.span.end]
        for block in parsed.blocks
        if block.role == "body"
    ]
    words = " ".join(bodies[1:] if name in WRAPPED else bodies).replace("|", " ").split()
    return " ".join(word for word in words if word not in "-•*")


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_same_text_in_any_format_is_the_same_text(name: str) -> None:
    text = " ".join(" ".join(PAPER.texts()).split())
    likeness = difflib.SequenceMatcher(None, _said(name), text, autojunk=False).ratio()
    assert likeness >= ALIKE_MIN, (likeness, _said(name))
