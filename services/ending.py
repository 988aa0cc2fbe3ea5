"""Tasks that are to end, and do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_S = 5.0
"""After which a task that goes on is cancelled once more: longer than it takes to tidy up."""


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels tasks and waits until they are over, whatever became of them.

    Again and again: a library below may lose a cancellation, as `asyncio.wait_for` does before
    Python 3.12 where what it waits for comes in the same moment, and a task that loops would go on.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
