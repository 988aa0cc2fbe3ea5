"""A real HTTP server that speaks the protocols of language models, as a script says."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

MODEL = "test-model"


@dataclass(frozen=True)
class Answer:
    """Streams pieces, then the finish reason and the usage."""

    pieces: Sequence[str]
    finish: str = "stop"
    input_tokens: int = 7
    output_tokens: int = 5
    pause_s: float = 0.0


@dataclass(frozen=True)
class Refusal:
    """Answers with an HTTP status and a body that nobody outside should see."""

    status: int
    body: str = '{"error": {"message": "internal secret of the endpoint"}}'
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Broken:
    """Streams pieces, then raw lines, then drops the connection or (`hang`) says no more."""

    pieces: Sequence[str] = ()
    raw: bytes = b""
    hang: bool = False


@dataclass(frozen=True)
class Deaf:
    """Takes the request and never answers."""


@dataclass(frozen=True)
class Events:
    """Streams events of any protocol: JSON for a mapping, bytes as they are. Then it ends the
    response, or (`hang`) says no more."""

    events: Sequence[Mapping[str, Any] | bytes]
    pause_s: float = 0.0
    hang: bool = False
    content_type: str = "text/event-stream"
    headers: Mapping[str, str] = field(default_factory=dict)


Reply = Answer | Refusal | Broken | Deaf | Events


def chunk(text: str = "", finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """An event of the OpenAI protocol."""
    made = _chunk(text, finish)
    made["choices"][0]["delta"] |= delta
    return made


def usage_chunk(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    """The last event of the OpenAI protocol."""
    counted = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    return {**_chunk(""), "choices": [], "usage": counted}


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class Endpoint:
    """Replies in the order of the script; the last reply stays."""

    def __init__(self) -> None:
        self.script: list[Reply] = []
        self.asked: list[Asked] = []
        self.heard = asyncio.Event()
        """Set when a request came."""
        self.gone = asyncio.Event()
        """Set when a client went away before its answer was complete."""
        self.gone_s = 0.0
        """When that was, by `time.monotonic`."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def will(self, *replies: Reply) -> None:
        """Sets the script and forgets what was."""
        self.script = list(replies)
        self.asked.clear()
        self.gone.clear()
        self.heard.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        except asyncio.CancelledError:
            return  # `close` ends it, and the stream's own callback would log that as an error
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection stays."""
        head = await reader.readline()
        if not head:
            return False
        headers = {}
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))))
        self.asked.append(Asked(head.decode().split()[1], headers, body))
        self.heard.set()
        reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        match reply:
            case Refusal():
                data = reply.body.encode()
                extra = "".join(f"{k}: {v}\r\n" for k, v in reply.headers.items())
                writer.write(
                    f"HTTP/1.1 {reply.status} No\r\ncontent-type: application/json\r\n{extra}"
                    f"content-length: {len(data)}\r\n\r\n".encode()
                    + data
                )
                await writer.drain()
                return True
            case Deaf():
                await self._until_gone(reader)
                return False
            case Answer():
                await self._head(writer)
                for piece in reply.pieces:
                    await self._event(writer, _chunk(piece))
                    if reply.pause_s:
                        await asyncio.sleep(reply.pause_s)
                await self._event(writer, _chunk("", reply.finish))
                usage = {
                    "prompt_tokens": reply.input_tokens,
                    "completion_tokens": reply.output_tokens,
                    "total_tokens": reply.input_tokens + reply.output_tokens,
                }
                await self._event(writer, {**_chunk(""), "choices": [], "usage": usage})
                await self._raw(writer, b"data: [DONE]\n\n")
                writer.write(b"0\r\n\r\n")
                await writer.drain()
                return True
            case Events():
                await self._head(writer, reply.content_type, reply.headers)
                for event in reply.events:
                    if isinstance(event, bytes):
                        await self._raw(writer, event)
                    else:
                        await self._event(writer, event)
                    await asyncio.sleep(reply.pause_s)
                if reply.hang:
                    await self._until_gone(reader)
                    return False
                writer.write(b"0\r\n\r\n")
                await writer.drain()
                return True
            case Broken():
                await self._head(writer)
                for piece in reply.pieces:
                    await self._event(writer, _chunk(piece))
                if reply.raw:
                    await self._raw(writer, reply.raw)
                if reply.hang:
                    await self._until_gone(reader)
                return False

    async def _until_gone(self, reader: asyncio.StreamReader) -> None:
        if not await reader.read(1):
            self.gone_s = time.monotonic()
            self.gone.set()

    async def _head(
        self,
        writer: asyncio.StreamWriter,
        content_type: str = "text/event-stream",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(
            f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{extra}"
            "transfer-encoding: chunked\r\n\r\n".encode()
        )
        await writer.drain()

    async def _event(self, writer: asyncio.StreamWriter, data: Mapping[str, Any]) -> None:
        await self._raw(writer, f"data: {json.dumps(data)}\n\n".encode())

    async def _raw(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()


def _chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
    }
