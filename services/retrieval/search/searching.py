"""Searches on plain values: embed what has to be, see the index, run the stages, rerank.

An index's part of a search is synchronous and runs in a thread, or on the event loop where it takes
less than the way to a thread and back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding

from engine.errors import (
    DeadlineExceeded,
    Exhausted,
    FingerprintMismatch,
    NoEmbeddingModel,
    TokenStoreMissing,
    Unavailable,
)
from engine.index import stages
from engine.index.reranking import Reranked
from engine.index.search import Mode
from engine.index.stages import Found
from engine.types import TokenVectors, Vector
from services.mesh.mesh import Mesh
from services.retrieval.index.indexes import Indexes
from services.retrieval.index.recall import RecallWatch
from services.retrieval.search.asking import RerankBy, Search, located, settled, with_query
from services.retrieval.search.running import Answered, Outcome, Run, go_ahead, is_quick
from services.rpc.call import Call
from services.rpc.values import token_vectors_value, vector_value
from services.store.collections import Collection

T = TypeVar("T")

BATCH_STEP = 32
"""Searches of a batch that a thread does before it lets others have their turn."""

RERANK_KEEP_S, RERANK_KEEP_SHARE = 0.01, 0.05
"""Kept back from the time until the deadline, the larger of both, for the stages after a reranking
and the answer."""


class Searcher:
    """Searches the collections of a node."""

    def __init__(self, indexes: Indexes, mesh: Mesh, threads: Executor, watch: RecallWatch) -> None:
        self._indexes = indexes
        self._mesh = mesh
        self._threads = threads
        self._watch = watch

    async def search(
        self,
        collection: Collection,
        asked: Search,
        min_seq: int,
        call: Call,
        use: Callable[[Answered], T],
    ) -> T:
        """Finds points at commit `min_seq` or later. Embeds a text where the mode needs a vector.
        `use` is called with the answer, mostly where it was found: in a thread.

        Raises NoEmbeddingModel if it can't, TokenStoreMissing, PointNotFound, DimensionMismatch,
        FingerprintMismatch, InvalidFilter … A reranking by a model that is late or not there
        raises nothing.
        """
        check_fingerprint(collection, asked.fingerprint, "fingerprint")
        asked = settled(asked, collection.rerank_model, collection.token_store)
        _require_tokens(collection, asked)
        begin_s = time.perf_counter()
        (asked,) = await self._with_vectors(collection, [asked], call)
        embedded_s = time.perf_counter()
        view = await self._indexes.view(collection, min_seq, call)
        waited_s = time.perf_counter()
        embed_ms, wait_ms = (embedded_s - begin_s) * 1000, (waited_s - embedded_s) * 1000
        run = Run(view, asked, collection.language, embed_ms, wait_ms)
        if asked.rerank is RerankBy.MODEL:
            used = use(await self._search_by_model(run, call))
        elif is_quick(view, asked):
            used = use(run.answer())
        else:
            used = await self._in_thread(lambda: use(run.answer()))
        self._watch.offer(collection, view, run.asked.staged.query)
        return used

    async def batch(
        self,
        collection: Collection,
        searches: Sequence[Search],
        min_seq: int,
        call: Call,
        use: Callable[[int, Answered], T],
    ) -> list[T]:
        """Finds points for every search, all on one view. `use` is called in a thread with each
        answer and its place. What a search raises names it in its field."""
        for index, asked in enumerate(searches):
            with located(f"searches[{index}]"):
                check_fingerprint(collection, asked.fingerprint, "fingerprint")
                _require_tokens(collection, asked)
                if _embeds(_with_mode(collection, asked)):
                    require_model(collection)
        begin_s = time.perf_counter()
        # Without a model: it reranks single searches.
        chosen = [settled(asked, "", collection.token_store) for asked in searches]
        ready = await self._with_vectors(collection, chosen, call)
        embedded_s = time.perf_counter()
        view = await self._indexes.view(collection, min_seq, call)
        waited_s = time.perf_counter()
        embed_ms, wait_ms = (embedded_s - begin_s) * 1000, (waited_s - embedded_s) * 1000

        def step(start: int) -> list[T]:
            done = []
            some = ready[start : start + BATCH_STEP]
            ahead = go_ahead(view, some)
            for index, asked in enumerate(some, start):
                with located(f"searches[{index}]"):
                    run = Run(
                        view, asked, collection.language, embed_ms, wait_ms, ahead[index - start]
                    )
                    done.append(use(index, run.answer()))
            return done

        found: list[T] = []
        for start in range(0, len(ready), BATCH_STEP):
            call.require_time()
            found += await self._in_thread(partial(step, start))
        for asked in ready:
            self._watch.offer(collection, view, asked.staged.query)
        return found

    async def embed_queries(
        self, collection: Collection, texts: Sequence[str], tokens: bool, call: Call
    ) -> list[tuple[Vector, TokenVectors | None]]:
        """The vectors of queries, with those of their `tokens` if asked for. A text longer than the
        model reads is cut."""
        require_model(collection)
        response = await self._mesh.embedding.EmbedTexts(
            embedding.EmbedTextsRequest(
                model=collection.embedding_model,
                texts=texts,
                input_kind=embedding.INPUT_KIND_QUERY,
                truncate=True,
                include_tokens=tokens,
            ),
            call,
        )
        check_fingerprint(collection, response.fingerprint, "text")
        return [
            (
                vector_value(one.vector, "text"),
                token_vectors_value(one.token_vectors) if tokens else None,
            )
            for one in response.embeddings
        ]

    async def _with_vectors(
        self, collection: Collection, searches: Sequence[Search], call: Call
    ) -> list[Search]:
        """The searches with their modes, and the vectors of their texts where those need one."""
        moded = [_with_mode(collection, asked) for asked in searches]
        texts = list(dict.fromkeys(asked.text for asked in moded if _embeds(asked)))
        if not texts:
            return moded
        by_tokens = {asked.text for asked in moded if asked.rerank is RerankBy.TOKENS}
        embedded: dict[str, tuple[Vector, TokenVectors | None]] = {}
        for some, tokens in (
            ([text for text in texts if text not in by_tokens], False),
            ([text for text in texts if text in by_tokens], True),
        ):
            if some:
                made = await self.embed_queries(collection, some, tokens, call)
                embedded |= dict(zip(some, made, strict=True))
        return [
            _with_embedded(asked, *embedded[asked.text]) if _embeds(asked) else asked
            for asked in moded
        ]

    async def _search_by_model(self, run: Run, call: Call) -> Answered:
        """Between finding and finishing the embedding service looks at the best."""
        found = await self._in_thread(run.find)
        begin_s = time.perf_counter()
        found, outcome = await self._rerank(run.asked, found, call)
        run.rerank_ms = (time.perf_counter() - begin_s) * 1000
        return run.finish(found, outcome)

    async def _rerank(self, asked: Search, found: Found, call: Call) -> tuple[Found, Outcome]:
        texts = [
            (place, hit)
            for place, hit in enumerate(found.hits[: asked.staged.rerank])
            if hit.point.text
        ]
        if not texts:
            done = not found.hits
            return found, (Outcome.DONE if done else Outcome.NOTHING_STORED)
        request = embedding.RerankPassagesRequest(
            model=asked.rerank_model,
            query=asked.text,
            passages=[hit.point.text for _, hit in texts],
            prior_scores=[hit.score for _, hit in texts],
            truncate=True,
        )
        try:
            response = await self._mesh.embedding.RerankPassages(request, _earlier(call))
        except DeadlineExceeded:
            return found, Outcome.LATE
        except (Unavailable, Exhausted):
            return found, Outcome.UNAVAILABLE
        scored = [one for one in response.passages if one.HasField("score")]
        reranked = Reranked(
            tuple(texts[one.index][0] for one in scored), tuple(one.score for one in scored)
        )
        partial = len(scored) < len(texts)
        outcome = Outcome.PARTIAL if partial else Outcome.DONE
        return stages.reordered(found, reranked), outcome

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def require_model(collection: Collection) -> None:
    """Raises NoEmbeddingModel for a collection that has only vectors."""
    if not collection.embedding_model:
        raise NoEmbeddingModel(
            f"Collection {collection.id!r} has no embedding model, so it cannot embed text. "
            "Search it with a vector or by words (lexical), or make one with a model.",
            field="text",
            metadata={"collection": collection.id},
        )


def check_fingerprint(collection: Collection, fingerprint: str, field: str) -> None:
    """Raises FingerprintMismatch where both sides name a space and the names differ (D11)."""
    if fingerprint and collection.fingerprint and fingerprint != collection.fingerprint:
        raise FingerprintMismatch(
            f"The vector comes from {fingerprint}, collection {collection.id!r} holds vectors of "
            f"{collection.fingerprint}. Embed with the collection's model.",
            field=field,
            metadata={"fingerprint": fingerprint, "collection_fingerprint": collection.fingerprint},
        )


def _with_mode(collection: Collection, asked: Search) -> Search:
    """Hybrid is what a text gets where the collection has a model, or a sparse vector is there."""
    if not asked.text:
        return asked
    query = asked.staged.query
    mode, by_model = query.mode, bool(collection.embedding_model)
    embeds = by_model if mode is None else mode in (Mode.DENSE, Mode.HYBRID)
    if mode is None:
        mode = Mode.HYBRID if by_model or query.sparse is not None else Mode.LEXICAL
    words = asked.text if mode in (Mode.LEXICAL, Mode.HYBRID) else None
    return with_query(asked, mode=mode, text=words)._replace(embeds=embeds)


def _embeds(asked: Search) -> bool:
    """Whether a search with its mode needs vectors of its text."""
    by_tokens = asked.rerank is RerankBy.TOKENS
    return bool(asked.text) and (by_tokens or asked.embeds)


def _with_embedded(asked: Search, vector: Vector, tokens: TokenVectors | None) -> Search:
    """The search with what it needs of its text's vectors."""
    if asked.rerank is RerankBy.TOKENS:
        asked = asked._replace(tokens=tokens)
    return with_query(asked, vector=vector) if asked.embeds else asked


def _require_tokens(collection: Collection, asked: Search) -> None:
    """Raises TokenStoreMissing for a reranking by tokens that the collection does not keep."""
    if asked.rerank is RerankBy.TOKENS and not collection.token_store:
        raise TokenStoreMissing(
            f"Collection {collection.id!r} keeps no token vectors to rerank by. Rerank by "
            "sentences, or make a collection with token_store.",
            field="rerank.method",
            metadata={"collection": collection.id},
        )


def _earlier(call: Call) -> Call:
    """The call with a deadline that leaves time for what comes after."""
    remaining_s = call.remaining_s()
    if remaining_s is None or call.deadline_s is None:
        return call
    keep_s = max(RERANK_KEEP_S, RERANK_KEEP_SHARE * remaining_s)
    return replace(call, deadline_s=call.deadline_s - keep_s)
