"""What a node keeps of snapshots that come and go as files: nothing, and few at once."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from engine.errors import DataLoss, IndexUnavailable, QueueFull
from services.retrieval.index.archives import AT_ONCE_MAX
from services.retrieval.index.opening import IndexRoom
from tests.behaviour.snapshot_files import snapshot_file
from tests.services.retrieval.nodes import ROOMS


@pytest.fixture
async def room(rooms: ROOMS) -> IndexRoom:
    one = rooms("one")
    await one.start()
    return one


def left(room: IndexRoom) -> list[Path]:
    return list(room.archives.root.glob("snapshot-*"))


async def test_nothing_is_left_of_what_came(room: IndexRoom) -> None:
    data = snapshot_file(20)
    async with room.archives.taken() as taken:
        await taken.take(data)
        taken.unpacker.finish()
        assert left(room)
    assert left(room) == []
    with pytest.raises(DataLoss):
        async with room.archives.taken() as taken:
            await taken.take(data[: len(data) // 2])
            taken.unpacker.finish()
    assert left(room) == []


async def test_nothing_is_left_where_a_caller_goes_while_the_node_is_busy(
    room: IndexRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a deadline a call is cancelled by the chain and by the transport, one after the other."""
    busy, taking = threading.Event(), threading.Event()

    async def come() -> None:
        async with room.archives.taken() as taken:
            feed = taken.unpacker.feed

            def slowly(data: bytes) -> None:
                taking.set()
                busy.wait(10)
                feed(data)

            monkeypatch.setattr(taken.unpacker, "feed", slowly)
            await taken.take(snapshot_file(20))

    task = asyncio.create_task(come())
    await asyncio.to_thread(taking.wait, 10)
    loop = asyncio.get_running_loop()
    others = [loop.run_in_executor(room.archives._threads, busy.wait, 10) for _ in range(8)]
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.05)
    busy.set()
    await asyncio.wait([task])
    await asyncio.gather(*others)
    give_up_s = time.monotonic() + 10
    while left(room):
        assert time.monotonic() < give_up_s, left(room)
        await asyncio.sleep(0.02)


async def test_more_than_a_few_at_once_are_told_to_come_back(room: IndexRoom) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(AT_ONCE_MAX):
            await stack.enter_async_context(room.archives.taken())
        with pytest.raises(QueueFull) as caught:
            await stack.enter_async_context(room.archives.taken())
        assert caught.value.retry_after_s
    async with room.archives.taken():
        pass


async def test_a_full_disk_is_said_and_leaves_nothing(
    room: IndexRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    with pytest.raises(IndexUnavailable) as caught:
        async with room.archives.taken() as taken:
            monkeypatch.setattr(taken.unpacker, "feed", full)
            await taken.take(b"RAGMESHS")
    assert "No space left" in caught.value.message
    assert left(room) == []
