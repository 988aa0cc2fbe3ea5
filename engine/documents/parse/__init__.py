"""The seam between files and the engine: bytes of a known media type in, `Parsed` out.

One module per format, each with `parse(data) -> Parsed`. A parser raises DocumentUnreadable with
the reason as a reader would say it; it never raises the exceptions of the library behind it.
Memory and time are bounded by the process that calls this, the output by `assemble`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.documents import detect
from engine.documents.parse import html, markdown, pdf, text
from engine.documents.parsed import Parsed
from engine.errors import DocumentUnreadable, UnsupportedMediaType

_PARSERS: Mapping[str, Callable[[bytes], Parsed]] = {
    detect.PLAIN: text.parse,
    detect.MARKDOWN: markdown.parse,
    detect.HTML: html.parse,
    detect.PDF: pdf.parse,
}


def parse(data: bytes, media_type: str) -> Parsed:
    """Parse `data` as `media_type`, one of `detect.SUPPORTED`.

    Raises UnsupportedMediaType for another type, DocumentUnreadable if nothing can be read, and
    ParserLimitExceeded if there is more text than a document may hold.
    """
    parser = _PARSERS.get(media_type)
    if parser is None:
        supported = ", ".join(_PARSERS)
        raise UnsupportedMediaType(
            f"no parser reads {media_type!r}; convert the file to one of: {supported}",
            field="media_type",
            metadata={"media_type": media_type, "supported": supported},
        )
    parsed = parser(data)
    if not parsed.blocks:
        raise DocumentUnreadable(
            f"the file ({media_type}, {len(data)} bytes) holds no text; send one with content",
            metadata={"media_type": media_type, "size_bytes": len(data)},
        )
    return parsed


def parse_document(data: bytes, name: str = "", media_type: str = "") -> Parsed:
    """Detect what `data` is (see `detect.detect` for what `name` and `media_type` do) and parse it.

    This is the function to run in a limited process: `Parsed.to_json` carries the result back.
    Raises what `detect.detect` and `parse` raise.
    """
    return parse(data, detect.detect(data, name, media_type))
