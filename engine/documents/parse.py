"""The seam between files and the engine: bytes and hints in, `Parsed` out.

`formats` has one module per kind of file. Memory and time are bounded by the process that calls
this, the output by `assemble`, what is inside of files by `formats.container` and NESTING_MAX.
"""

from __future__ import annotations

from dataclasses import replace

from engine.documents import detect
from engine.documents.formats import SUPPORTED, Hints, format_of
from engine.documents.language import language_of
from engine.documents.parsed import Parsed
from engine.errors import (
    DocumentUnreadable,
    ParserLimitExceeded,
    RagmeshError,
    UnsupportedMediaType,
)

NESTING_MAX = 4
"""Files in files: a mail in a mail with a document is 2."""


def parse(data: bytes, media_type: str, hints: Hints | None = None) -> Parsed:
    """Parse `data` as `media_type`, one of `formats.SUPPORTED`.

    Raises UnsupportedMediaType for another type, DocumentUnreadable if nothing can be read, and
    ParserLimitExceeded if there is more in it than a document may hold.
    """
    hints = hints or Hints()
    if hints.depth > NESTING_MAX:
        raise ParserLimitExceeded(
            f"the file holds files in files, more than {NESTING_MAX} deep; send the inner ones",
            metadata={"depth": hints.depth, "bound": NESTING_MAX},
        )
    reader = format_of(media_type)
    if reader is None:
        supported = ", ".join(SUPPORTED)
        raise UnsupportedMediaType(
            f"no parser reads {media_type!r}; convert the file to one of: {supported}",
            field="media_type",
            metadata={"media_type": media_type, "supported": supported},
        )
    try:
        parsed = reader.parse(data, hints)
    except RecursionError as error:
        raise ParserLimitExceeded(
            "the file nests deeper than a parser may follow; simplify it, or send its text"
        ) from error
    except (RagmeshError, MemoryError):
        raise
    except Exception as error:
        # Libraries meet damage in places where nobody thought of it: the file's fault.
        raise DocumentUnreadable(
            f"the file ({media_type}) is broken: its parser met what cannot be "
            f"({type(error).__name__}); save it again in the program that made it",
            metadata={"media_type": media_type, "error": type(error).__name__},
        ) from error
    if not parsed.blocks:
        raise DocumentUnreadable(
            f"the file ({media_type}, {len(data)} bytes) holds no text; send one with content",
            metadata={"media_type": media_type, "size_bytes": len(data)},
        )
    if parsed.language or hints.depth:
        return parsed
    return replace(parsed, language=language_of(parsed))


def parse_document(
    data: bytes, name: str = "", media_type: str = "", hints: Hints | None = None
) -> Parsed:
    """Detect what `data` is (see `detect.detect` for what `name` and `media_type` do) and parse it.

    This is the function to run in a limited process: `Parsed.to_json` carries the result back.
    Raises what `detect.detect` and `parse` raise.
    """
    hints = hints or Hints(name, media_type)
    return parse(data, detect.detect(data, hints.name, hints.media_type), hints)
