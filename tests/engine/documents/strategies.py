"""Documents of every shape, and a counter of tokens that behaves like a model's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import get_args

from hypothesis import strategies as st

from engine.documents.clean import clean
from engine.documents.parsed import BlockKind, Draft, Parsed, Role, assemble

_ALPHABET = st.one_of(
    st.sampled_from("abc de. fgh! ijk? (l) m, 1.2"),
    st.sampled_from("é\u0301\u200d👩🏽👨\U0001f1e9\U0001f1ea漢字。アイ ß\u00a0\t\n한ᄀ"),
    st.characters(codec="utf-8"),
)
_LONG_WORD = st.integers(1, 1500).map(lambda n: "x" * n)
_PROSE = st.lists(
    st.one_of(st.text(_ALPHABET, min_size=1, max_size=60), _LONG_WORD), max_size=12
).map(" ".join)
_KINDS: list[BlockKind] = ["heading", "heading", "paragraph", "list_item", "table", "code"]


_EDGES = st.floats(-2_000, 2_000)
_BOXES = st.one_of(st.none(), st.tuples(_EDGES, _EDGES, _EDGES, _EDGES))


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    kind = draw(st.sampled_from(_KINDS))
    text = clean(draw(_PROSE), keep_layout=kind in ("table", "code"))
    level = draw(st.integers(1, 6)) if kind == "heading" else 0
    page, role = draw(st.integers(0, 3)), draw(st.sampled_from(get_args(Role)))
    return Draft(kind, text, level=level, page=page, role=role, box=draw(_BOXES))


@st.composite
def documents(draw: st.DrawFn) -> Parsed:
    title = draw(st.sampled_from(["", "A title", "Ein Titel " * 40]))
    parts = draw(st.lists(drafts(), max_size=14))
    return assemble(
        title, "text/plain", parts, author=draw(st.text(max_size=9)), created="2024-01-31"
    )


def without_boilerplate(parsed: Parsed) -> str:
    """The text with spaces for all boilerplate that is not searched: not a few lines between a
    heading and something else, and none where there is nothing else."""
    if all(block.role == "boilerplate" for block in parsed.blocks):
        return parsed.text
    parts, at = [], 0
    groups = [list(group) for _, group in groupby(parsed.blocks, lambda block: block.role)]
    for before, group, after in zip([[], *groups], groups, [*groups[1:], []], strict=False):
        start, end = group[0].span.start, group[-1].span.end
        titled = before and before[-1].kind == "heading" and after
        if group[0].role == "boilerplate" and not (titled and end - start <= 400):
            parts += [parsed.text[at:start], " " * (end - start)]
            at = end
    return "".join([*parts, parsed.text[at:]])


def run_around(text: str, at: int, belongs: Callable[[str], bool]) -> str:
    """The longest run of signs around text[at] that all belong."""
    start = next((i for i in range(at, 0, -1) if not belongs(text[i - 1])), 0)
    end = next((i for i in range(at, len(text)) if not belongs(text[i])), len(text))
    return text[start:end]


def word_pieces(texts: Sequence[str]) -> list[int]:
    """Two special tokens, and a token for each four letters of a word and each other sign."""
    return [2 + _pieces(text) for text in texts]


def merging(texts: Sequence[str]) -> list[int]:
    """A counter for which parts count less than the whole, as where a word is cut."""
    return [2 + _pieces(text) + len(text) // 100 for text in texts]


def _pieces(text: str) -> int:
    words = sum(-(-len(word) // 4) for word in re.findall(r"\w+", text))
    return words + len(re.findall(r"[^\w\s]", text))
