"""Stored files as parsers get them: scanned for malware where that is asked for, and saved anew
where only another program reads them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from engine.documents.detect import COMPOUND_MAGIC, compound_kind, compound_streams
from services.config import DocumentSettings
from services.documents.clamd import Clamd
from services.documents.files import Files
from services.documents.office import Office

_NAME_BYTES_MAX = 128
"""More than the name of any stream takes: so much of a piece is looked at again with the next."""


@dataclass(frozen=True, slots=True)
class Original:
    """A file to parse. `media_type` is what it was before it was converted, empty if it was not:
    then the parser decides."""

    pieces: AsyncIterator[bytes]
    size_bytes: int
    media_type: str = ""


class Originals:
    """The files of one node's documents."""

    def __init__(self, settings: DocumentSettings, files: Files) -> None:
        self._files = files
        self._office = Office(settings)
        self._clamd = Clamd(settings.clamd) if settings.clamd else None

    @contextlib.asynccontextmanager
    async def opened(
        self, tenant: str, content_sha256: bytes, size_bytes: int
    ) -> AsyncGenerator[Original, None]:
        """A file, which is read while this is open.

        Raises what reading, `Clamd.scan` and `Office.convert` raise, some of it while pieces are
        taken.
        """
        if self._clamd is not None:
            async with contextlib.aclosing(self._files.read(tenant, content_sha256)) as pieces:
                await self._clamd.scan(pieces)
        reading = self._files.read(tenant, content_sha256)
        async with contextlib.aclosing(reading) as pieces:
            first = await anext(pieces, b"")
            if not first.startswith(COMPOUND_MAGIC):
                yield Original(_chained(first, pieces), size_bytes)
                return
            kind = await _compound_kind(first, pieces)
        reading = self._files.read(tenant, content_sha256)
        async with contextlib.aclosing(reading) as pieces:
            if not self._office.converts(kind):
                yield Original(pieces, size_bytes)
                return
            converted = await self._office.convert(kind, pieces, size_bytes)
        yield Original(_chained(converted), len(converted), kind)


async def _compound_kind(first: bytes, pieces: AsyncIterator[bytes]) -> str:
    """What a compound file is; that stands anywhere in it."""
    found = compound_streams(first)
    before = first[-_NAME_BYTES_MAX:]
    async for piece in pieces:
        found |= compound_streams(before + piece)
        before = (before + piece)[-_NAME_BYTES_MAX:]
    return compound_kind(found)


async def _chained(
    first: bytes, pieces: AsyncIterator[bytes] | None = None
) -> AsyncIterator[bytes]:
    yield first
    if pieces is not None:
        async for piece in pieces:
            yield piece
