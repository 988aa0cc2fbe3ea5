"""From a question to the passages that fit, and from an answer to the citations that hold.

Plain values in and out; siblings are asked through `Siblings`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from engine.answers.check import check
from engine.answers.context import assemble
from engine.answers.evidence import Citation, Passage
from engine.models.sentences import split
from engine.types import Span

Result = TypeVar("Result")

PASSAGES_DEFAULT = 20
CONTEXT_TOKENS_DEFAULT = 2_000

CONTEXT_PASSAGES_MAX = 100
"""What the generation service takes."""

COUNTED_TEXTS_MAX = 4_096
"""What the embedding service counts in one request."""

LEXICAL_K = 10
"""Where a collection was searched by words only, its BM25 scores cannot be compared with the fused
scores of others. Such hits count as one leg of reciprocal rank fusion with the contract's
default k: 1 / (k + rank)."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question with its bounds."""

    question: str
    collections: Sequence[str]
    passages_max: int
    context_tokens_max: int


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that a search found. `start` is where its text begins in the document's stored
    text, 0 without a document. `fused` says whether its score comes from rank fusion; `wire` is
    what has its sentences as siblings take them."""

    passage: Passage
    start: int
    fused: bool
    wire: object


@dataclass(frozen=True, slots=True)
class Context:
    """The passages that the model gets, with the milliseconds that finding them took."""

    passages: Sequence[Found]
    search_ms: float
    context_ms: float


class Siblings(Protocol):
    """What chat asks of other services for one question."""

    async def search(self, collection: str) -> Sequence[Found]:
        """The passages found in a collection, the best first."""
        ...

    async def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """Tokens of each text."""
        ...


async def gather_context(ask: Ask, siblings: Siblings) -> Context:
    """Searches all collections at once and keeps what fits into the budget. Raises what the
    siblings raise; the first failure stops the other searches."""
    begin_s = time.perf_counter()
    names = list(dict.fromkeys(ask.collections))
    found = merged(await _all([siblings.search(name) for name in names]))
    searched_s = time.perf_counter()
    passages = await _fitting(found, ask.context_tokens_max, siblings)
    done_s = time.perf_counter()
    return Context(passages, (searched_s - begin_s) * 1000, (done_s - searched_s) * 1000)


def merged(found: Sequence[Sequence[Found]]) -> list[Found]:
    """The hits of several collections as one list, the best first, with scores that compare;
    equal scores keep the order of the collections."""
    hits = [
        _rescored(hit, 1 / (LEXICAL_K + rank)) if len(found) > 1 and not hit.fused else hit
        for of_collection in found
        for rank, hit in enumerate(of_collection, 1)
        if hit.passage.text.strip()
    ]
    return sorted(hits, key=lambda hit: -hit.passage.score)


def verified(context: Context, citations: Sequence[Citation]) -> list[bool]:
    """Whether each citation's quote stands in the passage that it names. The spans count in the
    document's stored text, as in answers."""
    found = {hit.passage.key: hit for hit in context.passages}
    local = []
    for citation in citations:
        hit = found.get(citation.key)
        start = hit.start if hit else 0
        span = Span(citation.span.start - start, citation.span.end - start)
        local.append(replace(citation, span=span))
    holding = {id(c) for c in check(local, [hit.passage for hit in context.passages]).verified}
    return [
        id(citation) in holding
        and citation.document == found[citation.key].passage.document
        and citation.passage_index == found[citation.key].passage.passage_index
        for citation in local
    ]


def _rescored(hit: Found, score: float) -> Found:
    return replace(hit, passage=replace(hit.passage, score=score))


async def _fitting(found: Sequence[Found], tokens_max: int, siblings: Siblings) -> list[Found]:
    """The best passages whose tokens together are at most `tokens_max`."""
    likely = _likely(found, tokens_max)
    counts = await siblings.count_tokens([h.passage.text for h in likely]) if likely else []
    counted = {
        hit.passage.key: replace(hit, passage=replace(hit.passage, tokens=tokens))
        for hit, tokens in zip(likely, counts, strict=True)
    }
    context = assemble(
        [hit.passage for hit in counted.values()], tokens_max, passages_max=CONTEXT_PASSAGES_MAX
    )
    if not context.passages and found:
        return await _beginning(found[0], tokens_max, siblings)
    return [counted[passage.key] for passage in context.passages]


def _likely(found: Sequence[Found], tokens_max: int) -> list[Found]:
    """Those that may have a place. A word has at least one token, so passages with as many words
    as the budget has tokens fill it; counting more would be for nothing (0.7 ms a passage)."""
    likely, words = [], 0
    for hit in found:
        length = len(hit.passage.text.split())
        if length > tokens_max:
            continue
        likely.append(hit)
        words += length
        if words > tokens_max or len(likely) == COUNTED_TEXTS_MAX:
            break
    return likely


async def _beginning(hit: Found, tokens_max: int, siblings: Siblings) -> list[Found]:
    """The first sentences of a passage that is too long as a whole; none if not even one fits."""
    spans = split(hit.passage.text)[:COUNTED_TEXTS_MAX]
    begin = spans[0].start if spans else 0
    counts = await siblings.count_tokens([hit.passage.text[s.start : s.end] for s in spans])
    tokens, end = 0, begin
    for span, count in zip(spans, counts, strict=True):
        if tokens + count > tokens_max:
            break
        tokens, end = tokens + count, span.end
    text = hit.passage.text[:end]
    if end == begin:
        return []
    return [replace(hit, passage=replace(hit.passage, text=text, tokens=tokens))]


async def _all(works: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Runs works at once. The first failure cancels the rest and is raised as it is."""
    if len(works) == 1:
        return [await works[0]]
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
