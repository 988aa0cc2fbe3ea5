"""Every kind of file that is read: one row here and one module beside this one.

A module has `parse(data: bytes, hints: Hints) -> Parsed`. It raises DocumentUnreadable with the
reason as a reader would say it, never the exceptions of the library behind it where it can tell
them apart. Modules, and the libraries they bring, are loaded when the first such file comes.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, cast

from engine.documents.parsed import Parsed
from engine.errors import ParserLimitExceeded

PLAIN: Final = "text/plain"
MARKDOWN: Final = "text/markdown"
HTML: Final = "text/html"
PDF: Final = "application/pdf"
RST: Final = "text/x-rst"
ORG: Final = "text/org"
CSV: Final = "text/csv"
TSV: Final = "text/tab-separated-values"
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
XML: Final = "application/xml"
CODE: Final = "text/x-source"
EML: Final = "message/rfc822"
RTF: Final = "application/rtf"
_OFFICE = "application/vnd.openxmlformats-officedocument."
DOCX: Final = _OFFICE + "wordprocessingml.document"
XLSX: Final = _OFFICE + "spreadsheetml.sheet"
PPTX: Final = _OFFICE + "presentationml.presentation"
ODT: Final = "application/vnd.oasis.opendocument.text"
ODP: Final = "application/vnd.oasis.opendocument.presentation"
ODS: Final = "application/vnd.oasis.opendocument.spreadsheet"
EPUB: Final = "application/epub+zip"
ZIP: Final = "application/zip"
TAR: Final = "application/x-tar"
GZIP: Final = "application/gzip"
OLE: Final = "application/x-ole-storage"
XLS: Final = "application/vnd.ms-excel"
MSG: Final = "application/vnd.ms-outlook"
DOC: Final = "application/msword"
PPT: Final = "application/vnd.ms-powerpoint"
PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
TIFF: Final = "image/tiff"
BMP: Final = "image/bmp"
GIF: Final = "image/gif"
WEBP: Final = "image/webp"


UNPACKED_BYTES_MAX = 400 << 20
UNPACKED_FILES_MAX = 2_000


class Allowance:
    """What may still be unpacked of one file that was sent, in all archives of it together."""

    def __init__(self) -> None:
        self._bytes = UNPACKED_BYTES_MAX
        self._files = UNPACKED_FILES_MAX

    def take(self, size_bytes: int) -> None:
        """Account for one file that is unpacked; ParserLimitExceeded if that is too much."""
        self._bytes -= size_bytes
        self._files -= 1
        if self._bytes < 0 or self._files < 0:
            raise ParserLimitExceeded(
                f"the file unpacks to more than {UNPACKED_FILES_MAX:,} files, or more than "
                f"{UNPACKED_BYTES_MAX >> 20} MiB; split it, or send what is in it",
                metadata={"files_max": UNPACKED_FILES_MAX, "bytes_max": UNPACKED_BYTES_MAX},
            )


@dataclass(frozen=True, slots=True)
class Hints:
    """What is said of a file besides its bytes; none of it is believed against them.

    `depth` counts the files around this one: 0 for what was sent, 1 for an attachment of it.
    `cpu_s` is the time that reading may take: where that can be told before (pages to recognize),
    what does not fit is left out and named.
    """

    name: str = ""
    media_type: str = ""
    depth: int = 0
    cpu_s: int = 60
    allowance: Allowance = field(default_factory=Allowance, compare=False, repr=False)

    def within(self, name: str, media_type: str = "") -> Hints:
        """The hints of a file inside this one."""
        return replace(self, name=name, media_type=media_type, depth=self.depth + 1)


class Format(Protocol):
    """What a module of this package offers."""

    def parse(self, data: bytes, hints: Hints) -> Parsed:
        """Read `data`, which `detect` took for a media type of this module."""


@dataclass(frozen=True, slots=True)
class _Row:
    """`endings` and `aliases` (other media types) choose between texts that look alike. A kind
    that is not `read` has a module only to say why."""

    module: str
    endings: str = ""
    aliases: str = ""
    read: bool = True


FORMATS: Mapping[str, _Row] = {
    PLAIN: _Row("text", "txt text log"),
    MARKDOWN: _Row("markdown", "md markdown mdown mkd", "text/x-markdown"),
    HTML: _Row("html", "html htm xhtml", "application/xhtml+xml"),
    PDF: _Row("pdf"),
    DOCX: _Row("docx"),
    XLSX: _Row("spreadsheet"),
    XLS: _Row("spreadsheet"),
    PPTX: _Row("pptx"),
    ODT: _Row("opendocument"),
    ODP: _Row("opendocument"),
    ODS: _Row("spreadsheet"),
    RTF: _Row("rtf"),
    EPUB: _Row("epub"),
    EML: _Row("mail", "eml"),
    MSG: _Row("outlook"),
    RST: _Row("restructured", "rst rest", "text/prs.fallenstein.rst"),
    ORG: _Row("org", "org"),
    CSV: _Row("delimited", "csv"),
    TSV: _Row("delimited", "tsv tab"),
    JSON: _Row("data", "json"),
    NDJSON: _Row("data", "ndjson jsonl", "application/jsonl application/x-jsonlines"),
    XML: _Row("xml", "xml", "text/xml"),
    CODE: _Row(
        "source",
        "py pyi js mjs ts tsx jsx java kt kts scala c h cc cpp cxx hpp hh cs go rs rb php pl pm "
        "swift m mm sh bash zsh fish ps1 sql r jl lua hs ml ex exs erl clj vb f90 asm s proto "
        "toml yaml yml ini cfg tf gradle cmake css scss",
        "text/x-python application/javascript text/javascript application/yaml",
    ),
    PNG: _Row("image"),
    JPEG: _Row("image"),
    TIFF: _Row("image"),
    BMP: _Row("image"),
    GIF: _Row("image"),
    WEBP: _Row("image"),
    DOC: _Row("legacy", read=False),
    PPT: _Row("legacy", read=False),
    OLE: _Row("legacy", read=False),
    ZIP: _Row("archive"),
    TAR: _Row("archive"),
    GZIP: _Row("archive"),
}

SUPPORTED = tuple(media_type for media_type, row in FORMATS.items() if row.read)

ENDINGS: Mapping[str, str] = {
    ending: media_type for media_type, row in FORMATS.items() for ending in row.endings.split()
}
"""Of texts only: what is not text is told by its bytes."""

DECLARED: Mapping[str, str] = {
    name: media_type
    for media_type, row in FORMATS.items()
    if row.endings and media_type != PLAIN
    for name in (media_type, *row.aliases.split())
}
"""Media types by which a sender tells what kind of text it is."""


def format_of(media_type: str) -> Format | None:
    """The module that reads `media_type`, loaded; None if there is none."""
    row = FORMATS.get(media_type)
    if row is None:
        return None
    return cast(Format, importlib.import_module(f"{__name__}.{row.module}"))
