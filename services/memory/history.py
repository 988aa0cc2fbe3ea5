"""What of a session is read before a question is answered. Plain values in and out; siblings and
the store are asked through protocols."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol
from uuid import UUID

from engine.errors import GenerationModelNotFound, RagmeshError
from engine.memory import history as select
from engine.memory.history import Line, Turn
from engine.types import Vector
from services.store.messages import Message
from services.store.sessions import Session
from services.store.summaries import Summary

_LOG = logging.getLogger(__name__)

TOKENS_DEFAULT = 2_000
COUNTS_KEPT = 100_000
"""Messages whose tokens a node knows; some 10 MB."""
SUMMARIZED_MAX = 90
"""Messages that a summary takes in at once, with the summary before them: the generation service
takes 100 passages. What is left waits for the next."""
SUMMARIZED_CHARACTERS_MAX = 4_000
"""Of each of them."""
ENDING_MARGIN = 0.9
"""A text's tokens are not spread evenly: a little less than what should fit is taken."""


class Older(Enum):
    """What becomes of turns for which there is no room."""

    ANY = "any"
    NONE = "none"
    RELEVANT = "relevant"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question to come, with its budget."""

    question: str
    tokens_max: int
    older: Older


@dataclass(frozen=True, slots=True)
class Read:
    """A message to be read. `relevance` is None for the newest; `cut` says that only its end is
    here."""

    message: Message
    tokens: int
    relevance: float | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """What is to be read, in the order of the branch. `older` is ANY where everything fits."""

    messages: Sequence[Read]
    summary: Summary | None
    tokens: int
    left_out: int
    older: Older


class Siblings(Protocol):
    """What a history asks of other services. Each raises RagmeshError."""

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        ...

    async def embed(self, question: str, texts: Sequence[str]) -> tuple[Vector, list[Vector]]:
        """Vectors of unit length: the question's, and each text's."""
        ...

    async def can_summarize(self) -> bool:
        """Whether the generation model writes in words of its own."""
        ...

    async def summarize(self, texts: Sequence[str], tokens_max: int) -> str:
        """Texts in short; empty for none."""
        ...


class Summaries(Protocol):
    """The summaries of one session and model."""

    async def find(self, indexes: Sequence[int]) -> Summary | None:
        """The one that covers most of a branch."""
        ...

    async def keep(self, summary: Summary) -> None:
        """Keeps one more."""
        ...


class SessionHistory:
    """Chooses what is read of sessions. One for a node: it remembers how long messages are."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[UUID, int], int] = OrderedDict()

    async def choose(
        self,
        wanted: Wanted,
        session: Session,
        branch: Sequence[Message],
        user_role: int,
        siblings: Siblings,
        summaries: Summaries,
    ) -> Context:
        """What of `branch`, the newest messages of a branch in its order, is to be read.

        `user_role` is who opens turns. Raises GenerationModelNotFound for a model that is not
        there; where other services fail, it does with less.
        """
        if not branch:
            return Context((), None, 0, 0, Older.ANY)
        branch, lines, cut = await self._lines(wanted, session, branch, user_role, siblings)
        turns = select.turns_of(lines)
        recent = select.recent_of(
            turns, wanted.tokens_max, keep_room=wanted.older is not Older.NONE
        )
        scene = _Scene(branch, turns, recent, cut)
        if recent == len(turns) and branch[0].parent == 0:
            return _context(scene, (), wanted.tokens_max, None, Older.ANY)
        older = turns[: len(turns) - recent]
        if wanted.older in (Older.ANY, Older.SUMMARY):
            summary = await self._summary(wanted, older, branch, siblings, summaries)
            made = await self._summarized(wanted, scene, summary, siblings) if summary else None
            if made is not None:
                return made
        scores: Sequence[float] = ()
        used = Older.NONE
        if wanted.older is not Older.NONE and wanted.question.strip():
            scores, used = await self._relevances(wanted, older, siblings), Older.RELEVANT
        return _context(scene, scores, wanted.tokens_max, None, used)

    async def _summarized(
        self, wanted: Wanted, scene: _Scene, summary: Summary, siblings: Siblings
    ) -> Context | None:
        """A summary with the newest turns; None where there is no room for it."""
        (tokens,), _ = await self._counted([summary.text], siblings)
        recent = scene.turns[len(scene.turns) - scene.recent :]
        if tokens > wanted.tokens_max - sum(turn.tokens for turn in recent):
            return None
        made = _context(scene, (), wanted.tokens_max - tokens, summary, Older.SUMMARY)
        return replace(made, tokens=made.tokens + tokens)

    async def _relevances(
        self, wanted: Wanted, older: Sequence[Turn], siblings: Siblings
    ) -> list[float]:
        scores = select.word_scores(wanted.question, older)
        compared = select.to_embed(scores)
        if not compared:
            return []
        try:
            question, vectors = await siblings.embed(
                wanted.question, [older[i].text for i in compared]
            )
        except RagmeshError as error:
            _LOG.info("older turns are chosen by words alone: %s", error.message)
            return scores
        return select.relevances(scores, question, dict(zip(compared, vectors, strict=True)))

    async def _summary(
        self,
        wanted: Wanted,
        older: Sequence[Turn],
        branch: Sequence[Message],
        siblings: Siblings,
        summaries: Summaries,
    ) -> Summary | None:
        """The summary of what is older, written on where much was said since; None for none."""
        try:
            if not await siblings.can_summarize():
                return None
            found = await summaries.find([message.index for message in branch])
            return await self._written_on(wanted, found, older, branch, siblings, summaries)
        except GenerationModelNotFound:
            raise
        except RagmeshError as error:
            _LOG.info("older turns are not summarized: %s", error.message)
            return None

    async def _written_on(
        self,
        wanted: Wanted,
        found: Summary | None,
        older: Sequence[Turn],
        branch: Sequence[Message],
        siblings: Siblings,
        summaries: Summaries,
    ) -> Summary | None:
        covered = found.message_index if found else 0
        waiting = [line for turn in older for line in turn.lines if line.index > covered]
        room = int(wanted.tokens_max * select.OLDER_SHARE)
        if found is not None and sum(line.tokens for line in waiting) <= room:
            return found
        taken = waiting[:SUMMARIZED_MAX]
        texts = [line.text[:SUMMARIZED_CHARACTERS_MAX] for line in taken if line.text.strip()]
        if not texts or room < 1:
            return found
        text = await siblings.summarize([*([found.text] if found else []), *texts], room)
        if not text:
            return found
        written = Summary(taken[-1].index, text)
        await summaries.keep(written)
        return written

    async def _lines(
        self,
        wanted: Wanted,
        session: Session,
        branch: Sequence[Message],
        user_role: int,
        siblings: Siblings,
    ) -> tuple[Sequence[Message], list[Line], bool]:
        """The messages, each with its tokens, which are counted once; and whether of the last one
        only its end is left, because there is no room for more."""
        unknown = [m for m in branch if (session.uid, m.index) not in self._counts]
        counts, exact = await self._counted([message.text for message in unknown], siblings)
        counted = {m.index: tokens for m, tokens in zip(unknown, counts, strict=True)}
        for message in branch:
            key = (session.uid, message.index)
            if key in self._counts:
                counted[message.index] = self._counts[key]
                self._counts.move_to_end(key)
            elif exact:
                self._counts[key] = counted[message.index]
        while len(self._counts) > COUNTS_KEPT:
            self._counts.popitem(last=False)
        last = branch[-1]
        cut = counted[last.index] > wanted.tokens_max
        if cut:
            room = wanted.tokens_max - int(wanted.tokens_max * select.OLDER_SHARE)
            text = select.ending(last.text, ENDING_MARGIN * room / counted[last.index])
            branch = [*branch[:-1], replace(last, text=text)]
            (counted[last.index],), _ = await self._counted([text], siblings)
        lines = [Line(m.index, m.role == user_role, counted[m.index], m.text) for m in branch]
        return branch, lines, cut

    async def _counted(self, texts: Sequence[str], siblings: Siblings) -> tuple[list[int], bool]:
        """Tokens of each text, and whether they were counted and not estimated."""
        if not texts:
            return [], True
        try:
            return await siblings.count_tokens(texts), True
        except RagmeshError as error:
            _LOG.info("tokens of messages are estimated: %s", error.message)
            return [select.estimate(text) for text in texts], False


@dataclass(frozen=True, slots=True)
class _Scene:
    """A branch, as messages and as turns, of which the last `recent` are taken whatever they say.
    `cut` is said of the last message."""

    branch: Sequence[Message]
    turns: Sequence[Turn]
    recent: int
    cut: bool


def _context(
    scene: _Scene,
    scores: Sequence[float],
    tokens_max: int,
    summary: Summary | None,
    older: Older,
) -> Context:
    chosen = select.choose(scene.turns, scene.recent, scores, tokens_max)
    taken = {*chosen.recent, *chosen.older}
    counts = {line.index: line.tokens for turn in scene.turns for line in turn.lines}
    last = scene.branch[-1]
    read = [
        Read(
            message,
            counts[message.index],
            chosen.relevance.get(message.index),
            cut=scene.cut and message is last,
        )
        for message in scene.branch
        if message.index in taken
    ]
    covered = summary.message_index if summary else 0
    before = next((m.depth for m in scene.branch if m.index == covered), 0)
    left_out = last.depth - before - sum(one.message.depth > before for one in read)
    return Context(read, summary, chosen.tokens, left_out, older)
