"""Pictures: the text on them, by OCR."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.documents.detect import detect
from engine.documents.formats import Hints
from engine.documents.formats.ocr import pages_within, recognize, require_ocr
from engine.documents.parsed import Draft, Parsed, assemble
from engine.errors import DocumentUnreadable, ParserLimitExceeded

if TYPE_CHECKING:
    from PIL.Image import Image

PIXELS_MAX = 50_000_000
"""A page of A4 at 600 dpi has 35 million. In color so many take 200 MB before they are gray."""

_POINTS_PER_INCH = 72.0
_DPI_USUAL = 150.0


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read a PNG, JPEG, TIFF, BMP, GIF or WebP. A TIFF's frames are pages.

    Raises DocumentUnreadable for a broken one, and where no OCR is installed;
    ParserLimitExceeded over PIXELS_MAX, or for more pages than can be read in the time.
    """
    from PIL import Image, ImageSequence

    Image.MAX_IMAGE_PIXELS = None  # ours is checked before a pixel is unpacked
    media_type = detect(data)
    try:
        picture = Image.open(io.BytesIO(data))
        frames = int(getattr(picture, "n_frames", 1)) if media_type == "image/tiff" else 1
        _check(picture, frames, pages_within(hints.cpu_s))
        picture.load()
    except (OSError, ValueError, SyntaxError, EOFError, IndexError) as error:
        raise DocumentUnreadable(
            f"the picture ({media_type}) is broken: it cannot be opened; save it again",
            metadata={"size_bytes": len(data), "reason": "broken"},
        ) from error
    require_ocr(f"the file is a picture ({media_type})")
    drafts: list[Draft] = []
    for number, frame in enumerate(ImageSequence.Iterator(picture), start=1):
        if number > frames:
            break
        drafts += _drafts(frame, number)
    return assemble("", media_type, drafts, page_count=frames)


def _check(picture: Image, frames: int, frames_max: int) -> None:
    pixels = picture.width * picture.height
    if pixels > PIXELS_MAX:
        raise ParserLimitExceeded(
            f"the picture has {pixels:,} pixels, more than {PIXELS_MAX:,}; scale it down",
            metadata={"pixels": pixels, "bound": PIXELS_MAX},
        )
    if frames > frames_max:
        raise ParserLimitExceeded(
            f"the picture has {frames} pages, and {frames_max} can be read in a parser's time; "
            "split it, or give parsers more: RAGMESH_DOCUMENTS__PARSER_CPU_S",
            metadata={"page_count": frames, "bound": frames_max},
        )


def _drafts(frame: Image, number: int) -> Iterator[Draft]:
    dpi = float(frame.info.get("dpi", (_DPI_USUAL, _DPI_USUAL))[0] or _DPI_USUAL)
    yield from recognize(frame.convert("L"), _POINTS_PER_INCH / max(dpi, 1.0), number)
