"""A search whose reranking fails is the search without it, and says why."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from ragmesh.api.embedding.v1 import embedding_service_pb2 as messages
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh.api.retrieval.v1 import search_pb2

from engine.errors import (
    DeadlineExceeded,
    EmbeddingModelNotFound,
    ModelMemoryFull,
    ModelUnavailable,
    QueueFull,
    RagmeshError,
    ServiceUnavailable,
)
from engine.index.collection import CollectionIndex, IndexSettings
from engine.index.stages import Finished
from engine.index.view import View
from engine.types import Hit, Point
from services.mesh.mesh import Mesh
from services.retrieval.index.indexes import Indexes
from services.retrieval.index.recall import RecallWatch
from services.retrieval.search.asking import search_value
from services.retrieval.search.running import Answered, Outcome
from services.retrieval.search.searching import Searcher
from services.rpc.call import Call
from services.store.collections import Collection
from services.store.store import Store

COUNT = 6
Score = Callable[[messages.RerankPassagesRequest], messages.RerankPassagesResponse]


@dataclass
class Reranker:
    """An embedding service that scores as it is told, or fails."""

    score: Score | None = None
    error: RagmeshError | None = None
    calls: list[Call] = field(default_factory=list)

    @property
    def embedding(self) -> Reranker:
        return self

    async def RerankPassages(
        self, request: messages.RerankPassagesRequest, call: Call
    ) -> messages.RerankPassagesResponse:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        assert self.score is not None
        return self.score(request)


class OneIndex:
    """Indexes of one collection, at its newest state."""

    def __init__(self) -> None:
        self._index = CollectionIndex(IndexSettings(4))
        rows = [Point(f"p{n}", None, "apple " * (COUNT - n) + "pear") for n in range(COUNT)]
        rows.append(Point("silent", None, "", {"fruit": "apple"}))
        self._index.apply(rows, [], 1, "a")

    async def view(self, collection: Collection, min_seq: int, call: Call) -> View:
        return self._index.view


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def searched(
    threads: ThreadPoolExecutor, reranker: Reranker, deadline_s: float | None = None, **given: Any
) -> Answered:
    # No search is done again: the watch is not used beyond that.
    watch = RecallWatch(cast(Store, None), lambda: None, chance=lambda: 1.0)
    searcher = Searcher(cast(Indexes, OneIndex()), cast(Mesh, reranker), threads, watch)
    request = pb.SearchCollectionRequest(
        text="apple",
        mode=pb.SEARCH_MODE_LEXICAL,
        rerank=search_pb2.Rerank(model="embeddingModels/judge"),
        **given,
    )
    call = Call("default", "r", deadline_s)
    return await searcher.search(collection(), search_value(request), 0, call, lambda done: done)


def collection() -> Collection:
    """Fields that a search by words reads."""
    made = object.__new__(Collection)
    for name, value in (
        ("uid", uuid.uuid4()),
        ("id", "c"),
        ("tenant", "default"),
        ("language", "en"),
        ("fingerprint", ""),
        ("embedding_model", ""),
        ("rerank_model", ""),
        ("token_store", False),
        ("recall_sample_share", 0.0),
        ("beams", [0] * 5),
    ):
        object.__setattr__(made, name, value)
    return made


def hits(answered: Answered) -> tuple[Hit, ...]:
    assert isinstance(answered.found, Finished)
    return answered.found.hits


def ids(answered: Answered) -> list[str]:
    return [hit.point.id for hit in hits(answered)]


async def plain_order(threads: ThreadPoolExecutor) -> list[str]:
    return ids(await searched(threads, Reranker(error=ServiceUnavailable("down"))))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ServiceUnavailable("No node."), Outcome.UNAVAILABLE),
        (ModelUnavailable("No file."), Outcome.UNAVAILABLE),
        (ModelMemoryFull("No memory."), Outcome.UNAVAILABLE),
        (QueueFull("Full.", retry_after_s=1.0), Outcome.UNAVAILABLE),
        (DeadlineExceeded("Late."), Outcome.LATE),
    ],
)
async def test_what_may_pass_leaves_the_order_so_far(
    threads: ThreadPoolExecutor, error: RagmeshError, outcome: Outcome
) -> None:
    answered = await searched(threads, Reranker(error=error))
    assert answered.outcome is outcome
    assert len(hits(answered)) == COUNT
    scores = [hit.score for hit in hits(answered)]
    assert scores == sorted(scores, reverse=True)
    assert all(hit.rerank_score is None for hit in hits(answered))


async def test_what_the_caller_did_wrong_is_refused(threads: ThreadPoolExecutor) -> None:
    with pytest.raises(EmbeddingModelNotFound):
        await searched(threads, Reranker(error=EmbeddingModelNotFound("No such model.")))


async def test_those_that_were_not_scored_follow_in_their_order(
    threads: ThreadPoolExecutor,
) -> None:
    before = await plain_order(threads)

    def some(request: messages.RerankPassagesRequest) -> messages.RerankPassagesResponse:
        response = messages.RerankPassagesResponse(partial=True, passages_scored=2)
        response.passages.add(index=1, score=0.75)
        response.passages.add(index=0, score=0.25)
        for index in range(2, len(request.passages)):
            response.passages.add(index=index)
        return response

    answered = await searched(threads, Reranker(score=some))
    assert answered.outcome is Outcome.PARTIAL
    assert ids(answered) == [before[1], before[0], *before[2:]]
    assert [hit.rerank_score for hit in hits(answered)][:3] == [0.75, 0.25, None]


async def test_the_model_has_to_leave_time_for_the_answer(threads: ThreadPoolExecutor) -> None:
    reranker = Reranker(error=DeadlineExceeded("Late."))
    deadline_s = time.monotonic() + 2.0
    await searched(threads, reranker, deadline_s)
    (call,) = reranker.calls
    assert call.deadline_s is not None
    assert 0.05 < deadline_s - call.deadline_s < 0.2
    await searched(threads, reranker)
    assert reranker.calls[-1].deadline_s is None


async def test_nothing_found_is_nothing_to_rerank(threads: ThreadPoolExecutor) -> None:
    reranker = Reranker(error=ServiceUnavailable("down"))
    answered = await searched(threads, reranker, score_threshold=1e6)
    assert (answered.outcome, ids(answered), reranker.calls) == (Outcome.DONE, [], [])
