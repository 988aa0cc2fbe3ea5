"""The memory service: keeps sessions, and what is worth keeping of them."""

from __future__ import annotations

from services.memory.checks import CHECKS
from services.memory.servicer.contexts import ContextHandlers
from services.memory.servicer.memories import MemoryHandlers
from services.memory.servicer.sessions import SessionHandlers
from services.memory.servicer.subjects import SubjectHandlers

__all__ = ["MemoryServicer"]


class MemoryServicer(SessionHandlers, ContextHandlers, MemoryHandlers, SubjectHandlers):
    """Its handlers, and when they can be called."""

    checks = CHECKS

    async def start(self) -> None:
        """Nothing to get ready: siblings are found when they are asked."""

    async def drain(self) -> None:
        """Nothing runs in the background that callers do not wait for."""

    async def close(self) -> None:
        """Nothing to give back."""
