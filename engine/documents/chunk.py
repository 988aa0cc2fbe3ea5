"""Passages out of a document: whole sentences, up to a number of tokens, in one of three ways.

"structure" packs what stands together, with some overlap. "semantic" cuts where sentences differ
most from those before them, and repeats nothing. "hierarchical" packs as "structure" does, calls
those chunks parents, and cuts each into small chunks of CHILD_SHARE of the tokens; these are found
by, and a parent has what stands around one.

What is true of every list of chunks: they are in order; `text[start:end]` is the chunk; together
they hold every character of the text that is neither white space nor boilerplate; none has more
than `tokens_max` tokens; two neighbors share whole units of at most `overlap_tokens` tokens; no
chunk ends with a heading unless nothing but headings follows it (up to the next boilerplate) or
nothing but headings is in it. Words and rows of tables are cut only where one alone is too long.

Boilerplate is in no chunk, so a chunk ends where some stands in the text, such as at the foot of a
page. It could stay inside of a paragraph that goes on behind it, since a chunk is one span; but
what is quoted, searched by words and embedded is the same text, and would hold it three times over.
Two exceptions: a few lines between a heading and what stands under it, such as who sent a mail and
when, belong to the heading; and a document of nothing but boilerplate is cut as if it were none.

Tokens are counted by the embedding model, which may be on another machine, so the work is two
generators (`measuring`, then `chunking`) that ask for counts and are told them; `chunk` drives them
with a function. Counts are taken as the model gives them for a text by itself, special tokens
included. Between the two, "semantic" wants `semantic.likeness` of the units.

With tokens_max 3 and overlap 1, and sentences a a | b | c c of one token a letter (no special
tokens), the chunks are "a a b" and "b c c".
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar

from engine.documents.contexts import contexts
from engine.documents.pack import first_content, pack
from engine.documents.parsed import Parsed
from engine.documents.places import Place, places_of
from engine.documents.semantic import likeness, pack_by_meaning
from engine.documents.units import Unit, split_unit, split_units
from engine.errors import InvalidField
from engine.types import Matrix, Span

TOKENS_MAX = 200
"""The default model reads 256 tokens: 200 of the passage, 48 of its context, and some room."""

OVERLAP_TOKENS = 32
CONTEXT_TOKENS_MAX = 48

TOKENS_MIN = 16
"""Smallest bound on a chunk: one code point may be 4 tokens in byte-level vocabularies."""

CHILD_SHARE = 0.25
"""Of the tokens of a parent, for a chunk of "hierarchical"; a longer sentence stays whole."""

_ROUNDS_MAX = 40

T = TypeVar("T")
Strategy: TypeAlias = Literal["structure", "semantic", "hierarchical"]

Counting: TypeAlias = Generator[Sequence[str], Sequence[int], T]
"""Yields non-empty texts (lists of any length), is sent the token count of each."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How to cut. Raises InvalidField for bounds that cannot be met: `tokens_max` from TOKENS_MIN,
    `overlap_tokens` to half of it, `context_tokens_max` from 0."""

    tokens_max: int = TOKENS_MAX
    overlap_tokens: int = OVERLAP_TOKENS
    context_tokens_max: int = CONTEXT_TOKENS_MAX
    strategy: Strategy = "structure"

    def __post_init__(self) -> None:
        _check(self.tokens_max, self.overlap_tokens, self.context_tokens_max)


@dataclass(frozen=True, slots=True)
class Measured:
    """A document's units, each with its tokens without the `special` ones that the model adds to
    every text (a prompt counts as such)."""

    units: tuple[Unit, ...]
    counts: tuple[int, ...]
    special: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: the characters `span` of the document's text, `tokens` long by itself.

    `heading_path` and `page` are those of its first unit that is not a heading (or of the first
    unit). `context` is what `embedding.embedding_text` puts before it, possibly nothing. `places`
    are the pages that its blocks lie on. `parent` is what it is a part of, only with the strategy
    "hierarchical"; the first part of a parent has its text in `parent_text`.
    """

    span: Span
    heading_path: tuple[str, ...]
    page: int
    tokens: int
    context: str = ""
    places: tuple[Place, ...] = ()
    parent: Span | None = None
    parent_text: str = ""

    def shifted(self, offset: int) -> Chunk:
        """The same in a text in which `offset` characters stand before this one."""
        parent = self.parent and self.parent.shifted(offset)
        return replace(self, span=self.span.shifted(offset), parent=parent)


