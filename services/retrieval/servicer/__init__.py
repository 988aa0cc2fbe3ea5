"""The retrieval service: serves all collections of all tenants from indexes in this process."""

from __future__ import annotations

from services.retrieval.checks import CHECKS
from services.retrieval.servicer.collections import CollectionHandlers
from services.retrieval.servicer.points import PointHandlers
from services.retrieval.servicer.searches import SearchHandlers
from services.retrieval.servicer.snapshots import SnapshotHandlers

__all__ = ["RetrievalServicer"]


class RetrievalServicer(CollectionHandlers, PointHandlers, SearchHandlers, SnapshotHandlers):
    """Its handlers, and when they can be called."""

    checks = CHECKS

    async def start(self) -> None:
        """Starts to follow the log."""
        await self._index.start()

    async def drain(self) -> None:
        """Indexes are followed until the end: calls in flight may wait for a watermark."""

    async def close(self) -> None:
        """Stops following."""
        await self._index.close()
