"""Tasks end, even one whose cancellation was lost."""

from __future__ import annotations

import asyncio

import pytest

from services import ending
from services.ending import ended


async def test_a_task_that_loses_a_cancellation_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "AGAIN_S", 0.05)
    lost = asyncio.Event()

    async def work() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost.is_set():
                    raise
                lost.set()

    async def fail() -> None:
        raise ValueError("what became of it is nobody's business")

    tasks = [asyncio.create_task(work()), asyncio.create_task(fail())]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await ended(tasks)
    assert all(task.done() for task in tasks)
    assert lost.is_set()
    await ended([])