def chunk(
    parsed: Parsed,
    count: Callable[[Sequence[str]], Sequence[int]],
    *,
    tokens_max: int = TOKENS_MAX,
    overlap_tokens: int = OVERLAP_TOKENS,
    context_tokens_max: int = CONTEXT_TOKENS_MAX,
    strategy: Strategy = "structure",
    embed: Callable[[Sequence[str]], Matrix] | None = None,
) -> list[Chunk]:
    """`parsed` in chunks, with `count` giving the tokens of each text. Raises InvalidField as Cut.

    "semantic" needs `embed`, which gives a row for each text.
    """
    cut = Cut(tokens_max, overlap_tokens, context_tokens_max, strategy)
    measured = _driven(measuring(parsed, cut), count)
    likenesses: Sequence[float] = ()
    if strategy == "semantic":
        if embed is None:
            raise ValueError("the strategy semantic needs a function that embeds")
        likenesses = likeness(measured.units, embed(unit_texts(parsed, measured))).tolist()
    return _driven(chunking(parsed, measured, cut, likenesses), count)


def _driven(steps: Counting[T], count: Callable[[Sequence[str]], Sequence[int]]) -> T:
    try:
        texts = next(steps)
        while True:
            texts = steps.send(count(texts))
    except StopIteration as done:
        made: T = done.value
        return made


def unit_texts(parsed: Parsed, measured: Measured) -> list[str]:
    """What each unit says."""
    return [parsed.text[unit.span.start : unit.span.end] for unit in measured.units]


def measuring(parsed: Parsed, cut: Cut) -> Counting[Measured]:
    """The steps to a document's units, each small enough for a chunk."""
    special = _special_tokens((yield ["a", "a a"]))
    units, counts = yield from _counted_units(parsed, cut.tokens_max, special)
    return Measured(tuple(units), tuple(counts), special)


def chunking(
    parsed: Parsed, measured: Measured, cut: Cut, likenesses: Sequence[float] = ()
) -> Counting[list[Chunk]]:
    """The steps from units to chunks: two requests for usual documents, the chunks and their
    contexts. `likenesses` has one for each unit where the strategy is "semantic"."""
    units = measured.units
    runs, spans, totals = yield from _packed(parsed, measured, cut, likenesses)
    parents: list[Span | None] = [None] * len(runs)
    if cut.strategy == "hierarchical":
        runs, parents = _children(measured, runs, cut.tokens_max)
        spans = _spans(units, runs)
        totals = yield _texts(parsed, spans)
    before = yield from contexts(parsed, units, runs, cut.context_tokens_max)
    chunks: list[Chunk] = []
    for (a, b), span, tokens, context, parent in zip(
        runs, spans, totals, before, parents, strict=True
    ):
        block = parsed.blocks[first_content(units, a, b).block]
        places = places_of(parsed.blocks[units[a].block : units[b - 1].block + 1])
        opens = parent is not None and not (chunks and chunks[-1].parent == parent)
        parent_text = parsed.text[parent.start : parent.end] if parent and opens else ""
        chunks.append(
            Chunk(
                *(span, block.heading_path, block.page, tokens, context),
                places=places,
                parent=parent,
                parent_text=parent_text,
            )
        )
    return chunks


def _packed(
    parsed: Parsed, measured: Measured, cut: Cut, likenesses: Sequence[float]
) -> Counting[tuple[list[tuple[int, int]], list[Span], Sequence[int]]]:
    """Ranges of units that fit, with their spans and tokens."""
    units, counts = measured.units, measured.counts
    limit = cut.tokens_max - measured.special
    for _ in range(_ROUNDS_MAX):
        if cut.strategy == "semantic":
            runs = pack_by_meaning(units, counts, likenesses, limit)
        else:
            runs = pack(units, counts, limit, cut.overlap_tokens)
        spans = _spans(units, runs)
        totals = yield _texts(parsed, spans)
        over = max(totals, default=0) - cut.tokens_max
        if over <= 0:
            break
        # The parts count less than the whole (it happens where a word was cut): aim lower.
        limit = max(1, limit - over)
    return runs, spans, totals


