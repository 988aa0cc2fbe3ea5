"""What the retrieval service does, on plain values: writes go to the log, reads to the indexes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import NamedTuple

from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding

from engine.errors import (
    FingerprintMismatch,
    NoEmbeddingModel,
    PointNotFound,
)
from engine.index import view as views
from engine.index.exact import Metric, prepare
from engine.index.filters import Filter
from engine.index.search import Mode, Query, Results, goes_by_graph, search
from engine.types import Sentences, Vector
from services.mesh.mesh import Mesh
from services.retrieval.indexes import Indexes
from services.rpc.call import Call
from services.rpc.values import sentences_value, vector_value
from services.store.collections import Collection
from services.store.points import PointRow

EMBED_TEXTS_MAX = 256
"""Texts of an upsert sent to the embedding service at once: large batches would hold up the
interactive lane's turn between them no longer than this."""


class PinnedModel(NamedTuple):
    """The embedding model of a collection; its `name` is empty where callers bring vectors.
    `passage_tokens_max` is what is left of its longest text when special tokens and its prompt
    for passages are in."""

    name: str
    fingerprint: str
    dimensions: int
    passage_tokens_max: int


class Found(NamedTuple):
    """A search's results and where the time went, in milliseconds."""

    results: Results
    points: int
    embed_ms: float
    watermark_wait_ms: float
    search_ms: float


@dataclass(frozen=True, slots=True)
class Search:
    """A search as asked: exactly one of `query.vector`, `text` and `point_id` is set."""

    query: Query
    text: str = ""
    point_id: str = ""
    fingerprint: str = ""
    min_seq: int = 0


