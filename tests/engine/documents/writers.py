"""The same content written in many formats: what programs write, by the libraries or by hand."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from html import escape
from xml.sax.saxutils import escape as xml_escape

import docx
import pptx
from pptx.util import Inches


@dataclass(frozen=True, slots=True)
class Content:
    """A heading, a paragraph, a list, a table with rows of the same length, and a last section."""

    heading: str
    paragraph: str
    items: Sequence[str]
    rows: Sequence[Sequence[str]]
    section: str
    ending: str

    def texts(self) -> list[str]:
        """Every text in order."""
        cells = [cell for row in self.rows for cell in row]
        return [self.heading, self.paragraph, *self.items, *cells, self.section, self.ending]


def zipped(entries: Mapping[str, bytes | str], *, stored: Sequence[str] = ()) -> bytes:
    """A ZIP archive; the names in `stored` are not packed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            packing = zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED
            archive.writestr(name, data, compress_type=packing)
    return out.getvalue()


def as_docx(content: Content) -> bytes:
    """By python-docx."""
    document = docx.Document()
    document.core_properties.title, document.core_properties.author = "", "An Author"
    document.add_heading(content.heading, 1)
    document.add_paragraph(content.paragraph)
    for item in content.items:
        document.add_paragraph(item, style="List Bullet")
    table = document.add_table(rows=0, cols=len(content.rows[0]))
    for row in content.rows:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.add_heading(content.section, 2)
    document.add_paragraph(content.ending)
    document.sections[0].footer.paragraphs[0].text = ""
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def as_pptx(content: Content) -> bytes:
    """By python-pptx: two slides."""
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = content.heading
    box = slide.shapes.add_textbox(Inches(1), Inches(1.5), Inches(8), Inches(1))
    box.text_frame.text = content.paragraph
    box = slide.shapes.add_textbox(Inches(1), Inches(3), Inches(8), Inches(1))
    box.text_frame.text = content.items[0]
    for item in content.items[1:]:
        box.text_frame.add_paragraph().text = item
    table = slide.shapes.add_table(
        len(content.rows), len(content.rows[0]), Inches(1), Inches(5), Inches(8), Inches(1)
    ).table
    for at, row in enumerate(content.rows):
        for column, text in enumerate(row):
            table.cell(at, column).text = text
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = content.section
    box = slide.shapes.add_textbox(Inches(1), Inches(2), Inches(8), Inches(1))
    box.text_frame.text = content.ending
    out = io.BytesIO()
    deck.save(out)
    return out.getvalue()


def as_html(content: Content) -> bytes:
    """A page of plain elements."""
    items = "".join(f"<li>{escape(item)}</li>" for item in content.items)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in content.rows
    )
    return (
        f"<!doctype html><html><body><h1>{escape(content.heading)}</h1>"
        f"<p>{escape(content.paragraph)}</p><ul>{items}</ul><table>{rows}</table>"
        f"<h2>{escape(content.section)}</h2><p>{escape(content.ending)}</p></body></html>"
    ).encode()


def as_epub(content: Content) -> bytes:
    """A book of one chapter, with a contents page that is not read."""
    page = as_html(content).decode().replace("<!doctype html>", '<?xml version="1.0"?>')
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<metadata><dc:title>Book</dc:title><dc:creator>An Author</dc:creator></metadata>"
        '<manifest><item id="n" href="nav.xhtml" media-type="application/xhtml+xml" '
        'properties="nav"/><item id="c" href="text/c%201.xhtml" '
        'media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="n"/><itemref idref="c"/></spine></package>'
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/p.opf"/></rootfiles></container>'
    )
    entries = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": container,
        "OEBPS/p.opf": package,
        "OEBPS/nav.xhtml": "<html><body><p>Contents</p></body></html>",
        "OEBPS/text/c 1.xhtml": page,
    }
    return zipped(entries, stored=["mimetype"])


def as_odt(content: Content) -> bytes:
    """The parts of an OpenDocument text that matter."""

    def p(text: str) -> str:
        return f"<text:p>{xml_escape(text)}</text:p>"

    items = "".join(f"<text:list-item>{p(item)}</text:list-item>" for item in content.items)
    rows = "".join(
        "<table:table-row>"
        + "".join(f"<table:table-cell>{p(cell)}</table:table-cell>" for cell in row)
        + "</table:table-row>"
        for row in content.rows
    )
    names = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "text", "table")
    )
    body = (
        f'<text:h text:outline-level="1">{xml_escape(content.heading)}</text:h>'
        f"{p(content.paragraph)}<text:list>{items}</text:list><table:table>{rows}</table:table>"
        f'<text:h text:outline-level="2">{xml_escape(content.section)}</text:h>{p(content.ending)}'
    )
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": f"<office:document-content {names}><office:body><office:text>{body}"
            "</office:text></office:body></office:document-content>",
        },
        stored=["mimetype"],
    )


