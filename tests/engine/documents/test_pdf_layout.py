"""What users may rely on: a PDF is read as a person reads it, and says where each part stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.documents.formats.dates import iso, pdf_date
from engine.documents.formats.pdf_layout import in_reading_order, ways_back
from engine.documents.formats.pdf_lines import Line, seen, turned
from engine.documents.formats.pdf_tables import Rule, grids
from engine.documents.parse import parse_document
from engine.documents.parsed import Parsed
from tests.engine.documents.pdf_bytes import pdf

_LEFT = [(60, 760 - 14 * n, 11, f"Left line {n} of the first column") for n in range(20)]
_RIGHT = [(330, 760 - 14 * n, 11, f"Right line {n} of the second one") for n in range(20)]


def _texts(parsed: Parsed, role: str = "body") -> list[str]:
    return [parsed.text[b.span.start : b.span.end] for b in parsed.blocks if b.role == role]


def test_columns_are_read_one_after_the_other_even_if_the_file_goes_across() -> None:
    across = [line for pair in zip(_LEFT, _RIGHT, strict=True) for line in pair]
    words = " ".join(_texts(parse_document(pdf([across]))))
    assert words.index("Left line 19") < words.index("Right line 0")
    down = " ".join(_texts(parse_document(pdf([[*_LEFT, *_RIGHT]]))))
    assert down.split() == words.split()


def test_a_heading_above_columns_stays_above_them() -> None:
    head = (60, 800, 11, "A line that runs over both of the columns of this page, from left to")
    across = [line for pair in zip(_LEFT, _RIGHT, strict=True) for line in pair]
    words = " ".join(_texts(parse_document(pdf([[head, *across]]))))
    assert words.index("runs over both") < words.index("Left line 0")
    assert words.index("Left line 19") < words.index("Right line 0")


def test_what_stands_on_every_page_is_marked_with_its_page_numbers() -> None:
    pages = [
        [
            (60, 810, 9, "Annual report"),
            (60, 700, 11, f"The words of page {n} are its own."),
            (280, 30, 9, f"- {n} -"),
        ]
        for n in range(1, 7)
    ]
    parsed = parse_document(pdf(pages))
    assert _texts(parsed) == [f"The words of page {n} are its own." for n in range(1, 7)]
    marked = _texts(parsed, "boilerplate")
    assert marked.count("Annual report") == 6 and "- 3 -" in marked


def test_two_pages_with_the_same_first_line_have_no_header() -> None:
    pages = [[(60, 810, 9, "Same"), (60, 700, 11, f"Words {n}")] for n in range(2)]
    assert _texts(parse_document(pdf(pages)), "boilerplate") == []


def _ruled(rows: int, columns: int) -> bytes:
    across = [b"60 %d m 460 %d l S" % (700 - 20 * n, 700 - 20 * n) for n in range(rows + 1)]
    step = 400 // columns
    down = [
        b"%d 700 m %d %d l S" % (60 + step * n, 60 + step * n, 700 - 20 * rows)
        for n in range(columns + 1)
    ]
    return b"\n".join(across + down)


def test_a_table_with_rules_keeps_rows_and_cells_and_stands_where_it_stood() -> None:
    cells = [
        (70 + 100 * column, 686 - 20 * row, 10, f"r{row} c{column}")
        for column in range(4)  # down the columns: the order of the file is of no help
        for row in range(3)
    ]
    lines = [(60, 740, 10, "Before the table."), *cells, (60, 600, 10, "After it.")]
    parsed = parse_document(pdf([lines], drawn=_ruled(3, 4)))
    table = "\n".join("| " + " | ".join(f"r{r} c{c}" for c in range(4)) + " |" for r in range(3))
    assert _texts(parsed) == ["Before the table.", table, "After it."]
    box = next(b.box for b in parsed.blocks if b.kind == "table")
    assert box == pytest.approx((60, 640, 460, 700), abs=2)


def test_a_frame_around_text_is_no_table() -> None:
    frame = b"50 500 400 250 re S"
    parsed = parse_document(pdf([[(60, 700, 10, "Framed words stay words.")]], drawn=frame))
    assert [b.kind for b in parsed.blocks] == ["paragraph"]


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_a_rotated_page_says_the_same_and_its_boxes_lie_on_what_is_seen(rotate: int) -> None:
    lines = [(72, 760, 12, "The first line of a page"), (72, 745, 12, "and the second line of it")]
    parsed = parse_document(pdf([lines], rotate=rotate))
    assert parsed.text == "The first line of a page and the second line of it"
    width, height = (842, 595) if rotate % 180 else (595, 842)
    box = parsed.blocks[0].box
    assert box is not None
    left, bottom, right, top = box
    assert 0 <= left < right <= width and 0 <= bottom < top <= height
    # The text lies at the upper left of the unturned page, which goes round with the clock.
    across, up = (left + right) / 2 < width / 2, (bottom + top) / 2 > height / 2
    assert (across, up) == {
        0: (True, True),
        90: (False, True),
        180: (False, False),
        270: (True, False),
    }[rotate]


def test_text_that_lies_off_the_page_is_not_read() -> None:
    lines = [(72, 700, 12, "What is seen."), (-500, 700, 12, "What is not.")]
    assert parse_document(pdf([lines])).text == "What is seen."


_LINES = st.lists(
    st.builds(
        lambda left, top, width, n: Line(
            f"line {n}", left, left + width, top, top - 10, 10, (left, top - 10, left + width, top)
        ),
        st.integers(0, 500),
        st.integers(10, 800),
        st.integers(5, 300),
        st.integers(0, 99),
    ),
    max_size=40,
)


@given(_LINES)
def test_reading_order_keeps_every_line_once_and_never_makes_it_worse(lines: list[Line]) -> None:
    ordered = in_reading_order(lines)
    assert sorted(map(id, ordered)) == sorted(map(id, lines))
    assert ways_back(ordered) <= ways_back(lines)


_EDGE = st.integers(-500, 500)


@given(_EDGE, _EDGE, st.integers(0, 200), st.integers(0, 200), st.integers(0, 3))
def test_four_quarter_turns_are_none(x: int, y: int, width: int, height: int, turns: int) -> None:
    box = (x, y, x + width, y + height)
    assert turned(turned(box, turns), 4 - turns) == box
    page = (float(x), float(y), float(x + width), float(y + height))
    assert seen(page, page, 90 * turns)[:2] == (0, 0)


def test_rules_that_meet_are_one_grid_and_others_are_others() -> None:
    def square(at: float) -> tuple[list[Rule], list[Rule]]:
        lines = [Rule(at + 10 * n, at, at + 20) for n in range(3)]
        return lines, list(lines)

    (flat, upright), (more_flat, more_upright) = square(0), square(100)
    found = list(grids([*flat, *more_flat], [*upright, *more_upright]))
    assert sorted(xs for xs, _, _ in found) == [[0, 10, 20], [100, 110, 120]]
    assert list(grids(flat, [])) == []


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("D:20240131120000+01'00'", "2024-01-31T12:00:00+01:00"),
        ("D:20240131120000Z", "2024-01-31T12:00:00Z"),
        ("20240131", "2024-01-31"),
        ("D:2024", "2024"),
        ("yesterday", ""),
    ],
)
def test_dates_of_pdfs_are_read(written: str, read: str) -> None:
    assert pdf_date(written) == read


@given(st.datetimes())
def test_dates_of_libraries_are_read(value: object) -> None:
    assert iso(value).startswith(str(value)[:10])
    assert iso(None) == iso("soon") == ""
