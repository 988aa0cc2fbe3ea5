"""Pictures of text read by Tesseract, where its language data is installed.

The tesserocr wheel carries the program, not the data. Data is looked for where TESSDATA_PREFIX
says (Tesseract reads that itself) and where systems put it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.documents.clean import clean, is_list_line, join_lines
from engine.documents.parsed import Box, Draft
from engine.errors import DocumentUnreadable

if TYPE_CHECKING:
    from PIL.Image import Image

LANGUAGES_MAX = 4
"""Each takes its own time and memory: English first, then in the order of their names."""

CONFIDENCE_MIN = 30.0
"""Percent. What Tesseract makes of pictures without text is below."""

INSTALL = (
    "install Tesseract's language data (Debian: `apt-get install tesseract-ocr-eng`; else set "
    "TESSDATA_PREFIX to the folder of eng.traineddata)"
)
_PLACES = (
    "/usr/share/tesseract-ocr/5/tessdata",
    "/usr/share/tesseract-ocr/4.00/tessdata",
    "/usr/share/tessdata",
    "/usr/local/share/tessdata",
    "/opt/homebrew/share/tessdata",
    f"{sys.prefix}/share/tessdata",
)


def ocr_available() -> bool:
    """Whether pictures can be read here: Tesseract loads, and finds data of a language."""
    return bool(_data()[1])


def require_ocr(what: str) -> None:
    """Raise DocumentUnreadable, with what to install, if `what` would need OCR and there is
    none."""
    if not ocr_available():
        raise DocumentUnreadable(
            f"{what}, and this node cannot recognize characters: {INSTALL}, or send the text",
            metadata={"reason": "ocr_missing"},
        )


def recognize(image: Image, scale: float, page: int) -> list[Draft]:
    """The paragraphs of a picture in reading order, their boxes in points: pixels times `scale`,
    counted from the lower left corner. Call `require_ocr` before."""
    from tesserocr import RIL, PyTessBaseAPI, iterate_level

    folder, languages = _data()
    drafts: list[Draft] = []
    with PyTessBaseAPI(path=folder, lang="+".join(languages)) as api:
        api.SetImage(image)
        if not api.Recognize():
            return drafts
        iterator = api.GetIterator()
        for found in iterate_level(iterator, RIL.PARA):
            drafts += _paragraph(found, RIL.PARA, image.height, scale, page)
    return drafts


def _paragraph(found: Any, level: Any, height: int, scale: float, page: int) -> Iterator[Draft]:
    try:
        text, confidence = found.GetUTF8Text(level), float(found.Confidence(level))
    except RuntimeError:  # tesserocr's word for a paragraph without a character
        return
    bounds = found.BoundingBox(level)
    if confidence < CONFIDENCE_MIN or not bounds:
        return
    left, top, right, bottom = bounds
    box: Box = (left * scale, (height - bottom) * scale, right * scale, (height - top) * scale)
    lines = text.split("\n")
    kind = "list_item" if is_list_line(lines[0]) else "paragraph"
    yield Draft(kind, clean(join_lines(lines)), page=page, box=box)  # type: ignore[arg-type]


@cache
def _data() -> tuple[str, tuple[str, ...]]:
    """The folder of language data, ending in a slash, and the languages to read with."""
    try:
        import tesserocr
    except ImportError:
        return "", ()
    said, languages = tesserocr.get_languages()
    if languages:
        return said, _chosen(languages)
    for place in _PLACES:
        languages = [path.stem for path in Path(place).glob("*.traineddata")]
        if languages:
            return f"{place}/", _chosen(languages)
    return "", ()


def _chosen(languages: list[str]) -> tuple[str, ...]:
    usable = sorted({name for name in languages if name not in ("osd", "equ") and "/" not in name})
    usable.sort(key=lambda name: name != "eng")
    return tuple(usable[:LANGUAGES_MAX])
