"""The document service: takes files in, and runs this node's ingest workers."""

from __future__ import annotations

from services.documents.checks import CHECKS
from services.documents.servicer.documents import DocumentHandlers
from services.documents.servicer.jobs import JobHandlers
from services.documents.servicer.uploads import UploadHandlers

__all__ = ["DocumentServicer"]


class DocumentServicer(UploadHandlers, DocumentHandlers, JobHandlers):
    """Its handlers, and when they can be called."""

    checks = CHECKS

    async def start(self) -> None:
        """Starts the ingest workers, and the care for the files."""
        self._files.start()
        self._pipeline.start()

    async def drain(self) -> None:
        """Gives running jobs back, for other nodes."""
        await self._pipeline.stop()

    async def close(self) -> None:
        """Stops the workers if they run, and lets go of the object store."""
        await self._pipeline.stop()
        await self._files.close()
