"""What memories ask of other services: vectors of texts, candidates for a recall, compaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.retrieval.v1 import filter_pb2, search_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from engine.errors import CollectionNotFound, FingerprintMismatch
from engine.types import Sentences, Vector
from services.mesh.mesh import Mesh
from services.rpc import names
from services.rpc.call import Call
from services.rpc.values import sentences_value, vector_value
from services.store.collections import Collection, CollectionSpec

MODEL = "embeddingModels/default"
EMBED_TEXTS_MAX = 64


@dataclass(frozen=True, slots=True)
class Embedded:
    """What the model made of a text."""

    vector: Vector
    sentences: Sentences | None


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory that a search found, with the scores of the legs that found it."""

    id: str
    meaning: float | None
    words: float | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a search looks for: memories of `subject` that may hold at `at`. `now` says that they
    are wanted as they are, not as of a time."""

    subject: str
    query: str
    kinds: Sequence[str]
    at: datetime
    now: bool
    limit: int
    min_watermark: str


async def index_spec(mesh: Mesh, call: Call) -> CollectionSpec:
    """The settings of a new index of memories, for the mesh's default model."""
    empty = await mesh.embedding.EmbedTexts(
        embedding.EmbedTextsRequest(
            model=MODEL, texts=[""], input_kind=embedding.INPUT_KIND_PASSAGE
        ),
        call,
    )
    described = await mesh.embedding.GetEmbeddingModel(
        embedding.GetEmbeddingModelRequest(name=MODEL), call
    )
    model = described.embedding_model
    return CollectionSpec(
        display_name="memories",
        embedding_model=model.name,
        fingerprint=empty.fingerprint,
        dimensions=model.dimensions,
    )


async def embed(
    mesh: Mesh, collection: Collection, texts: Sequence[str], call: Call
) -> list[Embedded]:
    """Vectors of texts by the index's model. Raises FingerprintMismatch where it is another model
    by now."""
    made: list[Embedded] = []
    for start in range(0, len(texts), EMBED_TEXTS_MAX):
        response = await mesh.embedding.EmbedTexts(
            embedding.EmbedTextsRequest(
                model=collection.embedding_model,
                texts=texts[start : start + EMBED_TEXTS_MAX],
                input_kind=embedding.INPUT_KIND_PASSAGE,
                truncate=True,
                # Texts that are embedded with their sentences are in no cache, where an erasure
                # would have to look for them.
                include_sentences=True,
            ),
            call,
        )
        if response.fingerprint != collection.fingerprint:
            raise FingerprintMismatch(
                f"The model embeds into {response.fingerprint}, but memories are kept with "
                f"{collection.fingerprint}. Serve the model that they were made with.",
                metadata={"fingerprint": response.fingerprint},
            )
        made += [
            Embedded(vector_value(one.vector, "text"), sentences_value(one.sentences))
            for one in response.embeddings
        ]
    return made


async def search(
    mesh: Mesh, collection_id: str, wanted: Wanted, call: Call
) -> tuple[list[Hit], str]:
    """Candidates, the best first, and how far the index had come; none where there is no index."""
    request = retrieval.SearchCollectionRequest(
        collection=names.collection_name(collection_id),
        text=wanted.query,
        mode=retrieval.SEARCH_MODE_HYBRID,
        filter=_filter(wanted),
        limit=wanted.limit,
        fusion=retrieval.RankFusion(method=search_pb2.FUSION_METHOD_SCORE),
        min_watermark=wanted.min_watermark,
        ids_only=True,
    )
    try:
        response = await mesh.retrieval.SearchCollection(request, call)
    except CollectionNotFound:
        return [], ""
    hits = [
        Hit(
            hit.point.id,
            hit.dense_score if hit.HasField("dense_score") else None,
            hit.lexical_score if hit.HasField("lexical_score") else None,
        )
        for hit in response.hits
    ]
    return hits, response.watermark


async def compact(
    mesh: Mesh, collection_id: str, call: Call
) -> retrieval.CompactCollectionResponse:
    """Has deleted points removed from sealed segments. Raises what CompactCollection does."""
    request = retrieval.CompactCollectionRequest(
        collection=names.collection_name(collection_id), full=True
    )
    ask = mesh.method("retrieval", "CompactCollection")
    response: retrieval.CompactCollectionResponse = await ask(request, call)
    return response


async def points_left(mesh: Mesh, collection_id: str, subject: str, seq: str, call: Call) -> int:
    """Points of a subject that the index finds at a watermark or later."""
    ask = mesh.method("retrieval", "CountPoints")
    counted: retrieval.CountPointsResponse = await ask(
        retrieval.CountPointsRequest(
            collection=names.collection_name(collection_id),
            filter=_equals("subject", subject),
            min_watermark=seq,
        ),
        call,
    )
    return counted.count


def _filter(wanted: Wanted) -> filter_pb2.Filter:
    """No memory that holds at the time is left out; which ones do hold, the rows say."""
    instant = wanted.at.isoformat()
    ends_later = filter_pb2.Filter(
        datetime_range=filter_pb2.FieldDatetimeRange(field="valid_to", gt=instant)
    )
    if wanted.now:
        # `holds` has the subject as long as the memory's end is not known, so that the most common
        # question is one look at one bitmap.
        held = _any_of(
            _equals("holds", wanted.subject),
            _all_of(_equals("subject", wanted.subject), ends_later),
        )
    else:
        begun = filter_pb2.FieldDatetimeRange(field="valid_from", lte=instant)
        held = _all_of(
            _equals("subject", wanted.subject),
            filter_pb2.Filter(datetime_range=begun),
            _any_of(_equals("holds", wanted.subject), ends_later),
        )
    return _all_of(held, _one_of("kind", wanted.kinds)) if wanted.kinds else held


def _equals(field: str, value: str) -> filter_pb2.Filter:
    condition = filter_pb2.FieldEquals(field=field)
    condition.value.string_value = value
    return filter_pb2.Filter(equals=condition)


def _one_of(field: str, values: Sequence[str]) -> filter_pb2.Filter:
    condition = filter_pb2.FieldIn(field=field)
    for value in values:
        condition.values.add().string_value = value
    return filter_pb2.Filter(one_of=condition)


def _all_of(*filters: filter_pb2.Filter) -> filter_pb2.Filter:
    return filter_pb2.Filter(all_of=filter_pb2.FilterList(filters=filters))


def _any_of(*filters: filter_pb2.Filter) -> filter_pb2.Filter:
    return filter_pb2.Filter(any_of=filter_pb2.FilterList(filters=filters))
