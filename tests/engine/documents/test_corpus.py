"""What users may rely on: real files of thirty formats are read, or refused for the true reason.

The files are those of `$RAGMESH_DATA/parser-docs` (documents by which others test their parsers,
which are not ours to publish); where they are not, the repository's own.
"""

from __future__ import annotations

import difflib
import gzip
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.documents.chunk import chunk
from engine.documents.formats.ocr import ocr_available
from engine.documents.parse import parse_document
from engine.documents.parsed import Parsed
from engine.documents.units import WHOLE_CHARS_MAX
from engine.errors import DocumentUnreadable, RagmeshError, UnsupportedMediaType
from tests.engine.documents.strategies import run_around, without_boilerplate, word_pieces

OWN = Path(__file__).parents[3] / "corpus" / "files"
GIVEN = Path(os.environ.get("RAGMESH_DATA", "/nowhere")) / "parser-docs" / "unstructured"
CORPUS = GIVEN if GIVEN.is_dir() else OWN

REFUSED: Mapping[str, str] = {
    "empty.txt": "empty",
    "fake-text-all-whitespace.txt": "empty",
    "empty.xlsx": "holds no text",
    "picture.pptx": "holds no text",
    "test-image-jpg-mime.pptx": "holds no text",
    "simple.zip": "Archives are not unpacked",
    "fake.doc": "LibreOffice converts it",
    "simple.doc": "LibreOffice converts it",
    "fake-doc-emphasized-text.doc": "LibreOffice converts it",
    "img/DA-1p.heic": "heic",
}
"""Why a file is refused that is no picture of text."""

PICTURES = ("pdf/loremipsum-flat.pdf", "pdf/single_table.pdf")
"""Scans: like pictures, read by OCR, and refused where there is none."""

_SAME: tuple[tuple[str, ...], ...] = (
    *[("language-docs/eng_spa_mult.md", f"language-docs/eng_spa_mult.{e}") for e in
      ("docx", "epub", "org", "rtf", "eml")],
    ("simple.docx", "simple.odt"),
    ("stanley-cups.tsv", "stanley-cups-utf-16.csv"),
    ("fake-email.eml", "fake-email.msg", "fake-email.txt", "eml/fake-email-b64.eml"),
    ("fake-email.eml", "eml/fake-email-utf-16.eml", "eml/fake-email-utf-16-be.eml"),
    ("eml/fake-email-attachment.eml", "fake-email-attachment.msg"),
    ("example-steelJIS-datasheet.html", "example-steelJIS-datasheet-utf-16.html"),
    ("factbook.xml", "factbook-utf-16.xml"),
    ("umlauts-utf8.md", "umlauts-non-utf8.md"),
    ("simple.json", "simple.ndjson"),
    ("README.md", "README.org"),
    ("README.md", "README-w-include.rst"),
)  # fmt: skip
SAME = [group for group in _SAME if all((CORPUS / name).exists() for name in group)] or [
    ("retrieval-notes.md", "retrieval-notes.pdf")
]
FILES = sorted(str(path.relative_to(CORPUS)) for path in CORPUS.rglob("*") if path.is_file())


def _data(name: str) -> bytes:
    """The file; large ones are kept packed."""
    data = (CORPUS / name).read_bytes()
    return gzip.decompress(data) if name.endswith(".gz") else data


def _read(name: str) -> Parsed:
    return parse_document(_data(name), name.removesuffix(".gz"))


def _expected(name: str) -> str:
    """A part of the reason for which a file is refused; empty for one that is read."""
    if name in REFUSED:
        return REFUSED[name]
    pictured = name.startswith("img/") or name in PICTURES
    return "tesseract-ocr-eng" if pictured and not ocr_available() else ""


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_or_refused_for_the_true_reason(name: str) -> None:
    reason = _expected(name)
    try:
        parsed = _read(name)
    except RagmeshError as error:
        refusal: RagmeshError | None = error
    else:
        refusal = None
        assert parsed.text.strip()
        assert Parsed.from_json(parsed.to_json()) == parsed
        assert all(block.page <= parsed.page_count for block in parsed.blocks)
    assert (refusal is not None) == bool(reason), refusal
    if refusal is not None:
        assert isinstance(refusal, DocumentUnreadable | UnsupportedMediaType)
        assert reason in refusal.message


@pytest.mark.parametrize("names", SAME, ids=lambda names: names[-1])
def test_the_same_text_in_several_formats_is_the_same_text(names: tuple[str, ...]) -> None:
    first, *others = [_words_of(_read(name)) for name in names]
    for name, words in zip(names[1:], others, strict=True):
        likeness = difflib.SequenceMatcher(None, first, words, autojunk=False).ratio()
        assert likeness >= 0.98, (name, likeness)


def _words_of(parsed: Parsed) -> list[str]:
    """Of the body, without the subject of a mail, which its other forms have nowhere."""
    mail = parsed.media_type in ("message/rfc822", "application/vnd.ms-outlook")
    bodies = [
        parsed.text[block.span.start : block.span.end]
        for block in parsed.blocks
        if block.role == "body"
        and not (mail and block.heading_path == (parsed.title,) and block.kind == "heading")
    ]
    return " ".join(bodies).replace("|", " ").split()


@pytest.mark.parametrize("name", [n for n in FILES if not _expected(n)][::4])
def test_chunks_of_a_real_file_quote_all_but_boilerplate_and_cut_no_row(name: str) -> None:
    parsed = _read(name)
    chunks = chunk(parsed, word_pieces, overlap_tokens=0)
    quoted = [parsed.text[piece.span.start : piece.span.end] for piece in chunks]
    searched = without_boilerplate(parsed)
    assert "".join("".join(quote.split()) for quote in quoted) == "".join(searched.split())
    tables = {
        at: block
        for block in parsed.blocks
        if block.kind == "table"
        for at in range(block.span.start + 1, block.span.end)
    }
    for piece in chunks[:-1]:
        at = piece.span.end
        if at in tables and parsed.text[at] != "\n":
            row = run_around(parsed.text, at, lambda c: c != "\n")
            assert word_pieces([row])[0] > 200 or len(row) > WHOLE_CHARS_MAX
