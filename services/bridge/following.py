"""The events of answers for the bridge's streams: followed over a node that goes away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import cast

from google.protobuf.message import Message

from engine.errors import NodeDraining, QueueFull, ServiceUnavailable, StoreUnavailable
from services.bridge import answers_convert as convert
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.rpc.methods import methods_of

AGAIN_S = 0.2
TRIES = 25
"""How often a stream that is cut is taken up before its reader is told: some seconds, in which
another node takes over."""


class Followed:
    """Events of one answer, each once: of a new one, or of one that is there from an event on."""

    def __init__(self, mesh: Mesh, call: Call) -> None:
        self._mesh = mesh
        self._call = call
        self.name = ""
        self.position = 0

    async def asked(self, request: Message) -> AsyncGenerator[convert.Told, None]:
        """A new answer's. Raises what StreamAnswer raises."""
        stream = self._stream("StreamAnswer", request)
        async with contextlib.aclosing(self._events(stream, unwrap=False)) as events:
            async for event in events:
                yield event

    async def resumed(self, name: str, after: int) -> AsyncGenerator[convert.Told, None]:
        """Those of an answer after one of its events. Raises what ResumeAnswer raises."""
        self.name, self.position = name, after
        async with contextlib.aclosing(self._events(self._resume(), unwrap=True)) as events:
            async for event in events:
                yield event

    def _resume(self) -> AsyncGenerator[Message, None]:
        return self._stream("ResumeAnswer", convert.resume_request(self.name, self.position))

    def _stream(self, rpc: str, request: Message) -> AsyncGenerator[Message, None]:
        stream = self._mesh.stream(methods_of("chat")[rpc], request, self._call)
        return cast("AsyncGenerator[Message, None]", stream)

    async def _events(
        self, stream: AsyncGenerator[Message, None], *, unwrap: bool
    ) -> AsyncGenerator[convert.Told, None]:
        tries = 0
        while True:
            try:
                async with contextlib.aclosing(stream):
                    async for message in stream:
                        told = convert.told(message, unwrap=unwrap)
                        self.name, self.position = told.answer or self.name, told.event_id
                        tries = 0
                        yield told
                        if told.last:
                            return
                return
            except (ServiceUnavailable, NodeDraining, StoreUnavailable, QueueFull):
                tries += 1
                if not self.name or tries > TRIES:
                    raise
            await asyncio.sleep(AGAIN_S)
            stream, unwrap = self._resume(), True
