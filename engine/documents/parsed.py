"""A parsed document: one canonical text, and blocks that say what each part of it is.

What is true of every `Parsed` (made by `assemble`, checked again by `Parsed.from_json`):

- `text` is clean (see `clean.py`) and is the blocks' texts joined by line breaks, nothing else.
- Blocks are ordered, do not overlap, and are not empty. `text[start:end]` is the block.
- Whatever lies between two blocks is white space.
- A block's `heading_path` holds the headings it stands under, outermost first. A heading's own
  path ends with itself.
- A table is a line per row, `| a | b |`, so that whoever cuts at line breaks cuts no row.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

from engine.errors import DocumentUnreadable, ParserLimitExceeded
from engine.types import Span

BlockKind: TypeAlias = Literal["heading", "paragraph", "list_item", "table", "code"]

Role: TypeAlias = Literal["body", "boilerplate"]
"""Boilerplate is what stands around the text: headers and footers of pages, of sites, of mails.
It is kept, because a quote may come from it, and marked, because few searches mean it."""

Box: TypeAlias = tuple[float, float, float, float]
"""Left, bottom, right, top in points, counted from the lower left corner of the page as it is
seen; so a rotated page has the box that a reader would draw."""

TEXT_CHARS_MAX = 20_000_000
"""Longest canonical text, in code points: about 8,000 dense pages. Longer files must be split."""

BLOCKS_MAX = 500_000
"""Most blocks in one document; a block is at least a line."""

TITLE_CHARS_MAX = 500
HEADING_CHARS_MAX = 200
"""Longest entry of a heading path; the heading itself stays whole in the text."""

_ISO_DATE = re.compile(r"\d{4}(-\d\d){0,2}(T[\d:.]{2,15}(Z|[+-]\d\d:?\d\d)?)?\Z")


@dataclass(frozen=True, slots=True)
class Draft:
    """A block as a parser finds it, already clean. `level` is 1 to 6 for headings.

    `page` is the page of a PDF, or the slide, from 1 on; 0 where there are no pages. `box` is None
    where the format says nothing of places.
    """

    kind: BlockKind
    text: str
    level: int = 0
    page: int = 0
    role: Role = "body"
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the canonical text. `page` counts from 1; 0 where the format has no pages. `box`
    is where the block lies on its page, None where the format does not say."""

    kind: BlockKind
    span: Span
    heading_path: tuple[str, ...] = ()
    page: int = 0
    role: Role = "body"
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser makes of a file. `page_count` is 0 without pages; strings may be empty.

    `created` and `modified` are ISO 8601, as exact as the file says; `language` is an ISO 639-1
    code, of the file's own word or else detected.
    """

    title: str
    media_type: str
    text: str
    blocks: tuple[Block, ...]
    page_count: int = 0
    author: str = ""
    created: str = ""
    modified: str = ""
    language: str = ""

    def to_json(self) -> str:
        """One line of ASCII JSON, so that it crosses any process border unharmed."""
        return json.dumps({**self._about(), "text": self.text})

    def about_json(self) -> str:
        """As `to_json`, without the text."""
        return json.dumps(self._about(), separators=(",", ":"))

    def _about(self) -> dict[str, Any]:
        paths: dict[tuple[str, ...], int] = {}
        rows = []
        for block in self.blocks:
            path = paths.setdefault(block.heading_path, len(paths))
            row: list[Any] = [block.kind, block.span.start, block.span.end, path, block.page]
            if block.role != "body" or block.box is not None:
                row += [block.role, block.box]
            rows.append(row)
        return {
            "title": self.title,
            "media_type": self.media_type,
            "page_count": self.page_count,
            **{name: getattr(self, name) for name in _ABOUT},
            "paths": list(paths),
            "blocks": rows,
        }

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


_ABOUT = ("author", "created", "modified", "language")
"""Absent from texts that were parsed before there were these; read as empty then."""


def _checked(value: dict[str, Any]) -> Parsed:
    title, text = value["title"], value["text"]
    media_type, page_count = value["media_type"], value["page_count"]
    about = {name: value.get(name, "") for name in _ABOUT}
    if not all(isinstance(each, str) for each in (title, text, media_type, *about.values())):
        raise TypeError("title, text, media_type and what is said about them are strings")
    paths = [tuple(str(heading) for heading in path) for path in value["paths"]]
    blocks = []
    at = 0
    for kind, start, end, path, page, *place in value["blocks"]:
        role, box = place or ("body", None)
        if role not in get_args(Role):
            raise ValueError("a block of an unknown role")
        if kind not in get_args(BlockKind) or not at <= start < end <= len(text):
            raise ValueError("a block out of order or outside the text")
        if text[at:start].strip():
            raise ValueError("text outside of every block")
        block_kind = cast(BlockKind, kind)
        span, place = Span(start, end), _checked_box(box)
        blocks.append(Block(block_kind, span, paths[path], int(page), cast(Role, role), place))
        at = end
    if text[at:].strip():
        raise ValueError("text outside of every block")
    return Parsed(title, media_type, text, tuple(blocks), int(page_count), **about)


def _checked_box(box: list[float] | None) -> Box | None:
    if box is None:
        return None
    left, bottom, right, top = (float(edge) for edge in box)
    if not (
        all(map(math.isfinite, (left, bottom, right, top))) and left <= right and bottom <= top
    ):
        raise ValueError("a box that is none")
    return left, bottom, right, top


def assemble(
    title: str,
    media_type: str,
    drafts: Iterable[Draft],
    *,
    page_count: int = 0,
    author: str = "",
    created: str = "",
    modified: str = "",
    language: str = "",
) -> Parsed:
    """Join drafts into one text: items of a list by a line break, other blocks by an empty line.

    `created` and `modified` are kept if they begin as ISO 8601 dates do, `language` as its
    primary subtag. Raises ParserLimitExceeded over TEXT_CHARS_MAX or BLOCKS_MAX.
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
        span = Span(at, at + len(text))
        blocks.append(Block(draft.kind, span, path, draft.page, draft.role, _rounded(draft.box)))
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
        one_line(title, TITLE_CHARS_MAX),
        media_type,
        "".join(pieces),
        tuple(blocks),
        page_count,
        one_line(author, TITLE_CHARS_MAX),
        created if _ISO_DATE.match(created) else "",
        modified if _ISO_DATE.match(modified) else "",
        primary_language(language),
    )


def primary_language(tag: str) -> str:
    """ "en" of "en-US" or "en_US.UTF-8"; empty for what is no language tag."""
    found = re.match(r"([a-zA-Z]{2})(?:[-_.].{0,30})?$", tag.strip())
    return found.group(1).lower() if found else ""


def _rounded(box: Box | None) -> Box | None:
    """To a tenth of a point: finer than anyone draws, and short as JSON."""
    if box is None or not all(map(math.isfinite, box)):
        return None
    left, bottom, right, top = (round(edge, 1) for edge in box)
    return min(left, right), min(bottom, top), max(left, right), max(bottom, top)


def one_line(text: str, chars_max: int) -> str:
    """`text` with every run of white space as one space, cut at `chars_max` code points."""
    return " ".join(text.split())[:chars_max].rstrip()


def _limit(unit: str, bound: int) -> ParserLimitExceeded:
    return ParserLimitExceeded(
        f"the file holds more than {bound} {unit} of text; split it and send the parts",
        metadata={"unit": unit, "bound": bound},
    )
