"""What kind of file this is: its bytes decide; name and declared type only choose between texts.

A PDF is a PDF whatever it is called, and a program named `notes.md` is refused. Archives and
compound files are told apart by what is in them. Between kinds of text the bytes often cannot
tell, so there the declared media type (if it is more than "text/plain") and then the name's
ending choose.

The beginning of a file is enough for the first answer; where it is not (an office file whose
parts are named at its end), the answer is the container's own type, and the parser, which sees
all of it, decides.
"""

from __future__ import annotations

import re

from engine.documents.encoding import decode
from engine.documents.formats import (
    BMP,
    DECLARED,
    DOC,
    DOCX,
    EML,
    ENDINGS,
    EPUB,
    GIF,
    GZIP,
    HTML,
    JPEG,
    JSON,
    MSG,
    NDJSON,
    ODP,
    ODS,
    ODT,
    OLE,
    PDF,
    PLAIN,
    PNG,
    PPT,
    PPTX,
    RTF,
    SUPPORTED,
    TAR,
    TIFF,
    WEBP,
    XLS,
    XLSX,
    XML,
    ZIP,
)
from engine.errors import DocumentUnreadable, UnsupportedMediaType

_PDF_HEADER_WITHIN_BYTES = 1024
"""Readers accept the header within the first 1,024 bytes (ISO 32000-1, Annex H, note 13)."""

_CONTENT = re.compile(rb"[^ \t\r\n\x00]")
_SAMPLE_BYTES = 65_536
_CONTROL_SHARE_MAX = 0.02
"""Random bytes hold about 11 % of the control characters that text does not use."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"GIF8", GIF),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
    (b"{\\rtf", RTF),
    (b"\x1f\x8b\x08", GZIP),
)
_UNREAD: tuple[tuple[bytes, str], ...] = (
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\x7fELF", "application/x-executable"),
    (b"MZ\x90", "application/x-msdownload"),
    (b"RIFF", "audio or video (RIFF)"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"%!PS", "application/postscript"),
)
COMPOUND_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_HTML_START = re.compile(
    r"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,4000}?-->\s*){0,8}"
    r"<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_XML_START = re.compile(r"\s*<(?:\?xml|svg)\b", re.IGNORECASE)
_MAIL_FIELD = re.compile(
    r"^(From|To|Cc|Subject|Date|MIME-Version|Message-ID|Received|Return-Path|Delivered-To|"
    r"Content-Type|Content-Transfer-Encoding|Reply-To|Sender|X-[\w-]+):",
    re.IGNORECASE | re.MULTILINE,
)
_MAIL_FIELDS_MIN = 3
_MAIL_MARKS = frozenset(("mime-version", "message-id", "received", "return-path", "date"))
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")

_ZIP_MIMETYPES = {
    ODT: ODT,
    ODP: ODP,
    ODS: ODS,
    EPUB: EPUB,
    f"{ODT}-template": ODT,
    f"{ODP}-template": ODP,
    f"{ODS}-template": ODS,
}
_ZIP_FOLDERS = (
    (re.compile(rb"PK\x03\x04.{26}word/", re.DOTALL), DOCX),
    (re.compile(rb"PK\x03\x04.{26}xl/", re.DOTALL), XLSX),
    (re.compile(rb"PK\x03\x04.{26}ppt/", re.DOTALL), PPTX),
)
_OLE_STREAMS = (
    ("EncryptedPackage", OLE),
    ("__properties_version1.0", MSG),
    ("PowerPoint Document", PPT),
    ("WordDocument", DOC),
    ("Workbook", XLS),
    ("Book", XLS),
)


def detect(data: bytes, name: str = "", media_type: str = "") -> str:
    """The media type by which `data`, a file or its beginning, is parsed: one of FORMATS.

    Raises DocumentUnreadable if there is nothing in the file, and UnsupportedMediaType, which
    names what was seen and what is supported, if no parser reads it.
    """
    if not _CONTENT.search(data):
        raise DocumentUnreadable(
            f"the file is empty ({len(data)} bytes, none of them text); send one with content",
            metadata={"size_bytes": len(data)},
        )
    binary = _binary(data)
    if binary:
        return binary
    text = decode(data[:_SAMPLE_BYTES])
    if len(_CONTROLS.findall(text)) > _CONTROL_SHARE_MAX * len(text):
        raise unsupported("application/octet-stream")
    return _kind_of_text(text, name, media_type.split(";")[0].strip().lower())


def unsupported(seen: str, advice: str = "Convert it") -> UnsupportedMediaType:
    """The refusal of a kind of file that no parser reads."""
    supported = ", ".join(SUPPORTED)
    return UnsupportedMediaType(
        f"the file looks like {seen}; no parser reads that. {advice} to one of: {supported}",
        field="media_type",
        metadata={"seen": seen, "supported": supported},
    )


def _binary(data: bytes) -> str:
    """The kind of what is no text, empty for text."""
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(data)
    if b"%PDF-" in data[:_PDF_HEADER_WITHIN_BYTES]:
        return PDF
    if data.startswith(COMPOUND_MAGIC):
        return compound_kind(compound_streams(data))
    if data.startswith(b"BM") and data[6:10] == bytes(4):
        return BMP
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    if data[4:8] == b"ftyp":
        still = data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"avif")
        raise unsupported(f"image ({data[8:12].decode('latin-1')})" if still else "video/mp4")
    if data[257:262] == b"ustar":
        return TAR
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    for magic, seen in _UNREAD:
        if data.startswith(magic):
            raise unsupported(seen)
    return ""


def _zip_kind(data: bytes) -> str:
    """By the first entry's own word (ODF, EPUB), else by the folders that entries lie in."""
    if data[30:38] == b"mimetype":
        # Stored, not packed, and first: what both standards ask for.
        said = data[38:200].split(b"PK", 1)[0].decode("ascii", errors="replace")
        for mimetype in sorted(_ZIP_MIMETYPES, key=len, reverse=True):
            if mimetype in said:
                return _ZIP_MIMETYPES[mimetype]
    at = {kind: found.start() for form, kind in _ZIP_FOLDERS if (found := form.search(data))}
    return min(at, key=lambda kind: at[kind]) if at else ZIP


