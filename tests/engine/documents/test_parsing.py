"""What users may rely on: the text a reader sees, with its structure, and a true reason if not."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.documents import detect, formats
from engine.documents.clean import clean, join_lines
from engine.documents.parse import parse, parse_document
from engine.documents.parsed import Parsed
from engine.errors import DocumentUnreadable, UnsupportedMediaType
from tests.engine.documents.pdf_bytes import pdf
from tests.engine.documents.strategies import documents

_FILES = Path(__file__).parents[3] / "corpus" / "files"


def _kinds(parsed: Parsed) -> list[tuple[str, str]]:
    return [(b.kind, parsed.text[b.span.start : b.span.end]) for b in parsed.blocks]


def test_markdown_gives_headings_lists_tables_and_code() -> None:
    source = (
        "---\ntitle: 'Front'\n---\n# One *two*\n\n"
        "Soft\nwrapped [link](http://x) `code` &amp; a.\n\n"
        "- first\n- second\n\n## Deeper\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "```py\nif x:\n    y\n```\n"
        "\n<div>raw <b>html</b><script>no()</script></div>\n"
    )
    parsed = parse_document(source.encode(), "notes.md")
    assert parsed.title == "Front"
    assert _kinds(parsed) == [
        ("heading", "One two"),
        ("paragraph", "Soft wrapped link code & a."),
        ("list_item", "first"),
        ("list_item", "second"),
        ("heading", "Deeper"),
        ("table", "| a | b |\n| 1 | 2 |"),
        ("code", "if x:\n    y"),
        ("paragraph", "raw html"),
    ]
    assert parsed.blocks[5].heading_path == ("One two", "Deeper")
    assert parsed.blocks[0].heading_path == ("One two",)


def test_html_gives_what_is_seen_and_leaves_out_what_is_not() -> None:
    page = (
        "<!doctype html><html><head><title>T &eacute;</title><style>x{}</style></head><body>"
        "<nav><a>Home</a></nav><script>alert(1)</script><h1>Head<br>line</h1>"
        "<p>Some <b>bold</b>\n text&nbsp;&lt;here&gt;<!-- no --></p>loose<ul><li>a<li>b</ul>"
        "<table><tr><th>k</th><th>v</th></tr><tr><td>1</td><td>2</td></tr></table>"
        "<pre>x\n  y</pre><p hidden>secret</p><p style='display: none'>secret</p></body></html>"
    )
    parsed = parse_document(page.encode(), "anything.txt", "text/plain")
    assert (parsed.media_type, parsed.title) == ("text/html", "T é")
    assert _kinds(parsed) == [
        ("heading", "Head line"),
        ("paragraph", "Some bold text <here>"),
        ("paragraph", "loose"),
        ("list_item", "a"),
        ("list_item", "b"),
        ("table", "| k | v |\n| 1 | 2 |"),
        ("code", "x\n  y"),
    ]


def test_pdf_gives_pages_headings_and_paragraphs_without_line_breaks() -> None:
    body = [
        (72, 700, 12, "The first line of a para-"),
        (72, 686, 12, "graph goes on here and"),
        (72, 672, 12, "ends here."),
        (72, 640, 12, "A second one follows after a gap."),
    ]
    data = pdf([[(72, 740, 24, "The Heading"), *body], [(72, 700, 12, "Next page.")]], title="Meta")
    parsed = parse_document(data, "report.txt")
    assert (parsed.title, parsed.page_count, parsed.media_type) == ("Meta", 2, "application/pdf")
    assert _kinds(parsed) == [
        ("heading", "The Heading"),
        ("paragraph", "The first line of a paragraph goes on here and ends here."),
        ("paragraph", "A second one follows after a gap."),
        ("paragraph", "Next page."),
    ]
    assert [b.page for b in parsed.blocks] == [1, 1, 1, 2]


def test_plain_text_keeps_verses_joins_wrapped_lines_and_sees_lists() -> None:
    wrapped = "A line that someone wrapped at a usual width,\nand so this is the same sentence.\n"
    source = f"{wrapped}\nroses\nviolets\n \nTo do:\n1. buy\n2. sell\n"
    assert _kinds(parse_document(source.encode())) == [
        ("paragraph", wrapped.strip().replace("\n", " ")),
        ("paragraph", "roses\nviolets"),
        ("paragraph", "To do:"),
        ("list_item", "1. buy"),
        ("list_item", "2. sell"),
    ]


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"],
)
def test_text_is_read_in_the_encoding_it_was_written_in(encoding: str) -> None:
    text = "Zürich costs 5 € \u2014 naïve enough to be read in any encoding."
    assert parse_document(text.encode(encoding)).text == text


def test_a_page_is_read_in_the_charset_it_declares() -> None:
    page = '<html><meta charset="windows-1251"><p>Привет</p></html>'
    assert parse_document(page.encode("cp1251")).text == "Привет"


@pytest.mark.parametrize(
    ("name", "declared", "expected"),
    [
        ("a.md", "", "text/markdown"),
        ("a.md", "text/plain", "text/markdown"),
        ("a.txt", "text/markdown; charset=utf-8", "text/markdown"),
        ("a.HTM", "", "text/html"),
        ("a.pdf", "application/pdf", "text/plain"),
        ("", "image/png", "text/plain"),
    ],
)
def test_name_and_declared_type_choose_only_between_texts(
    name: str, declared: str, expected: str
) -> None:
    assert detect.detect(b"Only words.", name, declared) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF" + bytes(200),
        b"\x1f\x8b" + bytes(99),
        b"\x00\x00\x00\x18ftypheic" + bytes(99),
        bytes(range(256)) * 8,
    ],
)
def test_other_files_are_refused_with_what_is_supported_whatever_they_are_called(
    data: bytes,
) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        parse_document(data, "notes.md", "text/plain")
    for supported in formats.SUPPORTED:
        assert supported in caught.value.message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b" \n\t\x00", "empty"),
        (b"%PDF-1.4\n", "broken"),
        (pdf([[(72, 700, 12, "text")]])[:300], "broken"),
        (pdf([[(72, 700, 12, "text")]], encrypted=True), "password"),
        (pdf([[], []]), "scan"),
        (b"<html><script>x</script></html>", "holds no text"),
    ],
)
def test_unreadable_files_say_the_true_reason(data: bytes, reason: str) -> None:
    with pytest.raises(DocumentUnreadable, match=reason):
        parse_document(data, "file.bin")


def test_an_unknown_media_type_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedMediaType, match="audio/ogg"):
        parse(b"x", "audio/ogg")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("deep.html", b"<div>" * 20_000 + b"words" + b"</div>" * 20_000),
        ("quotes.md", b">" * 20_000 + b" words\n\nwords"),
        ("lists.md", b"- " * 2_000 + b"words\n\n\nwords"),
        ("links.md", b"words " + b"[" * 10_000),
        ("line.txt", b"words " + b" \t" * 200_000 + b"a-" * 100_000),
        ("comments.html", b"<html>words" + b"<!-- " * 20_000),
    ],
)
def test_hostile_nesting_is_read_in_linear_time(name: str, data: bytes) -> None:
    started = time.perf_counter()
    assert "words" in parse_document(data, name).text
    assert time.perf_counter() - started < 5


@settings(max_examples=60, deadline=None)
@given(documents())
def test_a_parsed_document_survives_the_way_between_processes(parsed: Parsed) -> None:
    line = parsed.to_json()
    assert "\n" not in line
    assert Parsed.from_json(line) == parsed


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{}",
        '{"title":"","media_type":"","page_count":0,"text":"ab","paths":[[]],"blocks":[]}',
        '{"title":"","media_type":"","page_count":0,"text":"a","paths":[[]],'
        '"blocks":[["paragraph",0,9,0,0]]}',
        '{"title":"","media_type":"","page_count":0,"text":"a","paths":[[]],'
        '"blocks":[["nonsense",0,1,0,0]]}',
        '{"title":"","media_type":"","page_count":0,"text":"a","paths":[[]],'
        '"blocks":[["paragraph",0,1,0,0,"unheard",null]]}',
        '{"title":"","media_type":"","page_count":0,"text":"a","paths":[[]],'
        '"blocks":[["paragraph",0,1,0,0,"body",[9,0,1,1]]]}',
        '{"title":"","media_type":"","page_count":0,"text":"a","paths":[[]],"author":3,'
        '"blocks":[["paragraph",0,1,0,0]]}',
    ],
)
def test_nonsense_from_the_other_process_is_not_believed(line: str) -> None:
    with pytest.raises(DocumentUnreadable):
        Parsed.from_json(line)


def test_a_text_that_was_stored_before_blocks_had_places_is_still_read() -> None:
    line = (
        '{"title":"","media_type":"text/plain","page_count":0,"text":"a","paths":[[]],'
        '"blocks":[["paragraph",0,1,0,0]]}'
    )
    (block,) = Parsed.from_json(line).blocks
    assert (block.role, block.box) == ("body", None)


@settings(max_examples=300, deadline=None)
@given(st.text(), st.booleans())
def test_cleaning_is_idempotent_and_leaves_only_visible_text(text: str, keep_layout: bool) -> None:
    cleaned = clean(text, keep_layout=keep_layout)
    assert clean(cleaned, keep_layout=keep_layout) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert all(c in "\n\t" or unicodedata.category(c) != "Cc" for c in cleaned)
    cleaned.encode("utf-8")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["a.txt", "a.md", "a.html"]))
def test_any_bytes_are_read_or_refused_with_a_known_failure(data: bytes, name: str) -> None:
    try:
        parsed = parse_document(data, name)
    except (DocumentUnreadable, UnsupportedMediaType):
        return
    assert parsed.text.strip()
    assert Parsed.from_json(parsed.to_json()) == parsed


@pytest.mark.parametrize(
    ("lines", "joined"),
    [
        (["opti-", "mal search"], "optimal search"),
        (["state-of-the-", "art"], "state-of-the- art"),
        (["Anglo-", "Saxon"], "Anglo- Saxon"),
        (["pages 1-", "3"], "pages 1- 3"),
        (["e\ufb03cient"], "efficient"),
        (["Intro ........ 3"], "Intro … 3"),
    ],
)
def test_words_cut_at_line_ends_are_made_whole(lines: list[str], joined: str) -> None:
    assert join_lines(lines) == joined


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("what-is-ragmesh.md", "text/markdown"),
        ("operations.html", "text/html"),
        ("retrieval-notes.pdf", "application/pdf"),
        ("retrieval-notes.md", "text/markdown"),
    ],
)
def test_the_files_of_the_demo_are_read_whole(name: str, media_type: str) -> None:
    parsed = parse_document((_FILES / name).read_bytes(), name)
    assert parsed.media_type == media_type
    assert parsed.title
    assert 350 <= len(parsed.text.split()) <= 1_000
    assert sum(block.kind == "heading" for block in parsed.blocks) >= 4


def test_the_demo_pdf_says_what_its_source_says() -> None:
    made = parse_document((_FILES / "retrieval-notes.pdf").read_bytes())
    source = parse_document((_FILES / "retrieval-notes.md").read_bytes(), "notes.md")
    assert made.text.split() == source.text.split()
