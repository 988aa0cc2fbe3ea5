"""A file that is made to harm ends as a known failure, or as what can be read of it: in 10 s, with
300 MB above what an idle parser takes, and without a trace of other files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from engine.errors import DocumentUnreadable, UnsupportedMediaType
from services.config import DocumentSettings
from services.documents.parser import Parser
from tests.faults.hostile_files import HOSTILE
from tests.faults.parsing import text_by

SECONDS_MAX = 10.0
BYTES_ABOVE_IDLE_MAX = 300 << 20
READ = {
    *("line.txt", "deep.html", "deep.md", "deep.rst", "deep.rtf", "quotes.csv", "cells.csv"),
    *("stars.org", "stars.rst", "flate.pdf"),
}
"""Odd, and yet all of their text is there."""

HOST = Path("/etc/hostname").read_text().strip()


@pytest_asyncio.fixture(scope="module")
async def parser() -> AsyncIterator[Parser]:
    """One for all files: what one of them left behind counts against the next."""
    made = Parser(DocumentSettings())
    await text_by(made, b"Words to begin with.", "a.txt")
    yield made
    await made.close()


@pytest.fixture(scope="module")
def idle_bytes(parser: Parser) -> int:
    """What a parser holds that has read one short text."""
    return int(_own_parser().memory_info().rss)


def _own_parser() -> psutil.Process:
    return max(
        (
            child
            for child in psutil.Process(os.getpid()).children()
            if "services.documents.parse_worker" in child.cmdline()
        ),
        key=lambda child: child.create_time(),
    )


async def _peak_bytes(process: psutil.Process, done: asyncio.Event) -> int:
    """The most that the process held, looked up every 10 ms."""
    peak = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        while not done.is_set():
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.01)
    return peak


@pytest.mark.parametrize("name", sorted(HOSTILE))
async def test_a_hostile_file_harms_nobody(parser: Parser, idle_bytes: int, name: str) -> None:
    done = asyncio.Event()
    watching = asyncio.create_task(_peak_bytes(_own_parser(), done))
    began_s = time.monotonic()
    text = await _text_of(parser, HOSTILE[name](), name)
    took_s = time.monotonic() - began_s
    done.set()
    assert bool(text) == (name in READ)
    assert took_s < SECONDS_MAX
    assert await watching - idle_bytes < BYTES_ABOVE_IDLE_MAX
    assert HOST not in text
    assert not _slipped()
    assert await text_by(parser, b"Words after it.", "b.txt") == "Words after it."


async def _text_of(parser: Parser, data: bytes, name: str) -> str:
    """The text of a file, empty for one that is refused as files may be."""
    try:
        return await text_by(parser, data, name)
    except (DocumentUnreadable, UnsupportedMediaType):
        return ""


def _slipped() -> bool:
    return Path("/tmp/slipped").exists()


def _network(process: int | str) -> Path:
    return Path(f"/proc/{process}/ns/net").readlink()


async def test_a_parser_has_no_network_where_the_system_lets_it_go(parser: Parser) -> None:
    probe = await asyncio.create_subprocess_exec(
        "unshare", "--user", "--net", "true", stderr=asyncio.subprocess.DEVNULL
    )
    allowed = await probe.wait() == 0 or os.geteuid() == 0
    assert _network(_own_parser().pid) != _network("self") or not allowed
