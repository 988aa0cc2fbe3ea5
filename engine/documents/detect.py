"""What kind of file this is: its bytes decide; name and declared type only choose between texts.

A PDF is a PDF whatever it is called, and a picture named `notes.md` is refused. Between plain
text, Markdown and HTML the bytes often cannot tell, so there the declared media type (if it is
more than "text/plain") and then the name's ending choose.
"""

from __future__ import annotations

import codecs
import re

from engine.errors import DocumentUnreadable, UnsupportedMediaType

PLAIN = "text/plain"
MARKDOWN = "text/markdown"
HTML = "text/html"
PDF = "application/pdf"
SUPPORTED = (PLAIN, MARKDOWN, HTML, PDF)

_PDF_HEADER_WITHIN_BYTES = 1024
"""Readers accept the header within the first 1,024 bytes (ISO 32000-1, Annex H, note 13)."""

_SAMPLE_BYTES = 65_536
_CONTROL_SHARE_MAX = 0.02
"""Random bytes hold about 11 % of the control characters that text does not use."""

_BINARY: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "application/zip (also docx, xlsx, pptx, odt, epub)"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage (doc, xls, ppt, msg)"),
    (b"{\\rtf", "application/rtf"),
    (b"\x7fELF", "application/x-executable"),
    (b"MZ\x90", "application/x-msdownload"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"RIFF", "audio or image (RIFF)"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"%!PS", "application/postscript"),
)
_ENDINGS = {
    "md": MARKDOWN,
    "markdown": MARKDOWN,
    "mdown": MARKDOWN,
    "html": HTML,
    "htm": HTML,
    "xhtml": HTML,
}
_HTML_START = re.compile(
    r"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,4000}?-->\s*){0,8}"
    r"<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_XML_START = re.compile(r"\s*<(?:\?xml|svg)\b", re.IGNORECASE)
_META_CHARSET = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,300}?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE
)
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
# UTF-32 first: its little-endian mark starts with the one of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def detect(data: bytes, name: str = "", media_type: str = "") -> str:
    """The media type by which `data` is parsed, one of SUPPORTED.

    Raises DocumentUnreadable if there is nothing in the file, and UnsupportedMediaType, which
    names what was seen and what is supported, if no parser reads it.
    """
    if not data.strip(b" \t\r\n\x00"):
        raise DocumentUnreadable(
            f"the file is empty ({len(data)} bytes, none of them text); send one with content",
            metadata={"size_bytes": len(data)},
        )
    if b"%PDF-" in data[:_PDF_HEADER_WITHIN_BYTES]:
        return PDF
    for magic, seen in _BINARY:
        if data.startswith(magic):
            raise _unsupported(seen)
    text = decode(data[:_SAMPLE_BYTES])
    if len(_CONTROLS.findall(text)) > _CONTROL_SHARE_MAX * len(text):
        raise _unsupported("application/octet-stream")
    if _HTML_START.match(text):
        return HTML
    if _XML_START.match(text):
        raise _unsupported("application/xml")
    declared = media_type.split(";")[0].strip().lower()
    if declared in (MARKDOWN, HTML):
        return declared
    return _ENDINGS.get(name.rpartition(".")[2].lower(), PLAIN)


def decode(data: bytes) -> str:
    """The text of `data` in the first encoding that fits; never fails.

    In this order: a byte order mark; UTF-16 without a mark (every second byte of the start is
    zero); the charset an HTML page declares; UTF-8; and at last Windows-1252, in which every
    byte means something (its five holes become U+FFFD).
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    wide = _wide_encoding(data[:1024])
    if wide:
        return data.decode(wide, errors="replace")
    declared = _META_CHARSET.search(data[:2048])
    if declared:
        text = _try_decode(data, declared.group(1).decode("ascii", errors="replace"))
        if text is not None:
            return text
    # A sample may end inside a character: the incremental decoder waits for the rest of it.
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _try_decode(data: bytes, encoding: str) -> str | None:
    try:
        if not codecs.lookup(encoding)._is_text_encoding:
            return None
        return data.decode(encoding)
    except (LookupError, UnicodeError):
        return None


def _wide_encoding(start: bytes) -> str:
    even, odd = start[0::2], start[1::2]
    if len(odd) < 4:
        return ""
    zeros_even, zeros_odd = even.count(0) / len(even), odd.count(0) / len(odd)
    if zeros_odd > 0.6 and zeros_even < 0.05:
        return "utf-16-le"
    if zeros_even > 0.6 and zeros_odd < 0.05:
        return "utf-16-be"
    return ""


def _unsupported(seen: str) -> UnsupportedMediaType:
    supported = ", ".join(SUPPORTED)
    return UnsupportedMediaType(
        f"the file looks like {seen}; no parser reads that. Convert it to one of: {supported}",
        field="media_type",
        metadata={"seen": seen, "supported": supported},
    )
