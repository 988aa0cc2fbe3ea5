"""What the retrieval service does, on plain values: writes go to the log, reads to the indexes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import NamedTuple

from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding

from engine.errors import LimitReached
from engine.index import view as views
from engine.index.exact import Metric, prepare_rows
from engine.index.filters import Filter
from engine.index.storage import Storage, check_range
from engine.models.late import answer_parts
from engine.types import Sentences, TokenVectors, Vector
from services.mesh.mesh import Mesh
from services.retrieval.index.indexes import Indexes
from services.retrieval.search.searching import check_fingerprint
from services.rpc.call import Call
from services.rpc.values import sentences_value, token_vectors_value, vector_value
from services.store.collections import Collection
from services.store.points import PointRow

EMBED_TEXTS_MAX = 256
"""Texts of an upsert sent to the embedding service at once: large batches would hold up the
interactive lane's turn between them no longer than this."""

EMBED_BYTES_MAX = 4 << 20
"""Of texts that do not come from one request, which is bounded itself, sent at once."""

UPSERT_TOKEN_BYTES_MAX = 256 << 20
"""Token vectors of one upsert: they are in memory until it is written."""


class Embedded(NamedTuple):
    """What the embedding model made of a text; its tokens only for a collection that keeps them."""

    vector: Vector
    sentences: Sentences | None
    token_vectors: TokenVectors | None


class PinnedModel(NamedTuple):
    """The embedding model of a collection; its `name` is empty where callers bring vectors.
    `passage_tokens_max` is what is left of its longest text when special tokens and its prompt
    for passages are in."""

    name: str
    fingerprint: str
    dimensions: int
    passage_tokens_max: int


class RetrievalCore:
    """Prepares writes."""

    def __init__(self, indexes: Indexes, mesh: Mesh, threads: Executor) -> None:
        self._indexes = indexes
        self._mesh = mesh
        self._threads = threads

    async def complete(
        self, collection: Collection, rows: Sequence[PointRow], fingerprint: str, call: Call
    ) -> list[PointRow]:
        """Rows ready to be written: vectors checked, and missing ones embedded from their texts."""
        check_fingerprint(collection, fingerprint, "fingerprint")
        prepared = prepare_rows(
            Metric(collection.metric),
            collection.dimensions,
            [row.vector for row in rows],
            "points",
        )
        storage = Storage(collection.vector_storage)
        for index, vector in enumerate(prepared if storage is not Storage.FLOAT32 else ()):
            if vector is not None:
                check_range(storage, vector, f"points[{index}].vector")
        missing = [i for i, row in enumerate(rows) if row.vector is None and row.text]
        if not missing or not collection.embedding_model:
            return list(rows)
        completed = list(rows)
        token_bytes = 0
        for part in await self._parts(collection, [rows[i].text for i in missing], call):
            chosen = missing[part]
            embedded = await self._embed_passages(collection, [rows[i].text for i in chosen], call)
            for i, one in zip(chosen, embedded, strict=True):
                completed[i] = replace(rows[i], **one._asdict())
                token_bytes += 0 if one.token_vectors is None else one.token_vectors.nbytes
            if token_bytes > UPSERT_TOKEN_BYTES_MAX:
                raise LimitReached(
                    f"The token vectors of these {len(missing)} texts take more than "
                    f"{UPSERT_TOKEN_BYTES_MAX:,} bytes. Upsert fewer points at once.",
                    field="points",
                    metadata={"bytes_max": UPSERT_TOKEN_BYTES_MAX},
                )
        return completed

    async def embed(
        self, collection: Collection, texts: Sequence[str], call: Call
    ) -> list[Embedded]:
        """Texts as passages, by the collection's model. Raises FingerprintMismatch where the model
        is not the one that the collection was made with."""
        made: list[Embedded] = []
        for part in await self._parts(collection, texts, call):
            for some in _within_bytes(texts[part]):
                made += await self._embed_passages(collection, some, call)
        return made

    async def embed_queries(
        self, collection: Collection, texts: Sequence[str], call: Call
    ) -> list[Vector]:
        """A few short texts as queries, by the collection's model. Raises as `embed`."""
        response = await self._mesh.embedding.EmbedTexts(
            embedding.EmbedTextsRequest(
                model=collection.embedding_model,
                texts=texts,
                input_kind=embedding.INPUT_KIND_QUERY,
                truncate=True,
            ),
            call,
        )
        check_fingerprint(collection, response.fingerprint, "queries")
        return [vector_value(e.vector, "queries") for e in response.embeddings]

    async def _parts(
        self, collection: Collection, texts: Sequence[str], call: Call
    ) -> Sequence[slice]:
        """Texts in parts that are embedded at once."""
        if not collection.token_store:
            starts = range(0, len(texts), EMBED_TEXTS_MAX)
            return [slice(start, start + EMBED_TEXTS_MAX) for start in starts]
        response = await self._mesh.embedding.GetEmbeddingModel(
            embedding.GetEmbeddingModelRequest(name=collection.embedding_model), call
        )
        model = response.embedding_model
        # No token is shorter than a byte, but for one that may stand for the beginning.
        most = [min(model.tokens_max, 1 + len(text.encode())) for text in texts]
        return list(answer_parts(most, model.dimensions, EMBED_TEXTS_MAX))

    async def _embed_passages(
        self, collection: Collection, texts: Sequence[str], call: Call
    ) -> list[Embedded]:
        response = await self._mesh.embedding.EmbedTexts(
            embedding.EmbedTextsRequest(
                model=collection.embedding_model,
                texts=texts,
                input_kind=embedding.INPUT_KIND_PASSAGE,
                truncate=True,
                include_sentences=True,
                include_tokens=collection.token_store,
            ),
            call,
        )
        check_fingerprint(collection, response.fingerprint, "points")
        return [
            Embedded(
                vector_value(e.vector, "points"),
                sentences_value(e.sentences),
                token_vectors_value(e.token_vectors) if collection.token_store else None,
            )
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

    async def require_reranker(self, name: str, call: Call) -> None:
        """Raises EmbeddingModelNotFound unless there is a model of this name, or none is named."""
        if name:
            await self._mesh.embedding.GetEmbeddingModel(
                embedding.GetEmbeddingModelRequest(name=name), call
            )

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


def _within_bytes(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Texts in parts of EMBED_BYTES_MAX at most, or of one."""
    start = taken = 0
    for end, text in enumerate(texts):
        size = len(text.encode())
        if end > start and taken + size > EMBED_BYTES_MAX:
            yield texts[start:end]
            start, taken = end, 0
        taken += size
    if start < len(texts):
        yield texts[start:]
