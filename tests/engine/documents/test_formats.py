"""What users may rely on: the same content says the same in every format, with its structure."""

from __future__ import annotations

import io
from email.message import EmailMessage
from pathlib import Path

import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.documents import formats
from engine.documents.detect import detect
from engine.documents.formats.sheet_bounds import spanned_by_references
from engine.documents.parse import NESTING_MAX, parse_document
from engine.documents.parsed import Block, Parsed
from engine.errors import DocumentUnreadable, ParserLimitExceeded, UnsupportedMediaType
from tests.engine.documents.writers import WRITERS, Content, as_docx, sheet_as_ods, zipped

_WORDS = st.lists(
    st.sampled_from(
        [
            *("lighthouse", "Größe", "東京", "naïve", "Ελλάδα", "42", "tea", "&"),
            *("O'Neill", "<b>", "стол", "😀", "end"),
        ]
    ),
    min_size=2,
    max_size=8,
).map(" ".join)
_TEXTS = _WORDS.map(lambda words: "Text " + words)
_PLAIN = ("md", "org", "rst")
"""Formats in which content may hold marks: those are left out of the words there."""

_CONTENT = st.builds(
    Content,
    heading=_TEXTS,
    paragraph=_TEXTS,
    items=st.lists(_TEXTS, min_size=2, max_size=4),
    rows=st.lists(st.lists(_TEXTS, min_size=3, max_size=3), min_size=2, max_size=4),
    section=_TEXTS,
    ending=_TEXTS,
)
ONE = Content(
    "A heading",
    "A paragraph of words.",
    ["first item", "second item"],
    [["a", "b"], ["1", "2"]],
    "A section",
    "The ending.",
)


def _texts(parsed: Parsed, role: str = "body") -> list[str]:
    return [_text(parsed, block) for block in parsed.blocks if block.role == role]


def _text(parsed: Parsed, block: Block) -> str:
    return parsed.text[block.span.start : block.span.end]


def _words(parsed: Parsed) -> list[str]:
    return " ".join(_texts(parsed)).replace("|", " ").split()


@pytest.mark.parametrize("ending", sorted(WRITERS))
@settings(max_examples=15)
@given(content=_CONTENT)
def test_every_format_gives_every_word_in_order(ending: str, content: Content) -> None:
    texts = content.texts()
    if ending in _PLAIN:
        texts = [text.replace("<b>", "b") for text in texts]
        heading, paragraph, section, last = texts[0], texts[1], texts[-2], texts[-1]
        items = [item.replace("<b>", "b") for item in content.items]
        rows = [[cell.replace("<b>", "b") for cell in row] for row in content.rows]
        content = Content(heading, paragraph, items, rows, section, last)
    parsed = parse_document(WRITERS[ending](content), f"file.{ending}")
    assert _words(parsed) == " ".join(texts).split()
    assert Parsed.from_json(parsed.to_json()) == parsed


@pytest.mark.parametrize("ending", sorted(WRITERS))
def test_every_format_keeps_rows_and_says_who_wrote_it(ending: str) -> None:
    parsed = parse_document(WRITERS[ending](ONE), f"file.{ending}")
    tables = [_text(parsed, block) for block in parsed.blocks if block.kind == "table"]
    assert tables == ["| a | b |\n| 1 | 2 |"]
    if ending in ("docx", "epub", "rtf", "eml"):
        assert "An Author" in parsed.author


@pytest.mark.parametrize("ending", sorted(WRITERS.keys() - {"rtf"}))
def test_every_format_with_headings_gives_their_path(ending: str) -> None:
    parsed = parse_document(WRITERS[ending](ONE), f"file.{ending}")
    last = next(b for b in parsed.blocks if _text(parsed, b) == "The ending.")
    outer = () if ending == "pptx" else ("A heading",)
    assert last.heading_path == (*outer, "A section")
    items = [_text(parsed, block) for block in parsed.blocks if block.kind == "list_item"]
    assert items == ([] if ending == "pptx" else ["first item", "second item"])


@pytest.mark.parametrize("ending", sorted(WRITERS))
def test_the_bytes_of_a_binary_file_decide_and_not_its_name(ending: str) -> None:
    data = WRITERS[ending](ONE)
    told_by_name = ending in _PLAIN
    named = parse_document(data, "notes.csv" if not told_by_name else f"x.{ending}", "image/png")
    assert named.media_type == parse_document(data, f"file.{ending}").media_type


def test_a_slide_is_a_page_and_its_shapes_have_boxes() -> None:
    parsed = parse_document(WRITERS["pptx"](ONE), "deck.pptx")
    assert parsed.page_count == 2
    assert {block.page for block in parsed.blocks} == {1, 2}
    boxes = [block.box for block in parsed.blocks]
    assert all(box is not None and box[0] < box[2] and box[1] < box[3] for box in boxes)


