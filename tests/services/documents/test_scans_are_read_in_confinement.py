"""Characters are recognized by the confined process, within its limits and with no file written."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from engine.documents.formats.ocr import ocr_data
from engine.errors import DocumentUnreadable, ParserLimitExceeded
from services.config import DocumentSettings
from services.documents.parser import Parser
from tests.engine.documents.pdf_bytes import pdf
from tests.engine.documents.pictures import drawn, joined, saved
from tests.faults.parsing import text_by

pytestmark = pytest.mark.asyncio

TEXT = (
    "The lighthouse of the cape was built in the year 1874, when the harbor was small.",
    "Its keeper wrote down the weather three times a day, and his books are kept in town.",
)


@pytest_asyncio.fixture
async def parser() -> AsyncIterator[Parser]:
    made = Parser(DocumentSettings())
    yield made
    await made.close()


@pytest.mark.parametrize("kind", ["PDF", "PNG", "JPEG", "TIFF"])
async def test_a_scan_is_read(parser: Parser, kind: str) -> None:
    words = " ".join((await text_by(parser, saved([drawn(TEXT)], kind), "scan")).split())
    assert difflib.SequenceMatcher(None, words, " ".join(TEXT)).ratio() >= 0.98


async def test_a_parser_reads_as_many_scans_as_its_time_allows(parser: Parser) -> None:
    scans = [drawn([f"Page number {number} of the scanned papers."]) for number in range(1, 5)]
    written = pdf([[(72, 700, 12, "A page of written text.")]])
    data = joined(written, saved(scans, "PDF"))
    assert "Page number 4 of" in await text_by(parser, data, "scans.pdf")
    hasty = Parser(DocumentSettings(parser_cpu_s=8))
    text = await text_by(hasty, data, "scans.pdf")
    await hasty.close()
    assert "Page number 2 of" in text
    assert "Not read: 2 scanned pages, from page 4 to page 5" in text


async def test_language_data_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = ocr_data()
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    shutil.copy(Path(folder, "eng.traineddata"), tmp_path / "own.traineddata")
    parser = Parser(DocumentSettings())
    scan = saved([drawn(TEXT)], "PNG")
    assert "lighthouse" in await text_by(parser, scan, "scan.png")
    (tmp_path / "own.traineddata").write_bytes(b"damaged")
    with pytest.raises(DocumentUnreadable, match=f"cannot load its data of own in {tmp_path}"):
        await text_by(parser, scan, "scan.png")
    await parser.close()


async def test_a_picture_that_needs_too_much_memory_fails_alone() -> None:
    parser = Parser(DocumentSettings(parser_memory_bytes=256 << 20))
    with pytest.raises((ParserLimitExceeded, DocumentUnreadable)):
        await text_by(parser, saved([drawn(TEXT).resize((7_000, 8_000))], "PNG"), "large.png")
    assert await text_by(parser, b"Words after it.", "b.txt") == "Words after it."
    await parser.close()
