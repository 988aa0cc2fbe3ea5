"""A parsed text cut into chunks as its collection asks, with the models of the mesh."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from engine.documents import semantic
from engine.documents.chunk import (
    CONTEXT_TOKENS_MAX,
    Chunk,
    Counting,
    Cut,
    Measured,
    chunking,
    measuring,
    unit_texts,
)
from engine.documents.parsed import Parsed
from engine.types import Matrix
from services.store.collections import Collection

T = TypeVar("T")

Count = Callable[[Sequence[str]], Awaitable[Sequence[int]]]
"""The tokens of each text, any number of texts."""

Embed = Callable[[Sequence[str]], Awaitable[Matrix]]
"""A row for each of EMBED_UNITS_MAX texts at most."""

APART_CHARS = 20_000
"""A longer text is cut in a thread: 20,000 characters take some 3 ms in all steps together."""

_EMBED_STEP = 256
EMBED_UNITS_MAX = _EMBED_STEP + 2 * semantic.AROUND
"""Sentences whose vectors are held at once: 4 MB of the largest there are."""


async def cut_document(
    collection: Collection, parsed: Parsed, count: Count, embed: Embed
) -> list[Chunk]:
    """`parsed` in chunks. `embed` is asked only where the strategy is "semantic"."""
    cut = Cut(
        collection.chunk_tokens_max,
        collection.chunk_overlap_tokens,
        CONTEXT_TOKENS_MAX,
        collection.chunk_strategy,
    )
    apart = len(parsed.text) > APART_CHARS
    measured = await _driven(measuring(parsed, cut), count, apart)
    likenesses: Sequence[float] = ()
    if cut.strategy == "semantic":
        likenesses = await _likenesses(parsed, measured, embed)
    return await _driven(chunking(parsed, measured, cut, likenesses), count, apart)


async def _driven(steps: Counting[T], count: Count, apart: bool) -> T:
    """What the steps return. With `apart`, each runs in a thread: one over a megabyte of text takes
    a second, and one over a page less than to change threads."""
    texts, made = await _step(steps, None, apart)
    while texts is not None:
        texts, made = await _step(steps, await count(texts), apart)
    assert made is not None
    return made


async def _step(
    steps: Counting[T], counts: Sequence[int] | None, apart: bool
) -> tuple[Sequence[str] | None, T | None]:
    if apart:
        return await asyncio.to_thread(_advanced, steps, counts)
    return _advanced(steps, counts)


def _advanced(
    steps: Counting[T], counts: Sequence[int] | None
) -> tuple[Sequence[str] | None, T | None]:
    """The next texts to count, or else what the steps return: a StopIteration crosses no future."""
    try:
        return (next(steps) if counts is None else steps.send(counts)), None
    except StopIteration as done:
        return None, done.value


async def _likenesses(parsed: Parsed, measured: Measured, embed: Embed) -> list[float]:
    """How like what stands before each unit is to what comes, a piece of the text at a time."""
    texts, found = unit_texts(parsed, measured), list[float]()
    for start in range(0, len(texts), _EMBED_STEP):
        first, end = max(0, start - semantic.AROUND), start + _EMBED_STEP + semantic.AROUND
        vectors = await embed(texts[first:end])
        some = semantic.likeness(measured.units[first:end], vectors)
        found += some[start - first : start - first + _EMBED_STEP].tolist()
    return found
