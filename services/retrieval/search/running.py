"""One search of one view, from the vectors it needs to its answer: all synchronous."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from engine.errors import PointNotFound
from engine.index import examples, stages
from engine.index import view as views
from engine.index.conditions import Analyze
from engine.index.exact import prepare
from engine.index.examples import Strategy
from engine.index.laps import Laps, Stage
from engine.index.search import (
    Explain,
    Mode,
    Placed,
    Query,
    Walks,
    estimate_ns,
    place,
    walk_together,
)
from engine.index.stages import Finished, Found, Staged
from engine.index.view import View
from engine.index.words import Analyzer
from engine.types import Point, SparseVector, Vector
from services.retrieval.search.asking import Example, RerankBy, Search, with_query


class Outcome(StrEnum):
    """What became of a reranking."""

    NOT_ASKED = "not_asked"
    DONE = "done"
    PARTIAL = "partial"
    LATE = "late"
    UNAVAILABLE = "unavailable"
    NOTHING_STORED = "nothing_stored"


class Answered(NamedTuple):
    """A search's answer and where the time went, in milliseconds; `spent_s` by stages, where that
    was asked for. `query` is what was searched. What is `found` is placed only where nothing
    looked at it: whoever writes the answer reads it."""

    found: Finished | Placed
    outcome: Outcome
    explain: Explain
    watermark: int
    points: int
    embed_ms: float
    watermark_wait_ms: float
    search_ms: float
    rerank_ms: float
    query: Query
    spent_s: Mapping[Stage, float]


class Ahead(NamedTuple):
    """What was done of a search together with others, and its part of the time."""

    walks: Walks = MappingProxyType({})
    spent_ms: float = 0.0


ALONE = Ahead()


class Run:
    """One search of one view; everything here is synchronous."""

    def __init__(
        self,
        view: View,
        asked: Search,
        language: str,
        embed_ms: float,
        wait_ms: float,
        ahead: Ahead = ALONE,
    ) -> None:
        self.asked = asked
        self._ahead = ahead
        self.rerank_ms = 0.0
        self._view = view
        self._language = language
        self._embed_ms, self._wait_ms = embed_ms, wait_ms
        self._laps: Laps | None = None
        self._begin()

    def _begin(self) -> None:
        """From now on it is this search that takes time, and not the way to its thread."""
        self._begin_s = time.perf_counter()
        if self.asked.explain:
            self._laps = Laps(time.perf_counter)

    def _end(self, stage: Stage) -> None:
        if self._laps is not None:
            self._laps.end(stage)

    def answer(self) -> Answered:
        """The whole search, reranked by what is stored at most."""
        self._begin()
        if self.asked.is_plain:
            placed = place(self._view, self.asked.staged.query, self._laps, self._ahead.walks)
            found: Finished | Placed = placed
            if self._laps is not None:
                found = Finished(placed.hits())
                self._laps.end(Stage.DECODE)
            return self._answered(found, Outcome.NOT_ASKED, placed.explain, placed.watermark)
        candidates = self.find()
        if self.asked.rerank not in (RerankBy.SENTENCES, RerankBy.TOKENS):
            return self.finish(candidates, Outcome.NOT_ASKED)
        begin_s = time.perf_counter()
        reranked = self._reranked(candidates) if candidates.hits else candidates
        self.rerank_ms = (time.perf_counter() - begin_s) * 1000
        if reranked is None:
            return self.finish(candidates, Outcome.NOTHING_STORED)
        return self.finish(reranked, Outcome.DONE)

    def _reranked(self, found: Found) -> Found | None:
        asked, staged = self.asked, self.asked.staged
        if asked.tokens is not None:
            return stages.rerank_by_tokens(found, staged, asked.tokens)
        words = _words_of(self._language)
        return stages.rerank_by_sentences(found, staged, staged.query.vector, asked.text, words)

    def find(self) -> Found:
        """The first stages, with points of the view in place of ids."""
        self._begin()
        if self.asked.point_id or self.asked.positive:
            self.asked = _with_points(self._view, self.asked)
            self._end(Stage.EXAMPLES)
        return stages.find(
            self._view, self.asked.staged, time.time(), _words_of(self._language), self._laps
        )

    def finish(self, found: Found, outcome: Outcome) -> Answered:
        """The last stages."""
        if outcome is not Outcome.NOT_ASKED:
            self._end(Stage.RERANK)
        finished = stages.finish(found.hits, self.asked.staged)
        self._end(Stage.FINISH)
        return self._answered(finished, outcome, found.explain, found.watermark)

    def _answered(
        self, found: Finished | Placed, outcome: Outcome, explain: Explain, watermark: int
    ) -> Answered:
        spent_ms = (time.perf_counter() - self._begin_s) * 1000 + self._ahead.spent_ms
        return Answered(
            found,
            outcome,
            explain,
            watermark,
            self._view.points,
            self._embed_ms,
            self._wait_ms,
            spent_ms - self.rerank_ms,
            self.rerank_ms,
            self.asked.staged.query,
            {} if self._laps is None else self._spent_s(self._laps),
        )

    def _spent_s(self, laps: Laps) -> dict[Stage, float]:
        before = {Stage.WATERMARK: self._wait_ms / 1000}
        if self.asked.embeds or self.asked.tokens is not None:
            before[Stage.EMBED] = self._embed_ms / 1000
        return before | laps.spent_s


def go_ahead(view: View, searches: Sequence[Search]) -> list[Ahead]:
    """The walks of searches that are plain, done together: one that waits for its thread's turn
    after every other walk takes a fifth longer. One whose stages are timed is left alone."""
    done = [ALONE for _ in searches]
    plain = [i for i, asked in enumerate(searches) if asked.is_plain and not asked.explain]
    if len(plain) > 1:
        begin_s = time.perf_counter()
        found = walk_together(view, [searches[i].staged.query for i in plain])
        spent_ms = (time.perf_counter() - begin_s) * 1000 / len(plain)
        for i, walks in zip(plain, found, strict=True):
            done[i] = Ahead(walks, spent_ms)
    return done


QUICK_LIMIT_MAX = 50
QUICK_NS_MAX = 400_000.0


def is_quick(view: View, asked: Search) -> bool:
    """Whether a search takes no longer than the hop to a thread and back, so that it had better be
    done on the event loop: 0.1 to 0.3 ms where nothing else goes on, some ms beside writes, whose
    threads it would wait for."""
    query = asked.staged.query
    if not asked.staged.is_plain or asked.positive:
        return False
    if query.mode is not Mode.DENSE or query.filter is not None or query.exact:
        return False
    return query.limit <= QUICK_LIMIT_MAX and estimate_ns(view, query) <= QUICK_NS_MAX


@cache
def _words_of(language: str) -> Analyze:
    """Few: the languages there are."""
    return Analyzer(language).words


def _with_points(view: View, asked: Search) -> Search:
    """The search with the vectors of the points it names, which it does not find."""
    if asked.point_id:
        if asked.staged.query.mode is Mode.SPARSE:
            found = with_query(asked, sparse=_sparse_vector_of(view, asked.point_id, "point_id"))
        else:
            found = with_query(asked, vector=_vector_of(view, asked.point_id, "point_id"))
        named = replace(found.staged, exclude=frozenset((asked.point_id,)))
        return asked._replace(staged=named)
    positive = _vectors(view, asked.positive, _paths("positive", asked.positive))
    negative = _vectors(view, asked.negative, _paths("negative", asked.negative))
    ids = frozenset(one for one in (*asked.positive, *asked.negative) if isinstance(one, str))
    staged: Staged = replace(asked.staged, exclude=ids)
    if asked.strategy is Strategy.BEST_SCORE:
        staged = replace(staged, positive=tuple(positive), negative=tuple(negative))
    else:
        vector = examples.average(positive, negative)
        staged = replace(staged, query=replace(staged.query, vector=vector))
    return asked._replace(staged=staged)


def _paths(kind: str, given: Sequence[Example]) -> list[str]:
    return [f"examples.{kind}[{index}]" for index in range(len(given))]


def _vectors(view: View, given: Sequence[Example], paths: Sequence[str]) -> list[Vector]:
    """Of points by id, or as given; normalized where the metric is cosine."""
    out = []
    for one, path in zip(given, paths, strict=True):
        if isinstance(one, str):
            out.append(_vector_of(view, one, path))
        else:
            out.append(prepare(view.metric, view.dimensions, np.asarray(one), path))
    return out


def _vector_of(view: View, id: str, field: str) -> Vector:
    vector = _point(view, id, field).vector
    if vector is None:
        raise _no_start(id, field, "has no vector")
    return vector


def _sparse_vector_of(view: View, id: str, field: str) -> SparseVector:
    vector = _point(view, id, field).sparse_vector
    if vector is None:
        raise _no_start(id, field, "has no sparse vector")
    return vector


def _point(view: View, id: str, field: str) -> Point:
    found = views.get(view, [id], with_vectors=True)
    if not found:
        raise _no_start(id, field, "does not exist")
    return found[0]


def _no_start(id: str, field: str, what: str) -> PointNotFound:
    return PointNotFound(
        f"Point {id!r} {what}; a search cannot start from it.",
        field=field,
        metadata={"point_id": id},
    )
