"""A real S3 server in a process of its own, and a way to it that can be cut."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.free_ports import free_port

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
UNCHECKED = 10**9


class BucketServer:
    """moto's server, which keeps objects in memory and believes every key until told otherwise."""

    def __init__(self, log: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        port = self.url.rpartition(":")[2]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port],
                env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(UNCHECKED)},
                stdout=file,
                stderr=file,
            )
        give_up_s = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{self.url}/moto-api/", timeout=2)
                return
            except httpx.TransportError:
                assert time.monotonic() < give_up_s and self._process.poll() is None
                time.sleep(0.05)

    def make_bucket(self, name: str) -> None:
        httpx.put(f"{self.url}/{name}").raise_for_status()

    def check_keys(self, checked: bool) -> None:
        """Whether keys that nobody was given are refused: all of them."""
        count = "0" if checked else str(UNCHECKED)
        httpx.post(f"{self.url}/moto-api/reset-auth", content=count).raise_for_status()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Way:
    """A TCP proxy to the server: open, shut, or open and silent."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self._own_port = free_port()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.silent = False
        self.cut_after_bytes = 0
        """Cuts a connection once so much has gone to the server; 0 never does."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._own_port}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._own_port)

    async def shut(self) -> None:
        """Refuses connections, and cuts those there are."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        self._open |= {writer, back}
        tasks = [
            asyncio.create_task(self._pump(reader, back, self.cut_after_bytes)),
            asyncio.create_task(self._pump(there, writer, 0)),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in (writer, back):
            self._open.discard(one)
            one.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, cut_after_bytes: int
    ) -> None:
        passed = 0
        while data := await source.read(65_536):
            while self.silent:
                await asyncio.sleep(0.02)
            passed += len(data)
            if cut_after_bytes and passed > cut_after_bytes:
                return
            target.write(data)
            await target.drain()