def test_a_sheet_is_a_heading_and_numbers_are_as_they_are_shown() -> None:
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True})
    sheet = book.add_worksheet("Wins")
    for at, row in enumerate([["Team", "Wins"], ["Leafs", 13], ["Wings", 1.5], ["", ""]]):
        sheet.write_row(at, 0, row)
    book.add_worksheet("Empty")
    book.close()
    parsed = parse_document(out.getvalue(), "wins.bin")
    assert parsed.media_type == formats.XLSX
    assert [(block.kind, _text(parsed, block)) for block in parsed.blocks] == [
        ("heading", "Wins"),
        ("table", "| Team | Wins |\n| Leafs | 13 |\n| Wings | 1.5 |"),
        ("heading", "Empty"),
    ]


def test_an_opendocument_sheet_is_read_as_far_as_it_is_filled() -> None:
    parsed = parse_document(sheet_as_ods("a cell", times=2), "a.ods")
    assert parsed.media_type == formats.ODS
    assert parsed.text == "s\n\n| a cell | a cell |\n| a cell | a cell |"


@given(st.integers(1, 1_048_576), st.integers(1, 16_384))
def test_the_span_of_a_sheet_is_known_before_it_is_read(row: int, column: int) -> None:
    letters, number = "", column
    while number:
        number, digit = divmod(number - 1, 26)
        letters = chr(65 + digit) + letters
    sheet = f'<c r="A1"><v>1</v></c><c r="{letters}{row}" t="n"><v>1</v></c><c r="ZZ9" s="1"/>'
    assert spanned_by_references(sheet.encode()) == row * column


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_table_of_text_is_read_whatever_parts_its_cells(delimiter: str) -> None:
    rows = [["name", "place, or way"], ["Ada", 'a "quoted" word'], ["Zoë", "two\nlines"]]
    source = "\r\n".join(
        delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows
    )
    parsed = parse_document(source.encode("utf-16"), "table.csv")
    lines = ["| name | place, or way |", '| Ada | a "quoted" word |', "| Zoë | two lines |"]
    assert parsed.text.split("\n") == lines


def test_json_says_the_way_to_every_value_and_parts_records() -> None:
    source = b'[{"a": {"b": 1, "c": ["x", "y"]}, "d": null}, {"a": true}]'
    assert parse_document(source, "r.json").text == "a.b: 1\na.c: x, y\n\na: true"
    lines = b'{"a": 1}\n{"a": 2}\n'
    assert (
        parse_document(lines, "r.jsonl").text
        == parse_document(b"[" + lines.strip().replace(b"\n", b",") + b"]", "r.json").text
    )
    with pytest.raises(DocumentUnreadable, match="line 2"):
        parse_document(b'{"a": 1}\n{"a": ', "r.jsonl")


def test_code_is_kept_as_it_stands() -> None:
    source = "import os\n\n\ndef f(x):\n    if x:\n\n        return 1\n\n\nclass A:\n    pass\n"
    parsed = parse_document(source.encode(), "src/f.py")
    assert (parsed.title, parsed.media_type) == ("f.py", formats.CODE)
    assert [_text(parsed, block) for block in parsed.blocks] == [
        "import os",
        "def f(x):\n    if x:\n\n        return 1",
        "class A:\n    pass",
    ]


def _mail(depth: int) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "a@example.com", "b@example.com"
    message["Subject"], message["MIME-Version"] = f"Grüße {depth}", "1.0"
    message.set_content(f"The words of mail {depth}.")
    if depth:
        message.add_attachment(_mail(depth - 1))
    return message


def test_attachments_are_read_each_by_its_own_parser() -> None:
    mail = _mail(1)
    mail.add_attachment(as_docx(ONE), maintype="application", subtype="x", filename="doc.bin")
    mail.add_attachment(b"\x7fELF" + bytes(50), maintype="application", subtype="x", filename="p")
    parsed = parse_document(mail.as_bytes(), "m.eml")
    assert parsed.title == "Grüße 1"
    texts = _texts(parsed)
    for text in (
        "The words of mail 1.",
        "The words of mail 0.",
        "Attachment: doc.bin",
        "A section",
    ):
        assert text in texts
    inner = next(b for b in parsed.blocks if _text(parsed, b) == "The ending.")
    assert inner.heading_path[-3:] == ("Attachment: doc.bin", "A heading", "A section")
    (refused,) = [text for text in _texts(parsed, "boilerplate") if "Not read" in text]
    assert "executable" in refused


def test_mails_in_mails_end_at_a_bound() -> None:
    assert "mail 0" in parse_document(_mail(NESTING_MAX).as_bytes(), "m.eml").text
    with pytest.raises(ParserLimitExceeded, match=str(NESTING_MAX)):
        parse_document(_mail(NESTING_MAX + 1).as_bytes(), "m.eml")


