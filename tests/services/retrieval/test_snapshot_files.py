"""What a node keeps of snapshots that come and go as files: nothing, and few at once."""

from __future__ import annotations

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
