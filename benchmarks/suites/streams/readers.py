"""Readers of answers over each transport, who lose their connection at random and come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from ragmesh.api.chat.v1 import chat_service_pb2 as pb
from ragmesh.api.chat.v1 import chat_service_pb2_grpc as stubs
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

TRANSPORTS = ("grpc", "sse", "websocket")
ENDS = ("finished", "failed")
CONNECTED_S = (1.0, 4.0)
"""How long a connection lasts, at least and at most."""

Event = tuple[int, str, str]
"""Number, kind, and the answer's name where the event says it."""


@dataclass(slots=True)
class Reader:
    """One reader of one answer: the numbers that came, and how often it came back."""

    transport: str
    name: str = ""
    ids: list[int] = field(default_factory=list)
    last: str = ""
    returns: int = 0
    named: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: Event) -> bool:
        """Notes an event; whether it was the last one. Signs of life are no events."""
        number, kind, name = event
        if name:
            self.name = name
            self.named.set()
        if kind == "heartbeat":
            return False
        self.ids.append(number)
        self.last = kind
        return kind in ENDS

    @property
    def missed(self) -> int:
        """Events that did not come, up to the last one that did."""
        return max(self.ids, default=0) - len(set(self.ids))

    @property
    def twice(self) -> int:
        """Events that came more than once."""
        return len(self.ids) - len(set(self.ids))


@dataclass(frozen=True, slots=True)
class Ways:
    """How readers connect: through the gateway, whatever they speak."""

    gateway: str
    stub: stubs.ChatServiceStub
    http: httpx.AsyncClient
    request: pb.StreamAnswerRequest
    body: dict[str, Any]


async def read(reader: Reader, ways: Ways, chance: random.Random, give_up_s: float) -> None:
    """Reads an answer to its end, or until `give_up_s`; a new one where the reader has no name."""
    opens: dict[str, Callable[[Reader, Ways], AsyncIterator[Event]]] = {
        "grpc": _grpc,
        "sse": _sse,
        "websocket": _websocket,
    }
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(give_up_s):
            while not await _connected(reader, opens[reader.transport](reader, ways), chance):
                reader.returns += 1


async def _connected(reader: Reader, events: AsyncIterator[Event], chance: random.Random) -> bool:
    """Reads over one connection until it is lost; whether the answer's end came."""
    try:
        async with asyncio.timeout(chance.uniform(*CONNECTED_S)):
            async for event in events:
                if reader.take(event):
                    return True
    except (TimeoutError, grpc.aio.AioRpcError, httpx.HTTPError, ConnectionClosed, OSError):
        pass
    finally:
        await events.aclose()  # type: ignore[attr-defined]
    if not reader.name:
        reader.ids.clear()  # a new answer is asked for
        await asyncio.sleep(0.2)
    return False


async def _grpc(reader: Reader, ways: Ways) -> AsyncIterator[Event]:
    if reader.name:
        after = reader.ids[-1] if reader.ids else 0
        request = pb.ResumeAnswerRequest(name=reader.name, after_event_id=after)
        call: Any = ways.stub.ResumeAnswer(request)
    else:
        call = ways.stub.StreamAnswer(ways.request)
    try:
        async for message in call:
            event = message.event if isinstance(message, pb.ResumeAnswerResponse) else message
            yield event.event_id, event.WhichOneof("event") or "", event.started.answer
    finally:
        call.cancel()


async def _sse(reader: Reader, ways: Ways) -> AsyncIterator[Event]:
    if reader.name:
        headers = {"last-event-id": str(reader.ids[-1] if reader.ids else 0)}
        opened = ways.http.stream("GET", f"/v1/{reader.name}:events", headers=headers)
    else:
        opened = ways.http.stream("POST", "/v1/chat:stream", json=ways.body)
    async with opened as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                yield _event(json.loads(line.removeprefix("data: ")))


async def _websocket(reader: Reader, ways: Ways) -> AsyncIterator[Event]:
    async with connect(f"ws://{ways.gateway}/v1/chat:connect", close_timeout=0.1) as socket:
        message: dict[str, Any] = {"type": "ask", "ref": "1", "request": ways.body}
        if reader.name:
            after = reader.ids[-1] if reader.ids else 0
            message = {
                "type": "follow",
                "ref": "1",
                "answer": reader.name,
                "afterEventId": after,
            }
        await socket.send(json.dumps(message))
        async for said in socket:
            heard = json.loads(said)
            if heard["type"] != "event":
                return
            yield _event(heard["event"])


def _event(event: dict[str, Any]) -> Event:
    kinds = ("started", "retrieved", "delta", "citation", "warning", "heartbeat", *ENDS)
    kind = next((name for name in kinds if name in event), "")
    return int(event["eventId"]), kind, event.get("started", {}).get("answer", "")
