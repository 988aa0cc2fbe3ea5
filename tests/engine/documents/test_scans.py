"""What users may rely on: text in pictures is read as text, and what is not read is named."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.documents.formats import Hints, ocr
from engine.documents.parse import parse_document
from engine.documents.parsed import Parsed
from engine.errors import DocumentUnreadable, ParserLimitExceeded
from tests.engine.documents.pdf_bytes import pdf
from tests.engine.documents.pictures import (
    MARGIN,
    PAGE,
    drawn,
    joined,
    saved,
    shown_turned,
    stamped,
)

TEXT = (
    "The lighthouse of the cape was built in the year 1874, when the harbor was small.",
    "Its keeper wrote down the weather three times a day, and his books are kept in town.",
    "A restart drops no request, because a node that stops is drained before it ends.",
)
WRITTEN = [[(72, 700, 12, "A page of written text, as programs make it.")]]
ALIKE_MIN = 0.98

_WORDS = (
    *("the", "harbor", "keeper", "weather", "books", "were", "kept", "town", "request", "stops"),
    *("before", "nothing", "built", "near", "small", "cape", "lights", "three", "times", "years"),
)


@pytest.fixture
def no_ocr(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without language data."""
    monkeypatch.setattr(ocr, "_PLACES", ())
    ocr.use_data("")
    yield
    monkeypatch.undo()
    ocr.use_data("")


def _alike(parsed: Parsed, text: str) -> float:
    words = " ".join(parsed.text.split())
    return difflib.SequenceMatcher(None, words, text, autojunk=False).ratio()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PDF"])
def test_a_picture_of_text_is_read_whatever_its_format(kind: str) -> None:
    parsed = parse_document(saved([drawn(TEXT)], kind))
    assert _alike(parsed, " ".join(TEXT)) >= ALIKE_MIN
    assert [block.page for block in parsed.blocks] == [1, 1, 1]
    assert parsed.page_count == 1
    assert parsed.language == "en"


