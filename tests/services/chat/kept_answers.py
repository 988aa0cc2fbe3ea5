"""Chat nodes that keep answers in one PostgreSQL, and a model whose words come when a test says."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from ragmesh.api.chat.v1 import chat_service_pb2 as pb
from ragmesh.api.generation.v1 import generation_service_pb2 as generation
from redis.asyncio import Redis

from services.chat.answers_servicer import Kept
from services.chat.servicer import ChatServicer
from services.config import ChatSettings, GenerationSettings
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.store.store import Store
from tests.services.chat.chat_mesh import ask, honest, streamed

WITHIN_S = 60.0
QUESTION = "When was the railway line from Zurich to Baden opened?"
Response = generation.StreamGenerateTextResponse


async def until(condition: Callable[[], Awaitable[bool] | bool]) -> None:
    """Waits for a condition."""
    give_up_s = time.monotonic() + WITHIN_S
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return
        assert time.monotonic() < give_up_s, "not within 60 s"
        await asyncio.sleep(0.01)


@dataclass
class Paced:
    """A generation service that says a word for each `say`, and finishes when it is told to."""

    words: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    asked: int = 0
    left: int = 0
    """Streams that their reader left before the end."""

    def say(self, *words: str) -> None:
        """More words."""
        for word in words:
            self.words.put_nowait(word)

    def finish(self) -> None:
        """The end."""
        self.words.put_nowait(None)

    async def GetGenerationModel(
        self, request: generation.GetGenerationModelRequest, call: Call
    ) -> generation.GetGenerationModelResponse:
        return generation.GetGenerationModelResponse(
            generation_model=generation.GenerationModel(name=request.name, upstream_model="u1")
        )

    async def StreamGenerateText(
        self, request: generation.StreamGenerateTextRequest, call: Call
    ) -> AsyncGenerator[Response, None]:
        self.asked += 1
        text, ended = "", False
        try:
            yield Response(started=generation.GenerationStarted(model=request.model))
            while (word := await self.words.get()) is not None:
                text += word
                yield Response(delta=generation.TextDelta(text=word))
            citation = honest(request.passages[0], request.passages[0].text[:20])
            ended = True
            yield Response(
                finished=generation.GenerateTextResponse(
                    text=text, citations=[citation], confidence=0.9
                )
            )
        finally:
            self.left += not ended


def caller(tenant: str = "default", seconds: float | None = None) -> Call:
    """A call of a tenant, without a deadline unless it has one."""
    return Call(tenant, "r1", None if seconds is None else time.monotonic() + seconds)


class Nodes:
    """Chat nodes of one mesh and one PostgreSQL."""

    def __init__(self, mesh: Mesh, store: Store) -> None:
        self.mesh = mesh
        self.store = store
        self._made: list[ChatServicer] = []

    async def node(self, redis: Redis | None = None, **settings: float) -> ChatServicer:
        """One more node."""
        kept = Kept(self.store, redis, f"n{len(self._made)}", ChatSettings(**settings))
        made = ChatServicer(GenerationSettings(), self.mesh, kept)
        await made.start()
        self._made.append(made)
        return made

    async def close(self) -> None:
        """All of them."""
        for made in self._made:
            await made.close()


class Reader:
    """Somebody who reads an answer, and notes what came."""

    def __init__(self, events: AsyncIterator[pb.StreamAnswerResponse]) -> None:
        self._events = events
        self.got: list[pb.StreamAnswerResponse] = []
        self.beats = 0

    async def next(self) -> pb.StreamAnswerResponse:
        """One more event; heartbeats are counted apart."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                event = await anext(self._events)
                if event.WhichOneof("event") != "heartbeat":
                    self.got.append(event)
                    return event
                self.beats += 1

    async def to(self, kind: str, count: int = 1) -> pb.StreamAnswerResponse:
        """Events up to the next of a kind, or so many of them."""
        for _ in range(count):
            while (event := await self.next()).WhichOneof("event") != kind:
                pass
        return event

    async def rest(self) -> list[pb.StreamAnswerResponse]:
        """All events to the end; those that came, checked for their numbers."""
        with contextlib.suppress(StopAsyncIteration):
            while True:
                await self.next()
        return self.got

    async def leave(self) -> None:
        """Goes away in the middle."""
        await self._events.aclose()  # type: ignore[attr-defined]

    @property
    def name(self) -> str:
        """The answer's name, of the first event."""
        return self.got[0].started.answer

    @property
    def ids(self) -> list[int]:
        """The numbers of what came."""
        return [event.event_id for event in self.got]

    @property
    def kinds(self) -> list[str | None]:
        """What came."""
        return [event.WhichOneof("event") for event in self.got]


def asked(node: ChatServicer, call: Call | None = None) -> Reader:
    """A new answer of a node."""
    return Reader(node.StreamAnswer(streamed(QUESTION), call or caller()))


def resumed(node: ChatServicer, name: str, after: int = 0, call: Call | None = None) -> Reader:
    """A reader of an answer that is there, from an event on."""

    async def events() -> AsyncGenerator[pb.StreamAnswerResponse, None]:
        request = pb.ResumeAnswerRequest(name=name, after_event_id=after)
        stream = node.ResumeAnswer(request, call or caller())
        async with contextlib.aclosing(stream):
            async for response in stream:
                yield response.event

    return Reader(events())


async def answer_of(node: ChatServicer, name: str, call: Call | None = None) -> pb.Answer:
    """The answer as it is."""
    got = await node.GetAnswer(pb.GetAnswerRequest(name=name), call or caller())
    return got.answer


async def question(node: ChatServicer) -> pb.Answer:
    """An answer that is no stream."""
    return (await node.AskQuestion(ask(QUESTION), caller())).answer
