"""Files made to harm whoever opens them, a function each; they are made where they are read."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from email.message import EmailMessage

import docx
import xlsxwriter

from tests.engine.documents.pdf_bytes import pdf
from tests.engine.documents.writers import sheet_as_ods, zipped

_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-'
    'officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
    'relationships/officeDocument" Target="word/document.xml"/></Relationships>'
)
_ENTITY = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
_LAUGHS = (
    "<!DOCTYPE a [<!ENTITY l0 'lol'>"
    + "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 10))
    + "]><a>&l9;</a>"
)


def _sparse_tar() -> bytes:
    """A file of which a tar says that it has a terabyte, all of it holes (GNU's old format)."""
    member = tarfile.TarInfo("holes.txt")
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[156:157] = tarfile.GNUTYPE_SPARSE
    head[386:398] = b"%011o\0" % (1 << 32)
    head[483:495] = b"%011o\0" % (1 << 32)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + bytes(10_240)


def _docx(document: str | bytes) -> bytes:
    return zipped(
        {
            "[Content_Types].xml": _TYPES,
            "_rels/.rels": _RELATIONS,
            "word/document.xml": document,
        }
    )


def _body(inside: str) -> str:
    return f"<w:document {_W}><w:body>{inside}</w:body></w:document>"


def _nested_archives() -> bytes:
    data = zipped({"zeros": bytes(10_000_000)})
    for _ in range(4):
        data = zipped({f"{n}.zip": data for n in range(10)})
    return data


def _sheet_at_the_far_corner() -> bytes:
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True})
    sheet = book.add_worksheet("s")
    sheet.write(0, 0, 1)
    sheet.write(1_048_575, 16_383, 2)
    book.close()
    return out.getvalue()


def _repeated_cells() -> bytes:
    return sheet_as_ods("x", times=1_000_000)


def _picture(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def _mail_of_parts() -> bytes:
    lines = ["From: a@b.c", "To: a@b.c", "Date: x", "MIME-Version: 1.0"]
    for n in range(3_000):
        lines += [f'Content-Type: multipart/mixed; boundary="b{n}"', "", f"--b{n}"]
    return "\n".join(lines).encode()


def _mail_in_mails(depth: int) -> bytes:
    message = EmailMessage()
    message["From"], message["Date"], message["MIME-Version"] = "a@b.c", "x", "1.0"
    message.set_content("Words.")
    data = message.as_bytes()
    for _ in range(depth):
        head = b"From: a@b.c\nDate: x\nMIME-Version: 1.0\nContent-Type: message/rfc822\n\n"
        data = head + data
    return data


def _page_tree_loop() -> bytes:
    good = pdf([[(72, 700, 12, "text")]])
    return good.replace(b"/Kids [6 0 R]", b"/Kids [2 0 R]")


def _flate_bomb() -> bytes:
    stream = zlib.compress(b"BT /F1 9 Tf (x) Tj ET\n" * 2_500_000, 9)
    return pdf([[(72, 700, 12, "text")]]).replace(
        b"<< /Title () >>",
        b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
    )


def _docx_by_library() -> bytes:
    out = io.BytesIO()
    docx.Document().save(out)
    return out.getvalue()


HOSTILE: Mapping[str, Callable[[], bytes]] = {
    "bomb.docx": lambda: _docx(_body("<w:p/>" * 17_000_000)),
    "large-part.docx": lambda: zipped({"word/a.xml": bytes(100_000_000)}),
    "xxe.docx": lambda: _docx(_ENTITY + _body("<w:p><w:r><w:t>&x;</w:t></w:r></w:p>")),
    "laughs.docx": lambda: _docx(_LAUGHS),
    "deep.docx": lambda: _docx(_body("<w:tbl><w:tr><w:tc>" * 20_000)),
    "cut.docx": lambda: _docx_by_library()[:9_000],
    "bomb.zip": lambda: zipped({"zeros": bytes(100_000_000)}),
    "nested.zip": _nested_archives,
    "bomb.gz": lambda: gzip.compress(bytes(200_000_000), 9),
    "bomb.tar.gz": lambda: gzip.compress(_sparse_tar()),
    "sparse.tar": lambda: _sparse_tar(),
    "entries.zip": lambda: zipped({f"f{n}": b"" for n in range(30_000)}),
    "slip.zip": lambda: zipped({"../../tmp/slipped": b"x", "/tmp/slipped": b"x"}),
    "far.xlsx": _sheet_at_the_far_corner,
    "repeated.ods": _repeated_cells,
    "laughs.xml": lambda: b"<?xml version='1.0'?>" + _LAUGHS.encode(),
    "xxe.svg": lambda: b"<?xml version='1.0'?>" + f"{_ENTITY}<svg><text>&x;</text></svg>".encode(),
    "xxe-16.xml": lambda: f"<?xml version='1.0' encoding='utf-16'?>{_ENTITY}<a>&x;</a>".encode(
        "utf-16"
    ),
    "deep.xml": lambda: b"<?xml version='1.0'?>" + b"<a>" * 200_000 + b"words",
    "deep.json": lambda: b"[" * 1_000_000,
    "deep.html": lambda: b"<div>" * 100_000 + b"words",
    "deep.md": lambda: b">" * 50_000 + b" words",
    "deep.rst": lambda: b"".join(b" " * n + b"* a\n\n" for n in range(1_500)),
    "deep.rtf": lambda: b"{\\rtf1 " + b"{" * 1_000_000 + b"words",
    "stars.rst": lambda: b"*a " * 100_000 + b"`b_ " * 100_000,
    "stars.org": lambda: b"*a " * 200_000 + b"[[" * 100_000,
    "line.txt": lambda: b"word " * 1_000_000,
    "quotes.csv": lambda: b'"a,' * 1_500_000,
    "cells.csv": lambda: b"," * 5_000_000 + b"word",
    "picture.png": lambda: _picture(60_000, 60_000),
    "parts.eml": _mail_of_parts,
    "mails.eml": lambda: _mail_in_mails(2_000),
    "loop.pdf": _page_tree_loop,
    "flate.pdf": _flate_bomb,
    "name.pdf": lambda: _picture(10, 10),
    "bytes.txt": lambda: bytes(range(256)) * 40,
    "compound.msg": lambda: (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
        + "__properties_version1.0\0".encode("utf-16-le")
        + bytes(range(256)) * 400
    ),
}
