"""A PDF written by hand: lines of Helvetica at given places, enough for a reader to open."""

from __future__ import annotations

from collections.abc import Sequence

Line = tuple[int, int, int, str]
"""Left and baseline in points, font size, ASCII text."""


def pdf(
    pages: Sequence[Sequence[Line]],
    *,
    title: str = "",
    encrypted: bool = False,
    rotate: int = 0,
    drawn: bytes = b"",
) -> bytes:
    """`drawn` are operators before the text of each page, `rotate` degrees that it is shown in."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    objects.append(
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    )
    objects.append(b"<< /Title (%s) >>" % title.encode())
    kids = []
    for lines in pages:
        stream = b"\n".join(
            b"BT /F1 %d Tf %d %d Td (%s) Tj ET" % (size, x, y, text.encode())
            for x, y, size, text in lines
        )
        stream = drawn + b"\n" + stream
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
            b"/Rotate %d /Resources << /Font << /F1 3 0 R >> >> >>" % (len(objects), rotate)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    trailer = b"/Root 1 0 R /Info 4 0 R"
    if encrypted:
        key = b"<" + b"5a" * 32 + b">"
        objects.append(b"<< /Filter /Standard /V 1 /R 2 /O %s /U %s /P -4 >>" % (key, key))
        trailer += b" /Encrypt %d 0 R /ID [<00> <00>]" % len(objects)
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    return (
        out
        + b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d %s >>\n"
        % (
            size,
            table,
            size,
            trailer,
        )
        + b"startxref\n%d\n%%%%EOF\n" % len(out)
    )
