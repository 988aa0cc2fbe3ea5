"""Scores passages for a query, as many as the deadline allows. Plain values in and out.

Passages go to the model's queue in chunks of the caller's order, the next one while the one before
is scored, so that what is done when time runs out is always a beginning of the request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar, cast

from engine.errors import DeadlineExceeded, TextTooLong
from engine.models import ranking
from engine.models.cross_encoder import CrossEncoder
from engine.models.encoder import Encoder
from engine.models.ranking import Calibration
from engine.models.tokenize import Tokenized
from engine.types import Matrix
from services.embedding.catalog import Catalog
from services.embedding.jobs import AnyJob, AnyResult, PairJob, QueryJob, ScoreJob
from services.embedding.served import ServedModel
from services.mesh.model_queue import Done
from services.rpc.call import Call

CHUNK_CHARACTERS = 2_500
"""Passages queued at once under a deadline: about 600 tokens, 40 ms on 2 cores."""
CHUNK_CHARACTERS_UNHURRIED = 60_000
"""Without a deadline: enough passages to find some of similar length."""
CHUNKS_AHEAD = 2
ANSWER_S, ANSWER_SHARE = 0.015, 0.05
"""Kept back from the time until the deadline, the larger of both, for ranking, serializing and
sending the answer. Who allows more time asks for more passages, and a busy machine is late by more:
through Envoy, 15 ms of 1.5 s were too few for 1,024 passages beside five other processes."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Scored:
    """A passage that was scored: its best window counts."""

    raw: float
    windows: int
    tokens: int


@dataclass(slots=True)
class Reranked:
    """What came of a request. `scored` are its first passages; `order` and `scores` are of them,
    the best first. `done` is what the queue said of every window."""

    fingerprint: str
    query_truncated: bool = False
    scored: list[Scored] = field(default_factory=list)
    partial: bool = False
    order: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    tokenize_s: float = 0.0
    done: list[Done[AnyResult]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Reader:
    """How one model reads passages for one query: `windows` blocks, so it is for threads."""

    windows: Callable[[Sequence[str]], list[list[Tokenized]]]
    job: Callable[[Tokenized], AnyJob]
    calibration: Calibration


class RerankCore:
    """Reranking by the models of a catalog."""

    def __init__(self, catalog: Catalog, threads: Executor) -> None:
        self._catalog = catalog
        self._threads = threads

    async def rerank(
        self,
        model_id: str,
        query: str,
        passages: Sequence[str],
        prior: Sequence[float],
        truncate: bool,
        call: Call,
    ) -> Reranked:
        """Scores and orders passages. `prior` has as many scores as there are passages, or none.

        Raises DeadlineExceeded where not one passage was scored in time, TextTooLong for the
        query unless `truncate`, InvalidField, QueueFull and what `Catalog.using` raises.
        """
        remaining_s = call.remaining_s()
        limit_s = None if remaining_s is None else _limit_s(remaining_s)
        async with self._catalog.using(model_id) as model:
            found = Reranked(model.model.fingerprint.text)
            try:
                async with asyncio.timeout(limit_s):
                    reader = await self._reader(model, query, truncate, call, found)
                    chunks = self._chunks(model, reader, passages, call, found)
                    async with aclosing(chunks) as scored:
                        async for chunk in scored:
                            found.scored += chunk
            except (TimeoutError, DeadlineExceeded) as error:
                if not found.scored:
                    raise DeadlineExceeded(
                        f"Not one of {len(passages)} passages could be scored in "
                        f"{(remaining_s or 0) * 1000:.0f} ms; allow more time."
                    ) from error
                found.partial = True
        raw = [one.raw for one in found.scored]
        ranked = ranking.rank(raw, prior[: len(raw)], reader.calibration)
        found.order, found.scores = ranked.order, ranked.scores
        return found

    async def _reader(
        self, model: ServedModel, query: str, truncate: bool, call: Call, found: Reranked
    ) -> _Reader:
        encoder = model.model
        if isinstance(encoder, CrossEncoder):
            fitted = await self._timed(lambda: encoder.fit_query(query, truncate=truncate), found)
            found.query_truncated = fitted != query
            return _Reader(
                lambda texts: encoder.windows(fitted, texts), PairJob, ranking.CROSS_ENCODER
            )
        text = await self._timed(lambda: _query(encoder, query, truncate), found)
        found.query_truncated = text.truncated
        (done,) = await model.queue.submit([QueryJob(text)], [text.tokens], call)
        found.done.append(done)
        tokens = cast(Matrix, done.result)
        return _Reader(
            lambda texts: encoder.windows(texts, "passage"),
            lambda window: ScoreJob(window, tokens),
            ranking.LATE_INTERACTION,
        )

    async def _chunks(
        self,
        model: ServedModel,
        reader: _Reader,
        passages: Sequence[str],
        call: Call,
        found: Reranked,
    ) -> AsyncGenerator[list[Scored]]:
        """The scores of one chunk after the other, with the next one in the queue already."""
        hurried = call.deadline_s is not None
        size = CHUNK_CHARACTERS if hurried else CHUNK_CHARACTERS_UNHURRIED
        waiting: deque[asyncio.Task[list[Scored]]] = deque()
        try:
            for chunk in _in_chunks(passages, size):
                waiting.append(asyncio.create_task(self._score(model, reader, chunk, call, found)))
                if len(waiting) == CHUNKS_AHEAD:
                    yield await waiting[0]
                    waiting.popleft()
            while waiting:
                yield await waiting[0]
                waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _score(
        self,
        model: ServedModel,
        reader: _Reader,
        passages: Sequence[str],
        call: Call,
        found: Reranked,
    ) -> list[Scored]:
        windows = await self._timed(lambda: reader.windows(passages), found)
        flat = [window for one in windows for window in one]
        jobs = [reader.job(window) for window in flat]
        done = await model.queue.submit(jobs, [window.tokens for window in flat], call)
        found.done += done
        scores = iter(cast(float, one.result) for one in done)
        return [
            Scored(max(next(scores) for _ in one), len(one), sum(w.tokens for w in one))
            for one in windows
        ]

    async def _timed(self, work: Callable[[], _T], found: Reranked) -> _T:
        """Tokenizing, in a thread, counted."""
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        try:
            return await loop.run_in_executor(self._threads, work)
        finally:
            found.tokenize_s += loop.time() - begin_s


def _limit_s(remaining_s: float) -> float:
    return max(0.0, remaining_s - max(ANSWER_S, ANSWER_SHARE * remaining_s))


def _query(encoder: Encoder, query: str, truncate: bool) -> Tokenized:
    try:
        (text,) = encoder.tokenize([query], "query", truncate=truncate)
    except TextTooLong as error:
        raise TextTooLong(error.message, field="query", metadata=error.metadata) from None
    return text


def _in_chunks(passages: Sequence[str], characters: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for passage in passages:
        if chunk and size + len(passage) > characters:
            yield chunk
            chunk, size = [], 0
        chunk.append(passage)
        size += len(passage)
    if chunk:
        yield chunk
