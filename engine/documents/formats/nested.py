"""Files in files: what a mail or an archive holds, as parts of one document."""

from __future__ import annotations

from collections.abc import Iterator

from engine.documents.clean import clean
from engine.documents.formats import Hints
from engine.documents.parsed import Draft
from engine.errors import DocumentUnreadable, ParserLimitExceeded, UnsupportedMediaType


def drafts_within(data: bytes, hints: Hints) -> Iterator[Draft]:
    """What a file inside another says, its headings one level down. `hints` are the inner file's.

    One that cannot be read, or of no kind that is, leaves the reason. Limits are those of the whole
    document: raises ParserLimitExceeded.
    """
    from engine.documents.parse import parse_document

    try:
        parsed = parse_document(data, hints=hints)
    except ParserLimitExceeded:
        raise
    except (DocumentUnreadable, UnsupportedMediaType) as error:
        yield unread(error.message.partition(";")[0])
        return
    for block in parsed.blocks:
        text = parsed.text[block.span.start : block.span.end]
        level = min(len(block.heading_path) + 1, 6) if block.kind == "heading" else 0
        yield Draft(block.kind, text, level=level, role=block.role)


def unread(reason: str) -> Draft:
    """What stands in the place of a file that is not read."""
    return Draft("paragraph", clean(f"Not read: {reason}"), role="boilerplate")
