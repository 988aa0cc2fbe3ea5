"""Files shown to a ClamAV daemon before anything else reads them.

It speaks clamd's INSTREAM (clamd(8)): the file in pieces, each after its length, and one line back.
A file that could not be scanned is not passed: the job is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, Final

from engine.errors import DocumentUnreadable, ServiceUnavailable

CONNECT_S: Final = 5.0
STALL_S: Final = 60.0
"""How long clamd may take no bytes, or think about a whole file."""

_PIECE_BYTES = 1 << 18
_ANSWER_BYTES_MAX = 4_096


def clamd_answers(address: str) -> bool:
    """Whether a clamd is there and well. Waits for CONNECT_S at the most for each of its steps."""
    kind, place = _place(address)
    try:
        with socket.socket(kind, socket.SOCK_STREAM) as connection:
            connection.settimeout(CONNECT_S)
            connection.connect(place)
            connection.sendall(b"zPING\0")
            return connection.recv(_ANSWER_BYTES_MAX).startswith(b"PONG")
    except OSError:
        return False


def _place(address: str) -> tuple[socket.AddressFamily, Any]:
    if address.startswith("/"):
        return socket.AF_UNIX, address
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, int(port))


class Clamd:
    """A daemon at `address`: `HOST:PORT`, or `/path` of a socket."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def scan(self, pieces: AsyncIterator[bytes]) -> None:
        """Return if clamd finds nothing in the file.

        Raises DocumentUnreadable with the name of what it found, or if the file is larger than it
        scans; ServiceUnavailable where it gave no verdict; and what `pieces` raises.
        """
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await self._connected()
        except (OSError, TimeoutError) as error:
            raise self._unreached(type(error).__name__) from error
        with connection:
            try:
                # It hangs up where a file is larger than it takes, and what it said is still there.
                with contextlib.suppress(ConnectionError):
                    await _show(connection, pieces)
                answer = await _answer(connection)
            except (OSError, TimeoutError) as error:
                raise self._unreached(type(error).__name__) from error
        self._judge(answer)

    async def _connected(self) -> socket.socket:
        kind, place = _place(self._address)
        connection = socket.socket(kind, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, place)
        except BaseException:
            connection.close()
            raise
        return connection

    def _judge(self, answer: str) -> None:
        said = answer.removeprefix("stream: ")
        if said == "OK":
            return
        if said.endswith(" FOUND"):
            found = said.removesuffix(" FOUND")[:200]
            raise DocumentUnreadable(
                f"the file holds malware, clamd says: {found}. It was not parsed; remove it where "
                "it came from",
                metadata={"reason": "infected", "found": found},
            )
        if "size limit exceeded" in said:
            raise DocumentUnreadable(
                "the file is larger than clamd scans, and was not parsed; raise StreamMaxLength in "
                "clamd's configuration, or split the file",
                metadata={"reason": "not_scanned"},
            )
        raise self._unreached(f"it answered {said[:200]!r}")

    def _unreached(self, why: str) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"clamd at {self._address} gave no verdict ({why}), and no file is parsed without one. "
            "Start it, or correct RAGMESH_DOCUMENTS__CLAMD.",
            metadata={"clamd": self._address},
        )


async def _show(connection: socket.socket, pieces: AsyncIterator[bytes]) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, b"zINSTREAM\0")
    async for piece in pieces:
        for start in range(0, len(piece), _PIECE_BYTES):
            part = piece[start : start + _PIECE_BYTES]
            async with asyncio.timeout(STALL_S):
                await loop.sock_sendall(connection, struct.pack(">I", len(part)) + part)
    await loop.sock_sendall(connection, struct.pack(">I", 0))


async def _answer(connection: socket.socket) -> str:
    loop = asyncio.get_running_loop()
    answer = b""
    async with asyncio.timeout(STALL_S):
        while b"\0" not in answer and len(answer) < _ANSWER_BYTES_MAX:
            more = await loop.sock_recv(connection, _ANSWER_BYTES_MAX)
            if not more:
                break
            answer += more
    return answer.partition(b"\0")[0].decode("utf-8", errors="replace").strip()