def _children(
    measured: Measured, parents: Sequence[tuple[int, int]], tokens_max: int
) -> tuple[list[tuple[int, int]], list[Span | None]]:
    """The small chunks of each parent, and the parent of each. What two parents share is in those
    of the first, so that each unit is in one."""
    units, counts = measured.units, measured.counts
    limit = max(1, int(CHILD_SHARE * tokens_max) - measured.special)
    runs: list[tuple[int, int]] = []
    spans: list[Span | None] = []
    fresh = 0
    for (_, end), span in zip(parents, _spans(units, parents), strict=True):
        packed = pack(units[fresh:end], counts[fresh:end], limit, 0)
        runs += [(fresh + a, fresh + b) for a, b in packed]
        spans += [span] * len(packed)
        fresh = end
    return runs, spans


def _spans(units: Sequence[Unit], runs: Sequence[tuple[int, int]]) -> list[Span]:
    return [Span(units[a].span.start, units[b - 1].span.end) for a, b in runs]


def _texts(parsed: Parsed, spans: Sequence[Span]) -> list[str]:
    return [parsed.text[span.start : span.end] for span in spans]


def _check(tokens_max: int, overlap_tokens: int, context_tokens_max: int) -> None:
    if tokens_max < TOKENS_MIN:
        raise InvalidField(
            f"tokens_max is {tokens_max}; it must be at least {TOKENS_MIN}",
            field="tokens_max",
            metadata={"tokens_max": tokens_max, "bound": TOKENS_MIN},
        )
    if not 0 <= overlap_tokens <= tokens_max // 2:
        raise InvalidField(
            f"overlap_tokens is {overlap_tokens}; it must be from 0 to {tokens_max // 2}, half of "
            "tokens_max",
            field="overlap_tokens",
            metadata={"overlap_tokens": overlap_tokens, "bound": tokens_max // 2},
        )
    if context_tokens_max < 0:
        raise InvalidField(
            f"context_tokens_max is {context_tokens_max}; it must not be negative",
            field="context_tokens_max",
            metadata={"context_tokens_max": context_tokens_max, "bound": 0},
        )


def _special_tokens(counts: Sequence[int]) -> int:
    """What the model adds to every text (its special tokens, a prompt)."""
    once, twice = counts
    return max(0, 2 * once - twice)


def _counted_units(
    parsed: Parsed, tokens_max: int, special: int
) -> Counting[tuple[list[Unit], list[int]]]:
    """The units and their tokens without special ones, each small enough for a chunk.

    A unit that is too long is cut in proportion and counted again, down to single code points.
    """
    units = split_units(parsed)
    counts = yield from _count(parsed, units, special)
    limit = max(1, tokens_max - special)
    for _ in range(_ROUNDS_MAX):
        long = {i for i, tokens in enumerate(counts) if tokens > limit and _chars(units[i]) > 1}
        if not long:
            break
        cut = {i: _parts(parsed, units[i], -(-2 * counts[i] // limit)) for i in long}
        fresh = [part for i in sorted(long) for part in cut[i]]
        fresh_counts = iter((yield from _count(parsed, fresh, special)))
        next_units: list[Unit] = []
        next_counts: list[int] = []
        for i, unit in enumerate(units):
            for part in cut.get(i, [unit]):
                next_units.append(part)
                next_counts.append(next(fresh_counts) if i in long else counts[i])
        units, counts = next_units, next_counts
    return units, counts


def _parts(parsed: Parsed, unit: Unit, parts: int) -> list[Unit]:
    table = parsed.blocks[unit.block].kind == "table"
    return list(split_unit(parsed.text, unit, parts, table=table))


def _chars(unit: Unit) -> int:
    return unit.span.end - unit.span.start


def _count(parsed: Parsed, units: Sequence[Unit], special: int) -> Counting[list[int]]:
    if not units:
        return []
    counts = yield [parsed.text[unit.span.start : unit.span.end] for unit in units]
    # A unit of nothing that the model knows still takes room.
    return [max(1, tokens - special) for tokens in counts]
