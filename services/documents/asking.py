"""What the stages ask other services: tokens of texts, vectors of passages, room in the index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from engine.documents.chunk import Chunk
from engine.documents.embedding import embedding_text, passage_sentences
from engine.documents.parsed import Parsed
from engine.errors import (
    DeadlineExceeded,
    Exhausted,
    FingerprintMismatch,
    IndexMemoryFull,
    LimitReached,
    QueueFull,
    Unavailable,
)
from engine.types import Matrix
from services.documents.cutting import cut_document
from services.mesh.mesh import Mesh
from services.rpc import names
from services.rpc.call import Call
from services.rpc.values import sentences_value, token_vectors_value, vector_value
from services.store.collections import Collection
from services.store.passages import Embedded

COUNT_TEXTS_MAX = 2_048
_REFUSALS = {
    "LIMIT_REACHED": LimitReached,
    "INDEX_MEMORY_FULL": IndexMemoryFull,
    "QUEUE_FULL": QueueFull,
}


async def cut(mesh: Mesh, collection: Collection, parsed: Parsed, call: Call) -> list[Chunk]:
    """The passages of a section, with tokens and likenesses as the collection's model has them."""

    async def count(texts: Sequence[str]) -> list[int]:
        return await _counts(mesh, collection, texts, call)

    async def vectors(texts: Sequence[str]) -> Matrix:
        return await _vectors(mesh, collection, texts, call)

    return await cut_document(collection, parsed, count, vectors)


async def _vectors(mesh: Mesh, collection: Collection, texts: Sequence[str], call: Call) -> Matrix:
    response = await mesh.embedding.EmbedTexts(
        pb.EmbedTextsRequest(
            model=collection.embedding_model,
            texts=texts,
            input_kind=pb.INPUT_KIND_PASSAGE,
            truncate=True,
        ),
        call,
    )
    return np.stack([vector_value(made.vector, "sentence") for made in response.embeddings])


async def _counts(
    mesh: Mesh, collection: Collection, texts: Sequence[str], call: Call
) -> list[int]:
    counts: list[int] = []
    for start in range(0, len(texts), COUNT_TEXTS_MAX):
        response = await mesh.embedding.CountTokens(
            pb.CountTokensRequest(
                model=collection.embedding_model, texts=texts[start : start + COUNT_TEXTS_MAX]
            ),
            call,
        )
        counts += response.tokens
    return counts


async def embed(
    mesh: Mesh, collection: Collection, passages: Sequence[tuple[str, str]], call: Call
) -> list[Embedded]:
    """What the model makes of passages, given as text and context. Raises FingerprintMismatch
    where it is another model by now."""
    response = await mesh.embedding.EmbedTexts(
        pb.EmbedTextsRequest(
            model=collection.embedding_model,
            texts=[embedding_text(text, context) for text, context in passages],
            input_kind=pb.INPUT_KIND_PASSAGE,
            truncate=True,
            include_sentences=True,
            include_tokens=collection.token_store,
        ),
        call,
    )
    if response.fingerprint != collection.fingerprint:
        raise FingerprintMismatch(
            f"The model embeds into {response.fingerprint}, but the collection holds "
            f"{collection.fingerprint}. Make a new collection for the new model.",
            metadata={"fingerprint": response.fingerprint},
        )
    return [
        _embedded(made, text, context, tokens=collection.token_store)
        for made, (text, context) in zip(response.embeddings, passages, strict=True)
    ]


def _embedded(made: pb.TextEmbedding, text: str, context: str, *, tokens: bool) -> Embedded:
    sentences = sentences_value(made.sentences)
    return Embedded(
        vector=vector_value(made.vector, "passage"),
        sentences=None if sentences is None else passage_sentences(sentences, text, context),
        token_vectors=token_vectors_value(made.token_vectors) if tokens else None,
    )


async def require_room(mesh: Mesh, collection: Collection, call: Call) -> None:
    """Raises Exhausted where the index has no room for passages, before they are embedded."""
    name = names.collection_name(collection.id)
    try:
        stats = await mesh.retrieval.GetCollectionStats(
            retrieval.GetCollectionStatsRequest(name=name), call
        )
    except (Unavailable, DeadlineExceeded):
        return  # no index, no want of room: it is made from the log when it is back
    if reason := stats.refusal_reason:
        raise _REFUSALS.get(reason, Exhausted)(
            f"The index of {name} takes no more points now ({reason}). Delete some, or raise "
            "its limits or the node's memory.",
            metadata={"collection": collection.id},
        )