def compound_streams(data: bytes) -> frozenset[str]:
    """Which of the streams that tell kinds of compound files apart `data`, a part of one, names."""
    return frozenset(name for name, _ in _OLE_STREAMS if (name + "\0").encode("utf-16-le") in data)


def compound_kind(streams: frozenset[str]) -> str:
    """The media type of a compound file that has these streams."""
    return next((kind for name, kind in _OLE_STREAMS if name in streams), OLE)


def _kind_of_text(text: str, name: str, declared: str) -> str:
    ending = ENDINGS.get(name.rpartition(".")[2].lower() if "." in name else "", "")
    if _HTML_START.match(text):
        return HTML
    if _XML_START.match(text):
        return XML
    if _is_mail(text):
        return EML
    kind = DECLARED.get(declared) or ending or PLAIN
    if kind == JSON and _is_lines_of_json(text):
        return NDJSON
    return kind


def _is_mail(text: str) -> bool:
    """Whether it begins as a message does: several of the fields, one of which only mails have."""
    head = text.lstrip()[:8_000].split("\n\n", 1)[0].split("\r\n\r\n", 1)[0]
    if head.startswith("From "):  # of a mailbox
        head = head.partition("\n")[2]
    first = head.split("\n", 1)[0]
    if not re.match(r"[!-9;-~]{1,80}:", first):
        return False
    fields = {found.group(1).lower() for found in _MAIL_FIELD.finditer(head)}
    return len(fields) >= _MAIL_FIELDS_MIN and bool(fields & _MAIL_MARKS)


def _is_lines_of_json(text: str) -> bool:
    lines = [line.strip() for line in text.strip().split("\n", 2)[:2]]
    return len(lines) == 2 and all(line.startswith("{") and line.endswith("}") for line in lines)