class RetrievalCore:
    """Searches and prepares writes."""

    def __init__(self, indexes: Indexes, mesh: Mesh, threads: Executor) -> None:
        self._indexes = indexes
        self._mesh = mesh
        self._threads = threads

    async def search(self, collection: Collection, asked: Search, call: Call) -> Found:
        """Finds points. Embeds a text where the mode needs a vector; raises NoEmbeddingModel if
        it can't, PointNotFound, DimensionMismatch, FingerprintMismatch, InvalidFilter …"""
        check_fingerprint(collection, asked.fingerprint, "fingerprint")
        begin_s = time.perf_counter()
        query = await self._with_vector(collection, asked, call)
        embedded_s = time.perf_counter()
        view = await self._indexes.view(collection, asked.min_seq, call)
        waited_s = time.perf_counter()
        if asked.point_id:
            query = self._near_point(view, query, asked.point_id)
        if is_quick(view, query):
            results = search(view, query)
        else:
            results = await asyncio.get_running_loop().run_in_executor(
                self._threads, search, view, query
            )
        if asked.point_id:
            results = _without(results, asked.point_id, asked.query.limit)
        done_s = time.perf_counter()
        return Found(
            results,
            view.points,
            (embedded_s - begin_s) * 1000,
            (waited_s - embedded_s) * 1000,
            (done_s - waited_s) * 1000,
        )

    async def _with_vector(self, collection: Collection, asked: Search, call: Call) -> Query:
        query = asked.query
        if query.vector is not None:
            return query
        if asked.point_id:
            return replace(query, mode=Mode.DENSE)
        mode = query.mode
        if mode is None:
            mode = Mode.HYBRID if collection.embedding_model else Mode.LEXICAL
        if mode is Mode.LEXICAL:
            return replace(query, text=asked.text, mode=mode)
        vector = await self.embed_query(collection, asked.text, call)
        text = asked.text if mode is Mode.HYBRID else None
        return replace(query, text=text, vector=vector, mode=mode)

    async def embed_query(self, collection: Collection, text: str, call: Call) -> Vector:
        """The vector of a query's text. A text longer than the model reads is cut."""
        require_model(collection)
        response = await self._mesh.embedding.EmbedTexts(
            embedding.EmbedTextsRequest(
                model=collection.embedding_model,
                texts=[text],
                input_kind=embedding.INPUT_KIND_QUERY,
                truncate=True,
            ),
            call,
        )
        check_fingerprint(collection, response.fingerprint, "text")
        return vector_value(response.embeddings[0].vector, "text")

    @staticmethod
    def _near_point(view: views.View, query: Query, point_id: str) -> Query:
        found = views.get(view, [point_id], with_vectors=True)
        if not found or found[0].vector is None:
            what = "has no vector" if found else "does not exist"
            raise PointNotFound(
                f"Point {point_id!r} {what}; a search cannot start from it.",
                field="point_id",
                metadata={"point_id": point_id},
            )
        return replace(query, vector=found[0].vector, limit=min(query.limit + 1, 1_000))

    async def complete(
        self, collection: Collection, rows: Sequence[PointRow], fingerprint: str, call: Call
    ) -> list[PointRow]:
        """Rows ready to be written: vectors checked, and missing ones embedded from their texts."""
        check_fingerprint(collection, fingerprint, "fingerprint")
        metric = Metric(collection.metric)
        for index, row in enumerate(rows):
            if row.vector is not None:
                field = f"points[{index}].vector"
                prepare(metric, collection.dimensions, row.vector, field)
        missing = [i for i, row in enumerate(rows) if row.vector is None]
        if not missing or not collection.embedding_model:
            return list(rows)
        completed = list(rows)
        for start in range(0, len(missing), EMBED_TEXTS_MAX):
            chosen = missing[start : start + EMBED_TEXTS_MAX]
            embedded = await self._embed_passages(collection, [rows[i].text for i in chosen], call)
            for i, (vector, sentences) in zip(chosen, embedded, strict=True):
                completed[i] = replace(rows[i], vector=vector, sentences=sentences)
        return completed

    async def _embed_passages(
        self, collection: Collection, texts: Sequence[str], call: Call
    ) -> list[tuple[Vector, Sentences | None]]:
        response = await self._mesh.embedding.EmbedTexts(
            embedding.EmbedTextsRequest(
                model=collection.embedding_model,
                texts=texts,
                input_kind=embedding.INPUT_KIND_PASSAGE,
                truncate=True,
                include_sentences=True,
            ),
            call,
        )
        check_fingerprint(collection, response.fingerprint, "points")
        return [
            (vector_value(e.vector, "points"), sentences_value(e.sentences))
            for e in response.embeddings
        ]

    async def model_of(self, name: str, call: Call) -> PinnedModel:
        """An embedding model, for a collection to pin. Raises EmbeddingModelNotFound."""
        # The empty text is nothing but special tokens and the prompt. It comes first, because it
        # loads the model: of one that was never downloaded nothing is known before.
        empty = await self._mesh.embedding.EmbedTexts(
            embedding.EmbedTextsRequest(
                model=name, texts=[""], input_kind=embedding.INPUT_KIND_PASSAGE
            ),
            call,
        )
        response = await self._mesh.embedding.GetEmbeddingModel(
            embedding.GetEmbeddingModelRequest(name=name), call
        )
        model = response.embedding_model
        passage_tokens_max = model.tokens_max - empty.embeddings[0].tokens
        return PinnedModel(model.name, empty.fingerprint, model.dimensions, passage_tokens_max)

    async def matching_ids(
        self, collection: Collection, condition: Filter, min_seq: int, call: Call, limit: int
    ) -> tuple[list[str], int]:
        """Ids of callers' own points that a filter lets through, at most `limit`, and the commit
        they were read at. Passages are left out: they go with their documents."""
        view = await self._indexes.view(collection, min_seq, call)
        points = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: views.list_points(view, limit=limit, filter=condition)
        )
        return [p.id for p in points if not p.document], view.watermark


QUICK_LIMIT_MAX = 50
QUICK_EF_MAX = 128
QUICK_SCAN_ROWS_MAX = 1_000


def is_quick(view: views.View, query: Query) -> bool:
    """Whether a search takes less than the hop to a thread and back (0.1 to 0.3 ms), so that it
    had better be done on the event loop: one walk of one graph, and a small scan beside it."""
    if query.mode is not Mode.DENSE or query.filter is not None or query.exact:
        return False
    if query.limit > QUICK_LIMIT_MAX or (query.ef or 0) > QUICK_EF_MAX:
        return False
    walked = [segment for segment in view.segments if goes_by_graph(view, segment)]
    scanned = sum(s.count for s in view.segments) - sum(s.count for s in walked)
    narrow = all(s.graph is None or s.graph.settings.ef_search <= QUICK_EF_MAX for s in walked)
    return len(walked) <= 1 and narrow and scanned <= QUICK_SCAN_ROWS_MAX


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


def _without(results: Results, point_id: str, limit: int) -> Results:
    hits = tuple(h for h in results.hits if h.point.id != point_id)[:limit]
    return replace(results, hits=hits)
