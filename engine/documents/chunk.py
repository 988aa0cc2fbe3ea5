"""Passages out of a document: whole sentences, up to a number of tokens, with some overlap.

What is true of every list of chunks: they are in order; `text[start:end]` is the chunk; together
they hold every character of the text that is neither white space nor boilerplate; none has more
than `tokens_max` tokens; two neighbors share whole units of at most `overlap_tokens` tokens; no
chunk ends with a heading unless nothing but headings follows it (up to the next boilerplate) or
nothing but headings is in it. Words and rows of tables are cut only where one alone is too long.

Boilerplate is in no chunk, so a chunk ends where some stands in the text, such as at the foot of a
page. It could stay inside of a paragraph that goes on behind it, since a chunk is one span; but
what is quoted, searched by words and embedded is the same text, and would hold it three times over.
A document of nothing but boilerplate is cut as if it were none.

Tokens are counted by the embedding model, which may be on another machine, so the work is a
generator (`chunking`) that asks for counts and is told them; `chunk` drives it with a function.
Counts are taken as the model gives them for a text by itself, special tokens included.

With tokens_max 3 and overlap 1, and sentences a a | b | c c of one token a letter (no special
tokens), the chunks are "a a b" and "b c c".
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from engine.documents.contexts import contexts
from engine.documents.pack import first_content, pack
from engine.documents.parsed import Parsed
from engine.documents.units import Unit, split_unit, split_units
from engine.errors import InvalidField
from engine.types import Span

TOKENS_MAX = 200
"""The default model reads 256 tokens: 200 of the passage, 48 of its context, and some room."""

OVERLAP_TOKENS = 32
CONTEXT_TOKENS_MAX = 48

TOKENS_MIN = 16
"""Smallest bound on a chunk: one code point may be 4 tokens in byte-level vocabularies."""

_ROUNDS_MAX = 40

Counting: TypeAlias = Generator[Sequence[str], Sequence[int], list["Chunk"]]
"""Yields texts, is sent the token count of each, returns the chunks."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: the characters `span` of the document's text, `tokens` long by itself.

    `heading_path` and `page` are those of its first unit that is not a heading (or of the first
    unit). `context` is what `embedding.embedding_text` puts before it, possibly nothing.
    """

    span: Span
    heading_path: tuple[str, ...]
    page: int
    tokens: int
    context: str = ""


def chunk(
    parsed: Parsed,
    count: Callable[[Sequence[str]], Sequence[int]],
    *,
    tokens_max: int = TOKENS_MAX,
    overlap_tokens: int = OVERLAP_TOKENS,
    context_tokens_max: int = CONTEXT_TOKENS_MAX,
) -> list[Chunk]:
    """`parsed` in chunks, with `count` giving the tokens of each text. Raises as `chunking`."""
    steps = chunking(
        parsed,
        tokens_max=tokens_max,
        overlap_tokens=overlap_tokens,
        context_tokens_max=context_tokens_max,
    )
    texts = next(steps)
    while True:
        try:
            texts = steps.send(count(texts))
        except StopIteration as done:
            chunks: list[Chunk] = done.value
            return chunks


def chunking(
    parsed: Parsed,
    *,
    tokens_max: int = TOKENS_MAX,
    overlap_tokens: int = OVERLAP_TOKENS,
    context_tokens_max: int = CONTEXT_TOKENS_MAX,
) -> Counting:
    """The steps of `chunk`: yields non-empty texts (lists of any length), is sent their counts.

    Three requests for usual documents: the units, the chunks, the contexts. Raises InvalidField
    (at the first step) for bounds that cannot be met.
    """
    _check(tokens_max, overlap_tokens, context_tokens_max)
    special = _special_tokens((yield ["a", "a a"]))
    units, counts = yield from _counted_units(parsed, tokens_max, special)
    limit = tokens_max - special
    for _ in range(_ROUNDS_MAX):
        runs = pack(units, counts, limit, overlap_tokens)
        spans = [Span(units[a].span.start, units[b - 1].span.end) for a, b in runs]
        totals = list((yield [parsed.text[span.start : span.end] for span in spans]))
        over = max(totals, default=0) - tokens_max
        if over <= 0:
            break
        # The parts count less than the whole (it happens where a word was cut): aim lower.
        limit = max(1, limit - over)
    before = yield from contexts(parsed, units, runs, context_tokens_max)
    chunks = []
    for (a, b), span, tokens, context in zip(runs, spans, totals, before, strict=True):
        block = parsed.blocks[first_content(units, a, b).block]
        chunks.append(Chunk(span, block.heading_path, block.page, tokens, context))
    return chunks


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
) -> Generator[Sequence[str], Sequence[int], tuple[list[Unit], list[int]]]:
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


def _count(
    parsed: Parsed, units: Sequence[Unit], special: int
) -> Generator[Sequence[str], Sequence[int], list[int]]:
    if not units:
        return []
    counts = yield [parsed.text[unit.span.start : unit.span.end] for unit in units]
    # A unit of nothing that the model knows still takes room.
    return [max(1, tokens - special) for tokens in counts]