def sheet_as_ods(text: str, *, times: int = 1) -> bytes:
    """A sheet of one text, repeated so many times down and across."""
    names = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "text", "table")
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    manifest = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
    row = (
        f'<table:table-row table:number-rows-repeated="{times}"><table:table-cell '
        f'table:number-columns-repeated="{times}" office:value-type="string">'
        f"<text:p>{xml_escape(text)}</text:p></table:table-cell></table:table-row>"
        '<table:table-row table:number-rows-repeated="1048575"><table:table-cell '
        'table:number-columns-repeated="16384"/></table:table-row>'
    )
    return zipped(
        {
            "mimetype": kind,
            "META-INF/manifest.xml": f'<?xml version="1.0"?><manifest:manifest '
            f'xmlns:manifest="{manifest}"><manifest:file-entry manifest:full-path="/" '
            f'manifest:media-type="{kind}"/></manifest:manifest>',
            "content.xml": f'<?xml version="1.0"?><office:document-content {names}><office:body>'
            f'<office:spreadsheet><table:table table:name="s">{row}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        },
        stored=["mimetype"],
    )


def as_markdown(content: Content) -> bytes:
    """Words only: no content may hold marks of Markdown."""
    head, *rest = content.rows
    rows = [head, ["---"] * len(head), *rest]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    items = "\n".join(f"- {item}" for item in content.items)
    return (
        f"# {content.heading}\n\n{content.paragraph}\n\n{items}\n\n{table}\n\n"
        f"## {content.section}\n\n{content.ending}\n"
    ).encode()


def as_org(content: Content) -> bytes:
    """As as_markdown."""
    table = "\n".join("| " + " | ".join(row) + " |" for row in content.rows)
    items = "\n".join(f"- {item}" for item in content.items)
    return (
        f"* {content.heading}\n{content.paragraph}\n\n{items}\n\n{table}\n\n"
        f"** {content.section}\n{content.ending}\n"
    ).encode()


def as_rst(content: Content) -> bytes:
    """As as_markdown."""
    lines = [content.heading, "=" * 200, "", content.paragraph, ""]
    lines += [f"- {item}" for item in content.items]
    lines += ["", ".. list-table::", ""]
    for row in content.rows:
        lines += [f"   * - {row[0]}", *(f"     - {cell}" for cell in row[1:])]
    lines += ["", content.section, "-" * 200, "", content.ending, ""]
    return "\n".join(lines).encode()


def as_rtf(content: Content) -> bytes:
    """Paragraphs and rows of cells."""

    def text(value: str) -> str:
        units = value.encode("utf-16-le")
        return "".join(map(letter, memoryview(units).cast("H")))

    def letter(unit: int) -> str:
        plain = 32 <= unit < 127 and chr(unit) not in "\\{}"
        return chr(unit) if plain else f"\\u{unit - (unit > 32767) * 65536}?"

    rows = "".join(
        "\\trowd " + "".join(f"{text(cell)}\\cell " for cell in row) + "\\row\n"
        for row in content.rows
    )
    before = [content.heading, content.paragraph, *content.items]
    after = [content.section, content.ending]
    return (
        "{\\rtf1\\ansi\\deff0{\\info{\\author An Author}}\n"
        + "".join(f"{text(each)}\\par\n" for each in before)
        + rows
        + "".join(f"{text(each)}\\par\n" for each in after)
        + "}"
    ).encode()


def as_eml(content: Content) -> bytes:
    """A mail with a page, and the same as plain text."""
    message = EmailMessage()
    message["From"], message["To"] = "An Author <a@example.com>", "b@example.com"
    message["Date"] = "Mon, 05 Feb 2024 10:00:00 +0100"
    message["MIME-Version"] = "1.0"
    message.set_content("See the page.")
    message.add_alternative(as_html(content).decode(), subtype="html")
    return message.as_bytes()


WRITERS: Mapping[str, Callable[[Content], bytes]] = {
    "docx": as_docx,
    "pptx": as_pptx,
    "html": as_html,
    "epub": as_epub,
    "odt": as_odt,
    "md": as_markdown,
    "org": as_org,
    "rst": as_rst,
    "rtf": as_rtf,
    "eml": as_eml,
}
