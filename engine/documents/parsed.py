"""A parsed document: one canonical text, and blocks that say what each part of it is.

What is true of every `Parsed` (made by `assemble`, checked again by `Parsed.from_json`):

- `text` is clean (see `clean.py`) and is the blocks' texts joined by line breaks, nothing else.
- Blocks are ordered, do not overlap, and are not empty. `text[start:end]` is the block.
- Whatever lies between two blocks is white space.
- A block's `heading_path` holds the headings it stands under, outermost first. A heading's own
  path ends with itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

from engine.errors import DocumentUnreadable, ParserLimitExceeded
from engine.types import Span

BlockKind: TypeAlias = Literal["heading", "paragraph", "list_item", "table", "code"]

TEXT_CHARS_MAX = 20_000_000
"""Longest canonical text, in code points: about 8,000 dense pages. Longer files must be split."""

BLOCKS_MAX = 500_000
"""Most blocks in one document; a block is at least a line."""

TITLE_CHARS_MAX = 500
HEADING_CHARS_MAX = 200
"""Longest entry of a heading path; the heading itself stays whole in the text."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A block as a parser finds it, already clean. `level` is 1 to 6 for headings.

    `page` is the page number of a PDF from 1 on, 0 where there are no pages.
    """

    kind: BlockKind
    text: str
    level: int = 0
    page: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the canonical text. `page` counts from 1; 0 where the format has no pages."""

    kind: BlockKind
    span: Span
    heading_path: tuple[str, ...] = ()
    page: int = 0


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser makes of a file. `title` may be empty; `page_count` is 0 without pages."""

    title: str
    media_type: str
    text: str
    blocks: tuple[Block, ...]
    page_count: int = 0

    def to_json(self) -> str:
        """One line of ASCII JSON, so that it crosses any process border unharmed."""
        paths: dict[tuple[str, ...], int] = {}
        rows = []
        for block in self.blocks:
            path = paths.setdefault(block.heading_path, len(paths))
            rows.append([block.kind, block.span.start, block.span.end, path, block.page])
        return json.dumps(
            {
                "title": self.title,
                "media_type": self.media_type,
                "page_count": self.page_count,
                "text": self.text,
                "paths": list(paths),
                "blocks": rows,
            }
        )

    @staticmethod
    def from_json(line: str | bytes) -> Parsed:
        """The inverse of `to_json`. Checks every promise of the module's docstring.

        Raises DocumentUnreadable if the line is not what `to_json` writes: the other process is
        not trusted.
        """
        try:
            return _checked(json.loads(line))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DocumentUnreadable(
                "the parser's process answered with something that is no parsed document "
                f"({type(error).__name__}); try again, or convert the file",
                metadata={"cause": type(error).__name__},
            ) from error


def _checked(value: dict[str, Any]) -> Parsed:
    title, text = value["title"], value["text"]
    media_type, page_count = value["media_type"], value["page_count"]
    if not (isinstance(title, str) and isinstance(text, str) and isinstance(media_type, str)):
        raise TypeError("title, text and media_type are strings")
    paths = [tuple(str(heading) for heading in path) for path in value["paths"]]
    blocks = []
    at = 0
    for kind, start, end, path, page in value["blocks"]:
        if kind not in get_args(BlockKind) or not at <= start < end <= len(text):
            raise ValueError("a block out of order or outside the text")
        if text[at:start].strip():
            raise ValueError("text outside of every block")
        block_kind = cast(BlockKind, kind)
        blocks.append(Block(block_kind, Span(start, end), paths[path], int(page)))
        at = end
    if text[at:].strip():
        raise ValueError("text outside of every block")
    return Parsed(title, media_type, text, tuple(blocks), int(page_count))


def assemble(
    title: str, media_type: str, drafts: Iterable[Draft], *, page_count: int = 0
) -> Parsed:
    """Join drafts into one text: items of a list by a line break, other blocks by an empty line.

    Raises ParserLimitExceeded over TEXT_CHARS_MAX or BLOCKS_MAX.
    """
    pieces: list[str] = []
    blocks: list[Block] = []
    open_headings: list[tuple[int, str]] = []
    at, previous = 0, ""
    for draft in drafts:
        text = draft.text.strip()
        if not text:
            continue
        if draft.kind == "heading":
            while open_headings and open_headings[-1][0] >= draft.level:
                open_headings.pop()
            open_headings.append((draft.level, one_line(text, HEADING_CHARS_MAX)))
        if blocks:
            gap = "\n" if draft.kind == previous == "list_item" else "\n\n"
            pieces.append(gap)
            at += len(gap)
        path = tuple(heading for _, heading in open_headings)
        blocks.append(Block(draft.kind, Span(at, at + len(text)), path, draft.page))
        pieces.append(text)
        at += len(text)
        previous = draft.kind
        if at > TEXT_CHARS_MAX:
            raise _limit("characters", TEXT_CHARS_MAX)
        if len(blocks) > BLOCKS_MAX:
            raise _limit("blocks", BLOCKS_MAX)
    if not title.strip() and blocks and blocks[0].kind == "heading":
        title = pieces[0]
    return Parsed(
        one_line(title, TITLE_CHARS_MAX), media_type, "".join(pieces), tuple(blocks), page_count
    )


def one_line(text: str, chars_max: int) -> str:
    """`text` with every run of white space as one space, cut at `chars_max` code points."""
    return " ".join(text.split())[:chars_max].rstrip()


def _limit(unit: str, bound: int) -> ParserLimitExceeded:
    return ParserLimitExceeded(
        f"the file holds more than {bound} {unit} of text; split it and send the parts",
        metadata={"unit": unit, "bound": bound},
    )