def test_headers_and_footers_are_kept_and_marked() -> None:
    import docx

    document = docx.Document()
    document.add_paragraph("The words.")
    document.sections[0].header.paragraphs[0].text = "Confidential"
    out = io.BytesIO()
    document.save(out)
    parsed = parse_document(out.getvalue(), "a.docx")
    assert (_texts(parsed), _texts(parsed, "boilerplate")) == (["The words."], ["Confidential"])
    page = b"<html><body><header>Site</header><article><header>Mine</header><p>Words</p></article>"
    read = parse_document(page + b"<footer>2024</footer></body></html>")
    assert _texts(read, "boilerplate") == ["Site", "2024"]
    assert _texts(read) == ["Mine", "Words"]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The lighthouse stands on the dike and its light is seen from far away at sea.", "en"),
        ("Der Leuchtturm steht auf dem Deich, und sein Licht ist weit auf See zu sehen.", "de"),
        ("灯台は堤防の上に立っていて、その光は海の遠くからでも見ることができます。" * 2, "ja"),
        ("12 34 56 78", ""),
    ],
)
def test_the_language_is_told_where_it_can_be(text: str, language: str) -> None:
    assert parse_document(text.encode(), "a.txt").language == language


def test_a_language_that_a_page_names_is_believed() -> None:
    assert parse_document(b"<html lang='pt-BR'><p>Hello</p></html>").language == "pt"


def test_a_file_of_which_only_the_beginning_is_seen_is_not_refused() -> None:
    entries = {f"media/{n}.bin": bytes(range(256)) * 40 for n in range(40)}
    late = zipped(
        {**entries, "word/document.xml": "<x/>", "[Content_Types].xml": "<x/>"}, stored=[*entries]
    )
    assert detect(late[:65_536], "late.docx") == formats.ZIP
    assert detect(late, "late.docx") == formats.DOCX


def test_a_picture_is_read_or_its_reason_names_what_to_install() -> None:
    from PIL import Image

    from engine.documents.formats.ocr import ocr_available

    out = io.BytesIO()
    Image.new("L", (200, 80), 255).save(out, "PNG")
    reason = "holds no text" if ocr_available() else "tesseract-ocr-eng"
    with pytest.raises(DocumentUnreadable, match=reason):
        parse_document(out.getvalue(), "white.png")
    with pytest.raises(DocumentUnreadable, match="broken"):
        parse_document(out.getvalue()[:60], "cut.png")


_LETTERS = {
    "cp1251": "Маяк стоит на дамбе, и его свет виден далеко в море. Овцы пасутся вокруг него.",  # noqa: RUF001
    "shift_jis": "灯台は堤防の上に立っていて、その光は海の遠くからでも見ることができます。",
    "gb18030": "灯塔矗立在堤坝上，从远处的海上就能看到它的光芒。绵羊在它周围吃草。",  # noqa: RUF001
    "euc_kr": "등대는 제방 위에 서 있고, 그 빛은 먼 바다에서도 볼 수 있습니다.",
    "iso-8859-7": "Ο φάρος στέκεται στο ανάχωμα και το φως του φαίνεται από μακριά.",  # noqa: RUF001
    "cp1252": "Der Leuchtturm – überall grüßen Schafe, „süß“ heißt es: Größe, Maß, Füße, Höhe.",  # noqa: RUF001
}


@pytest.mark.parametrize("encoding", sorted(_LETTERS))
def test_text_without_a_mark_is_read_in_the_encoding_its_letters_say(encoding: str) -> None:
    text = " ".join([_LETTERS[encoding]] * 4)
    assert parse_document(text.encode(encoding), "a.txt").text == text


def test_utf8_with_a_damaged_byte_stays_utf8() -> None:
    data = ("Größe " * 40).encode() + b"\xff" + ("Füße " * 40).encode()
    assert parse_document(data, "a.txt").text.count("Größe") == 40


_ENCRYPTED = {
    "a.xlsx": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
    + bytes(500)
    + "EncryptedPackage\0".encode("utf-16-le"),
    "a.eml": b"From: a@b.c\nDate: x\nMIME-Version: 1.0\n"
    b'Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"\n'
    b"Content-Transfer-Encoding: base64\n\nMIIB\n",
    "a.odt": zipped(
        {
            "mimetype": formats.ODT,
            "META-INF/manifest.xml": "<m><encryption-data/></m>",
            "content.xml": b"\x12\x34",
        },
        stored=["mimetype"],
    ),
}


@pytest.mark.parametrize("name", sorted(_ENCRYPTED))
def test_an_encrypted_file_is_refused_as_that(name: str) -> None:
    with pytest.raises(DocumentUnreadable, match="encrypted") as caught:
        parse_document(_ENCRYPTED[name], name)
    assert caught.value.metadata["reason"] == "encrypted"


_WHOLE = {name: write(ONE) for name, write in WRITERS.items()}


@settings(max_examples=150)
@given(
    st.sampled_from(sorted(_WHOLE)),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=20),
)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    name: str, kept: float, damage: list[tuple[float, int]]
) -> None:
    data = bytearray(_WHOLE[name])
    for place, byte in damage:
        data[int(place * len(data))] = byte
    try:
        parsed = parse_document(bytes(data[: int(kept * len(data))]), f"file.{name}")
    except (DocumentUnreadable, UnsupportedMediaType):
        return
    assert Parsed.from_json(parsed.to_json()) == parsed


def test_every_row_of_the_table_has_its_module() -> None:
    there = {path.stem for path in Path(formats.__file__).parent.glob("*.py")}
    for media_type, row in formats.FORMATS.items():
        assert row.module in there
        reader = formats.format_of(media_type)
        assert reader is not None and callable(reader.parse)
