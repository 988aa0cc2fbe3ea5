"""A model behind an endpoint of the OpenAI protocol that says a word every so often."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


class Dripping:
    """Serves on a free port of this machine. `pause_s` lies between words; an answer has so many
    `words`."""

    def __init__(self, words: int, pause_s: float) -> None:
        self.words = words
        self.pause_s = pause_s
        self.left_s: asyncio.Queue[float] = asyncio.Queue()
        """When callers left before the end, by `time.perf_counter`."""
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """The URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/v1"

    async def stop(self) -> None:
        """Takes no more callers."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    await reader.readexactly(int(line.partition(b":")[2]))
            leaving = asyncio.create_task(reader.read(1))
            writer.write(HEAD)
            for number in range(self.words):
                _write(writer, {"delta": {"content": f"w{number} "}, "index": 0})
                await writer.drain()
                done, _ = await asyncio.wait([leaving], timeout=self.pause_s)
                if done:
                    self.left_s.put_nowait(time.perf_counter())
                    return
            leaving.cancel()
            _write(writer, {"delta": {}, "index": 0, "finish_reason": "stop"})
            writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left_s.put_nowait(time.perf_counter())
        finally:
            with contextlib.suppress(ConnectionError):
                writer.close()
                await writer.wait_closed()


def _write(writer: asyncio.StreamWriter, choice: dict[str, object]) -> None:
    body = {"id": "d", "object": "chat.completion.chunk", "created": 0, "model": "drip"}
    writer.write(_chunk(f"data: {json.dumps({**body, 'choices': [choice]})}\n\n".encode()))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
