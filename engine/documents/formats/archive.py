"""ZIP archives: not unpacked, and said so; an office file whose parts come late is still read."""

from __future__ import annotations

from engine.documents.detect import unsupported
from engine.documents.formats import DOCX, PPTX, XLSX, Hints, format_of
from engine.documents.formats.container import open_zip
from engine.documents.parsed import Parsed

_FOLDERS = {"word/": DOCX, "xl/": XLSX, "ppt/": PPTX}


def parse(data: bytes, hints: Hints) -> Parsed:
    """The document that the archive is inside; UnsupportedMediaType if it is a plain archive."""
    with open_zip(data, "archive") as archive:
        names = archive.namelist()
    if "[Content_Types].xml" in names:
        for folder, media_type in _FOLDERS.items():
            reader = format_of(media_type)
            if reader is not None and any(name.startswith(folder) for name in names):
                return reader.parse(data, hints)
    raise unsupported(
        f"a ZIP archive of {len(names)} files",
        "Archives are not unpacked: send the files in it, converted where need be,",
    )