@settings(max_examples=8)
@given(
    st.lists(
        st.lists(st.sampled_from(_WORDS), min_size=12, max_size=30).map(" ".join),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_is_drawn_is_read_back(paragraphs: list[str]) -> None:
    text = [paragraph.capitalize() + "." for paragraph in paragraphs]
    parsed = parse_document(saved([drawn(text, dpi=200)], "PDF", dpi=200))
    assert _alike(parsed, " ".join(text)) >= ALIKE_MIN


@pytest.mark.parametrize("kind", ["PNG", "PDF"])
def test_what_is_read_has_the_box_in_which_it_was_drawn(kind: str) -> None:
    parsed = parse_document(saved([drawn(TEXT)], kind))
    tops = []
    for block in parsed.blocks:
        assert block.box is not None
        left, bottom, right, top = block.box
        assert left == pytest.approx(MARGIN, abs=3)
        assert MARGIN < right <= PAGE[0] - MARGIN + 3
        assert 8 < top - bottom < 40  # one line or two
        tops.append(top)
    assert tops == sorted(tops, reverse=True)
    assert tops[0] == pytest.approx(PAGE[1] - MARGIN, abs=6)


def test_a_picture_of_more_pixels_than_are_read_is_scaled_down_and_its_boxes_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ocr, "PIXELS_MAX", 2_500_000)
    parsed = parse_document(saved([drawn(TEXT, dpi=300)], "PNG", dpi=300))
    assert _alike(parsed, " ".join(TEXT)) >= ALIKE_MIN
    assert all(b.box and b.box[0] == pytest.approx(MARGIN, abs=3) for b in parsed.blocks)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_page_that_lies_on_its_side_is_read(degrees: int) -> None:
    turned = drawn(TEXT).rotate(degrees, expand=True)
    assert _alike(parse_document(saved([turned], "PDF")), " ".join(TEXT)) >= ALIKE_MIN


def test_a_pdf_of_written_and_scanned_pages_is_read_whole() -> None:
    scan = saved([drawn(TEXT)], "PDF")
    parsed = parse_document(joined(pdf(WRITTEN), scan, pdf(WRITTEN)))
    by_page: dict[int, str] = {}
    for block in parsed.blocks:
        text = parsed.text[block.span.start : block.span.end]
        by_page[block.page] = by_page.get(block.page, "") + " " + text
    assert by_page[1] == by_page[3] == " " + WRITTEN[0][0][3]
    assert difflib.SequenceMatcher(None, by_page[2], " ".join(TEXT)).ratio() >= ALIKE_MIN


def test_a_stamp_on_a_scan_is_kept_and_the_scan_is_read() -> None:
    stamp = pdf([[(72, 40, 14, "RECEIVED 4711")]])
    parsed = parse_document(stamped(saved([drawn(TEXT)], "PDF"), stamp))
    assert "RECEIVED 4711" in parsed.text
    rest = parsed.text.replace("RECEIVED 4711", "")
    assert difflib.SequenceMatcher(None, rest, "\n\n".join(TEXT)).ratio() >= ALIKE_MIN


@pytest.mark.parametrize("degrees", [0, 90])
def test_a_page_that_is_shown_turned_is_read_as_it_is_seen(degrees: int) -> None:
    turned = drawn(TEXT).rotate(degrees, expand=True)  # against the clock, and shown with it
    shown = shown_turned(saved([turned], "PDF"), degrees)
    parsed = parse_document(shown)
    assert _alike(parsed, " ".join(TEXT)) >= ALIKE_MIN
    assert all(b.box and b.box[0] == pytest.approx(MARGIN, abs=3) for b in parsed.blocks)


def test_scans_beyond_the_time_are_named_and_not_lost_silently() -> None:
    scans = [drawn([f"Page number {number} of the scanned papers."]) for number in range(1, 6)]
    parsed = parse_document(saved(scans, "PDF"), hints=Hints(cpu_s=2 * ocr.PAGE_CPU_S))
    assert "Page number 2 of" in parsed.text and "Page number 3 of" not in parsed.text
    [block] = [block for block in parsed.blocks if block.role == "boilerplate"]
    assert block.page == 3
    said = parsed.text[block.span.start : block.span.end]
    assert "3 scanned pages, from page 3 to page 5" in said
    whole = parse_document(saved(scans, "PDF"), hints=Hints(cpu_s=5 * ocr.PAGE_CPU_S))
    assert "Page number 5 of" in whole.text and "Not read" not in whole.text
    with pytest.raises(ParserLimitExceeded, match="RAGMESH_DOCUMENTS__PARSER_CPU_S"):
        parse_document(saved(scans, "TIFF"), hints=Hints(cpu_s=2 * ocr.PAGE_CPU_S))


def test_a_page_that_takes_too_long_keeps_what_was_read_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ocr, "PAGE_MS_MAX", 1)
    parsed = parse_document(joined(pdf(WRITTEN), saved([drawn(TEXT)], "PDF")))
    assert parsed.text.startswith(WRITTEN[0][0][3])
    assert parsed.text.endswith("Not read: the rest of page 2, which takes too long")


@pytest.mark.usefixtures("no_ocr")
def test_without_language_data_text_is_untouched_and_scans_are_named() -> None:
    written = pdf(WRITTEN)
    assert parse_document(written).text == WRITTEN[0][0][3]
    mixed = parse_document(joined(written, saved([drawn(TEXT)], "PDF")))
    assert mixed.text.startswith(f"{WRITTEN[0][0][3]}\n\nNot read: page 2, a scan")
    assert "tesseract-ocr-eng" in mixed.text
    for kind in ("PDF", "PNG"):
        with pytest.raises(DocumentUnreadable, match="tesseract-ocr-eng"):
            parse_document(saved([drawn(TEXT)], kind))


def test_language_data_is_looked_for_where_it_is_said_to_be_and_never_by_walking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ocr: None
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (below / "eng.traineddata").write_bytes(b"no data")
    (tmp_path / "osd.traineddata").write_bytes(b"of no language")
    monkeypatch.chdir(tmp_path)
    ocr.use_data(str(tmp_path))
    assert not ocr.ocr_available()
    ocr.use_data(str(below))
    assert ocr.ocr_data() == (str(below), ("eng",))
    with pytest.raises(DocumentUnreadable, match="cannot load its data of eng"):
        parse_document(saved([drawn(TEXT)], "PNG"))
