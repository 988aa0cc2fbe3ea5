"""From a question to the passages that fit.

    question -> alone, if it leans on the conversation -> its parts -> a search of every collection
    for each -> once more where that found little -> the best, within the budget of tokens

Plain values in and out; siblings are asked through `Siblings`. What the answer rests on is checked
in `grounding`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar

from engine.answers.parts import parts
from engine.answers.requery import GROUNDING_MIN, grounding, interleaved, other_query
from engine.answers.rewrite import Turn, needs_context, rewritten
from engine.answers.words import coverage, rarity, terms
from services.chat.fitting import fitting
from services.chat.siblings import Found, Siblings

Result = TypeVar("Result")

PASSAGES_DEFAULT = 20
CONTEXT_TOKENS_DEFAULT = 2_000

REWRITTEN_CHARACTERS_MAX = 10_000
"""What a question may have; a rewriting that is longer is not used."""

REQUERY_WITHIN_S = 2.0
"""A question whose searches took longer is not searched again."""

REQUERY_TIMES = 4.0
"""How many times what the first searches took must be left until the deadline."""

WORDS_WEIGHT = 0.5
"""Of a question's words against its meaning, where passages of several collections are compared:
as in the reranking of one collection, whose scores say nothing beside another's. Together they
are at most 1."""

Policy: TypeAlias = Literal["flag", "withhold"]


@dataclass(frozen=True, slots=True)
class Ask:
    """A question with its bounds. `turns` are what was said before, where the caller keeps it;
    `session` names what the mesh keeps, empty for none. `unsupported` says
    what becomes of sentences that nothing supports."""

    question: str
    collections: Sequence[str]
    passages_max: int
    context_tokens_max: int
    unsupported: Policy = "flag"
    turns: Sequence[Turn] = ()
    session: str = ""
    confidence_min: float | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """The passages that the model gets, with the milliseconds that finding them took.

    `question` is what was searched and is to be answered, `parts` its parts if there are several.
    `requeried` says that it was searched twice.
    """

    passages: Sequence[Found]
    search_ms: float
    context_ms: float
    question: str = ""
    parts: Sequence[str] = ()
    requeried: bool = False


async def gather_context(ask: Ask, siblings: Siblings) -> Context:
    """Searches all collections at once and keeps what fits into the budget. Raises what the
    siblings raise; the first failure stops the other searches."""
    begin_s = time.perf_counter()
    question = await standing_alone(ask, siblings)
    asked = parts(question)
    found = await _all([_searched(ask, one, siblings) for one in asked])
    hits, requeried = await _requeried(ask, asked, found, begin_s, siblings)
    searched_s = time.perf_counter()
    passages = await fitting(hits, ask.context_tokens_max, siblings)
    done_s = time.perf_counter()
    return Context(
        passages,
        (searched_s - begin_s) * 1000,
        (done_s - searched_s) * 1000,
        question,
        asked if len(asked) > 1 else (),
        requeried,
    )


async def standing_alone(ask: Ask, siblings: Siblings) -> str:
    """The question with what it takes from the conversation; as it is where it takes nothing."""
    if not needs_context(ask.question):
        return ask.question
    turns = ask.turns
    if not turns and ask.session:
        turns = await siblings.history(ask.session, ask.question)
    if not turns:
        return ask.question
    question = await siblings.rewrite(ask.question, turns)
    question = question or rewritten(ask.question, turns)
    return question if len(question) <= REWRITTEN_CHARACTERS_MAX else ask.question


def merged(question: str, found: Sequence[Sequence[Found]]) -> list[Found]:
    """The hits of several collections as one list, the best first, with scores that compare;
    those of one collection stay as they are."""
    hits = [hit for of_collection in found for hit in of_collection if hit.passage.text.strip()]
    if len(found) < 2:
        return hits
    held = [frozenset(terms(hit.passage.text)) for hit in hits]
    weights, wanted = rarity(held), terms(question)
    known = [hit.dense for hit in hits if hit.dense is not None]
    usual = sum(known) / len(known) if known else 0.0
    scored = [
        _rescored(
            hit,
            (
                (usual if hit.dense is None else hit.dense)
                + WORDS_WEIGHT * coverage(wanted, words, weights)
            )
            / (1 + WORDS_WEIGHT),
        )
        for hit, words in zip(hits, held, strict=True)
    ]
    return sorted(scored, key=lambda hit: -hit.passage.score)


async def _searched(ask: Ask, query: str, siblings: Siblings) -> list[Found]:
    """All collections, at once."""
    names = list(dict.fromkeys(ask.collections))
    return merged(query, await _all([siblings.search(name, query) for name in names]))


async def _requeried(
    ask: Ask,
    asked: Sequence[str],
    found: Sequence[Sequence[Found]],
    begin_s: float,
    siblings: Siblings,
) -> tuple[list[Found], bool]:
    """The hits of all parts in turns, those of a second search between those of a part that
    found little."""
    took_s = time.perf_counter() - begin_s
    left_s = siblings.remaining_s()
    hurried = took_s > REQUERY_WITHIN_S or (left_s is not None and left_s < REQUERY_TIMES * took_s)
    queries = [
        "" if hurried else _other(part, hits) for part, hits in zip(asked, found, strict=True)
    ]
    more = await _all([_searched(ask, query, siblings) for query in queries if query])
    again = iter(more)
    lists = [
        interleaved(hits, next(again)) if query else list(hits)
        for query, hits in zip(queries, found, strict=True)
    ]
    once: dict[tuple[str, str], Found] = {}
    for hit in interleaved(*lists):
        once.setdefault(hit.passage.key, hit)
    return list(once.values()), bool(more)


def _other(part: str, hits: Sequence[Found]) -> str:
    """What else to search for; empty where the hits hold what was asked."""
    passages = [hit.passage for hit in hits]
    if not passages or grounding(part, passages) >= GROUNDING_MIN:
        return ""
    return other_query(part, passages)


def _rescored(hit: Found, score: float) -> Found:
    return replace(hit, passage=replace(hit.passage, score=score))


async def _all(works: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Runs works at once. The first failure cancels the rest and is raised as it is."""
    if not works:
        return []
    if len(works) == 1:
        return [await works[0]]
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
