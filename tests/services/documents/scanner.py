"""A daemon that speaks clamd's INSTREAM and finds one word."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

MALWARE = b"this is malware"
FOUND = "Test.Word"


@dataclass
class Scanner:
    """`seen` are whole files that it was shown; `says` replaces its verdict, and at `takes_max`
    bytes it stops to listen, as clamd does."""

    address: str = ""
    seen: list[bytes] = field(default_factory=list)
    says: str = ""
    takes_max: int = 1 << 30

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question, and no more of it than is needed."""
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            asked = await reader.readuntil(b"\0")
            if asked == b"zPING\0":
                writer.write(b"PONG\0")
                await writer.drain()
                return
            assert asked == b"zINSTREAM\0"
            file = b""
            while size := struct.unpack(">I", await reader.readexactly(4))[0]:
                file += await reader.readexactly(size)
                if len(file) > self.takes_max:
                    writer.write(b"INSTREAM size limit exceeded. ERROR\0")
                    await writer.drain()
                    break
            else:
                self.seen.append(file)
                verdict = f"{FOUND} FOUND" if MALWARE in file else "OK"
                writer.write(f"stream: {self.says or verdict}\0".encode())
                await writer.drain()


@contextlib.asynccontextmanager
async def scanner(path: str = "") -> AsyncIterator[Scanner]:
    """One that listens at a path, or else at a port."""
    made = Scanner()
    if path:
        server = await asyncio.start_unix_server(made.answer, path)
        made.address = path
    else:
        server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
        made.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made
