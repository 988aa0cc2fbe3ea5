"""Compound files of old office programs: named, and refused with the way to a newer format.

Where LibreOffice is installed, a node hands Word and PowerPoint files to it before they come here.
"""

from __future__ import annotations

from engine.documents.detect import unsupported
from engine.documents.formats import Hints
from engine.documents.parsed import Parsed
from engine.errors import DocumentUnreadable


def parse(data: bytes, hints: Hints) -> Parsed:
    """Always raises: DocumentUnreadable for encrypted files, else UnsupportedMediaType."""
    if _holds(data, "EncryptedPackage"):
        raise DocumentUnreadable(
            "the office file is encrypted and opens only with a password; send it decrypted",
            metadata={"reason": "encrypted"},
        )
    if _holds(data, "WordDocument"):
        raise unsupported("application/msword (a .doc of Word 97 to 2003)", _ADVICE)
    if _holds(data, "PowerPoint Document"):
        raise unsupported("application/vnd.ms-powerpoint (a .ppt)", _ADVICE)
    raise unsupported("a compound file of an unknown program (application/x-ole-storage)")


_ADVICE = (
    "LibreOffice converts it: install it on the node (Debian: `apt-get install "
    "libreoffice-writer libreoffice-impress`), or run `soffice --headless --convert-to docx` (or "
    "pptx) and send the result, or convert it"
)


def _holds(data: bytes, stream: str) -> bool:
    return (stream + "\0").encode("utf-16-le") in data
