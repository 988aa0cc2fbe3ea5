"""A node whose chat, embedding and extractive generation are the real ones. Retrieval is a shelf
of a few real passages, and generation can be replaced by a teller that says what a test wants."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from google.rpc import status_pb2
from ragmesh.api.chat.v1 import chat_service_pb2 as pb
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.embedding.v1.vector_pb2 import TextSpan
from ragmesh.api.generation.v1 import citation_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as generation
from ragmesh.api.retrieval.v1 import collection_pb2, point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from engine.errors import CollectionNotFound, RagmeshError
from services.mesh.mesh import Mesh
from services.rpc.call import Call

TOWNS = (
    "The Swiss Northern Railway opened the line from Zurich to Baden in August 1847. It was the "
    "first railway line that lay wholly in Switzerland. People called it the Spanish Bread "
    "Railway, after a pastry of Baden that was carried to Zurich by train. The line was later made "
    "longer, to Brugg and Aarau in one direction and to Romanshorn in the other.",
    "Lake Zurich freezes over only in very cold winters. The last time that the whole lake was "
    "frozen and open to walkers was in February 1963.",
    "The old bridge of Lucerne was built in the fourteenth century. A fire destroyed most of it "
    "in 1993, and it was built again within a year.",
)
PLANTS = (
    "Photosynthesis turns carbon dioxide and water into sugar and oxygen. The light is taken up "
    "by chlorophyll, which sits in the membranes of the thylakoids.",
    "Roots take up water and minerals. Fungi that live with the roots help most plants to find "
    "phosphate.",
)
OFFSET = 5_000
"""Where the first passage of each document stands in its stored text."""


def call(seconds: float | None = 20.0) -> Call:
    return Call("default", "r1", None if seconds is None else time.monotonic() + seconds)


def ask(question: str, *collections: str, **fields: Any) -> pb.AskQuestionRequest:
    return pb.AskQuestionRequest(
        question=question, collections=collections or ["collections/towns"], **fields
    )


def streamed(question: str, *collections: str, **fields: Any) -> pb.StreamAnswerRequest:
    return pb.StreamAnswerRequest(
        question=question, collections=collections or ["collections/towns"], **fields
    )


@dataclass
class Shelf:
    """Collections of real passages with their real sentence vectors, ranked by common words.

    `towns` are passages of documents, found by rank fusion; `plants` are points without a
    document, found by words alone, with scores far above those of a fusion.
    """

    collections: dict[str, list[point_pb2.Point]] = field(default_factory=dict)
    pause_s: float = 0.0
    together: asyncio.Barrier | None = None
    """How many searches have to be there before any is answered."""
    asked: list[retrieval.SearchCollectionRequest] = field(default_factory=list)
    arrived: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    cancelled: int = 0

    async def fill(self, mesh: Mesh) -> None:
        for name, texts in (("towns", TOWNS), ("plants", PLANTS)):
            embedded = await mesh.embedding.EmbedTexts(
                embedding.EmbedTextsRequest(
                    model="embeddingModels/default", texts=texts, include_sentences=True
                ),
                call(),
            )
            self.collections[name] = [
                point_pb2.Point(
                    id=f"{name}-{index}",
                    text=text,
                    sentences=one.sentences,
                    document=f"collections/{name}/documents/d{index}" if name == "towns" else "",
                    span=TextSpan(start=OFFSET, end=OFFSET + len(text))
                    if name == "towns"
                    else None,
                )
                for index, (text, one) in enumerate(zip(texts, embedded.embeddings, strict=True))
            ]
        self.collections["empty"] = []

    async def GetCollection(
        self, request: retrieval.GetCollectionRequest, call: Call
    ) -> retrieval.GetCollectionResponse:
        name = request.name.removeprefix("collections/")
        if name not in self.collections:
            raise CollectionNotFound(f"No {name}.", metadata={"collection": name})
        return retrieval.GetCollectionResponse(
            collection=collection_pb2.Collection(
                name=request.name, embedding_model="embeddingModels/default", fingerprint="f1"
            )
        )

    async def SearchCollection(
        self, request: retrieval.SearchCollectionRequest, call: Call
    ) -> retrieval.SearchCollectionResponse:
        self.asked.append(request)
        self.arrived.release()
        name = request.collection.removeprefix("collections/")
        if name not in self.collections:
            raise CollectionNotFound(f"No {name}.", metadata={"collection": name})
        try:
            await asyncio.sleep(self.pause_s)
            if self.together is not None:
                await self.together.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        wanted = set(re.findall(r"\w+", request.text.lower()))
        ranked = sorted(
            self.collections[name],
            key=lambda point: -len(wanted & set(re.findall(r"\w+", point.text.lower()))),
        )
        response = retrieval.SearchCollectionResponse(watermark="7")
        for rank, point in enumerate(ranked[: request.limit], 1):
            hit = response.hits.add(point=point, score=20.0 / rank, lexical_score=20.0 / rank)
            if name == "towns":
                hit.score, hit.dense_score = 2 / (10 + rank), 1 / rank
        return response


Tell = Callable[[generation.GenerateTextRequest], generation.GenerateTextResponse]


@dataclass
class Teller:
    """A generation service that answers what `tell` says; as a stream, it ends as `ending` says."""

    tell: Tell
    ending: str = "finished"
    status: status_pb2.Status = field(default_factory=status_pb2.Status)
    error: RagmeshError | None = None
    got: list[generation.GenerateTextRequest] = field(default_factory=list)

    async def GenerateText(
        self, request: generation.GenerateTextRequest, call: Call
    ) -> generation.GenerateTextResponse:
        self.got.append(request)
        return self.tell(request)

    async def StreamGenerateText(
        self, request: generation.StreamGenerateTextRequest, call: Call
    ) -> AsyncGenerator[generation.StreamGenerateTextResponse, None]:
        if self.error is not None:
            raise self.error
        whole = self.tell(
            generation.GenerateTextRequest(question=request.question, passages=request.passages)
        )
        Event = generation.StreamGenerateTextResponse
        yield Event(started=generation.GenerationStarted(model=request.model))
        yield Event(delta=generation.TextDelta(text=whole.text))
        for citation in whole.citations:
            yield Event(citation=citation)
        if self.ending == "failed":
            yield Event(failed=self.status)
        elif self.ending == "finished":
            yield Event(finished=whole)
        elif self.ending == "hang":
            await asyncio.sleep(60)


def honest(passage: citation_pb2.SourcePassage, quote: str) -> citation_pb2.Citation:
    """A citation that holds."""
    start = passage.span.start + passage.text.index(quote)
    return citation_pb2.Citation(
        collection=passage.collection,
        point_id=passage.point_id,
        document=passage.document,
        passage_index=passage.passage_index,
        span=TextSpan(start=start, end=start + len(quote)),
        quote=quote,
        answer_span=TextSpan(start=0, end=4),
        score=0.9,
    )


@dataclass(frozen=True)
class ChatNode:
    """What the tests of this directory talk to."""

    mesh: Mesh
    shelf: Shelf
    generation: object
    """The real generation service, which `mesh` hosts unless a test replaces it."""

    async def ask(self, request: pb.AskQuestionRequest, seconds: float | None = 20.0) -> pb.Answer:
        response = await self.mesh.method("chat", "AskQuestion")(request, call(seconds))
        answer: pb.Answer = response.answer
        return answer

    def stream(
        self, request: pb.StreamAnswerRequest, seconds: float | None = 20.0
    ) -> AsyncGenerator[pb.StreamAnswerResponse, None]:
        events: AsyncGenerator[pb.StreamAnswerResponse, None] = self.mesh.method(
            "chat", "StreamAnswer"
        )(request, call(seconds))
        return events

    async def events(
        self, request: pb.StreamAnswerRequest, seconds: float | None = 20.0
    ) -> list[pb.StreamAnswerResponse]:
        """All events, which must be numbered, begin with `started` and end with one last word."""
        events = [event async for event in self.stream(request, seconds)]
        assert [event.event_id for event in events] == list(range(1, len(events) + 1))
        kinds = [event.WhichOneof("event") for event in events]
        assert kinds[0] == "started"
        assert [kind for kind in kinds if kind in ("finished", "failed")] == kinds[-1:]
        return events
