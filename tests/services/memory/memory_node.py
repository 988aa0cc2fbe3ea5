"""A node whose memory, embedding and generation services are the real ones, with PostgreSQL, Redis
and an endpoint that writes as a script says."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ragmesh.api.memory.v1 import memory_service_pb2 as pb
from ragmesh.api.memory.v1 import session_pb2
from redis.asyncio import Redis

from services.memory.servicer import MemoryServicer
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.store.store import Store
from tests.services.generation.openai_endpoint import Endpoint

WRITER = "generationModels/writer"
ROLES = (session_pb2.SessionMessage.ROLE_USER, session_pb2.SessionMessage.ROLE_ASSISTANT)


def call(seconds: float | None = 60.0) -> Call:
    return Call("t", "r1", None if seconds is None else time.monotonic() + seconds)


@dataclass(frozen=True)
class MemoryNode:
    """What the tests of this directory talk to."""

    mesh: Mesh
    servicer: MemoryServicer
    store: Store
    redis: Redis
    endpoint: Endpoint

    async def session(self, *texts: str) -> str:
        """A session of these messages, of which every second one answers."""
        made = await self.mesh.method("memory", "CreateSession")(pb.CreateSessionRequest(), call())
        name = str(made.session.name)
        for start in range(0, len(texts), 1_000):
            await self.say(name, *texts[start : start + 1_000])
        return name

    async def say(self, name: str, *texts: str, parent: int | None = None) -> list[int]:
        """Appends messages; their indexes."""
        request = pb.AppendMessagesRequest(
            session=name,
            messages=[
                session_pb2.SessionMessage(role=ROLES[i % 2], text=text)
                for i, text in enumerate(texts)
            ],
            parent_index=parent,
        )
        return list((await self.mesh.memory.AppendMessages(request, call())).message_indexes)

    async def context(self, name: str, question: str = "", **asked: object) -> Context:
        """What is to be read before a question."""
        request = pb.GetSessionContextRequest(
            name=name,
            question=question,
            **asked,  # type: ignore[arg-type]
        )
        answer = await self.mesh.memory.GetSessionContext(request, call())
        assert answer.tokens <= (request.tokens_max or 2_000)
        return Context(answer, [one.message.message_index for one in answer.messages])


@dataclass(frozen=True)
class Context:
    """An answer, and the indexes of its messages."""

    answer: pb.GetSessionContextResponse
    indexes: list[int]


def small_talk(turns: int) -> list[str]:
    """Questions and answers about nothing in particular."""
    texts = []
    for i in range(turns):
        texts.append(f"How is the weather in town number {i} today?")
        texts.append(f"It is mild and a little cloudy in town number {i}, with no rain expected.")
    return texts
