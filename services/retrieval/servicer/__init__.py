"""The retrieval service: serves all collections of all tenants from indexes in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from google.protobuf.message import Message
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from services.retrieval.checks import CHECKS
from services.retrieval.reading import read_upsert
from services.retrieval.servicer.archives import ArchiveHandlers
from services.retrieval.servicer.collections import CollectionHandlers
from services.retrieval.servicer.migrations import MigrationHandlers
from services.retrieval.servicer.points import PointHandlers
from services.retrieval.servicer.searches import SearchHandlers
from services.retrieval.servicer.snapshots import SnapshotHandlers
from services.rpc.chain import Reader

__all__ = ["RetrievalServicer"]


class RetrievalServicer(
    CollectionHandlers,
    PointHandlers,
    SearchHandlers,
    SnapshotHandlers,
    ArchiveHandlers,
    MigrationHandlers,
):
    """Its handlers, and when they can be called."""

    checks = CHECKS
    readers: ClassVar[Mapping[type[Message], Reader]] = {pb.UpsertPointsRequest: read_upsert}

    async def start(self) -> None:
        """Starts to follow the log."""
        await self._index.start()
        await self._migrator.start()

    async def drain(self) -> None:
        """Indexes are followed until the end: calls in flight may wait for a watermark."""

    async def close(self) -> None:
        """Stops following."""
        await self._migrator.close()
        await self._index.close()
