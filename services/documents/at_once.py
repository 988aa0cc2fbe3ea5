"""A short document's first try: parsed, cut and embedded, and written down in one transaction.

Half of what a short document takes beside its embedding is transactions, so it has but the one that
publishes it. Who is interrupted before has stored nothing, and the next try goes by stages, which
keep what they make.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from engine.documents.parsed import Parsed
from engine.errors import DocumentUnreadable
from services.documents.asking import cut, require_room
from services.documents.making import PassageRows, Progress, embed_parts, parsed_sections
from services.documents.originals import Originals
from services.documents.parser import Parsers
from services.documents.texts import passage_set_key, stored_section, text_key
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.store import collections, publishing, texts, versions
from services.store.collections import Collection
from services.store.jobs import IngestJob
from services.store.passages import PassageRow, PassageSet
from services.store.points import Commit
from services.store.publishing import Whole
from services.store.store import Store, Tx
from services.store.texts import StoredText
from services.store.versions import Version

FILE_BYTES_MAX = 32 << 10
"""Of a plain text, some 30 passages: about as much as a request to the embedding service has."""
TEXT_CHARS_MAX = 4 * FILE_BYTES_MAX
"""What a file that was packed may hold."""
ROOM_S = 0.5
"""For so long an index that took passages is believed to take more."""


@dataclass(frozen=True, slots=True)
class _Short:
    """What is ingested at once."""

    job: IngestJob
    collection: Collection
    version: Version
    call: Call


class AtOnce:
    """Ingests short documents of one node."""

    def __init__(self, store: Store, mesh: Mesh, originals: Originals) -> None:
        self._store = store
        self._mesh = mesh
        self._originals = originals
        self._rows = PassageRows(store, mesh)
        self._had_room: tuple[str, str, float] = ("", "", 0.0)

    async def ingest(self, job: IngestJob, parsers: Parsers, progress: Progress) -> Commit | None:
        """None where the document is not short, or its text is stored already: then nothing was
        written. Raises as `Stages.ingest`."""
        async with self._store.transaction(job.tenant) as tx:
            collection = await collections.get_collection(tx, job.collection_id)
            version = await versions.get_version(tx, job)
            if version.size_bytes > FILE_BYTES_MAX or await texts.is_begun(tx, text_key(version)):
                return None
        short = _Short(job, collection, version, Call(job.tenant, f"ingest-{job.id}", lane="bulk"))
        parsed = await self._parsed(version, parsers)
        if parsed is None:
            return None
        await self._require_room(short)
        progress.stage = "chunk"
        rows = await self._embedded(short, parsed, progress)
        progress.stage = "publish"
        progress.done = progress.total = len(rows)
        whole = _whole(short, parsed, rows)

        async def publish(tx: Tx) -> Commit:
            return await publishing.publish_whole(tx, collection, job, version, whole)

        return await self._store.run(job.tenant, publish)

    async def _parsed(self, version: Version, parsers: Parsers) -> Parsed | None:
        """The text; None where it is long."""
        only: Parsed | None = None
        sections = parsed_sections(self._originals, version, parsers)
        async with contextlib.aclosing(sections):
            async for parsed in sections:
                if only is not None or len(parsed.text) > TEXT_CHARS_MAX:
                    return None
                only = parsed
        if only is None:
            raise DocumentUnreadable("the parser found no text in the file; send one with content")
        return only

    async def _require_room(self, short: _Short) -> None:
        """Raises as `asking.require_room`, which is asked now and then."""
        now_s, key = time.monotonic(), (short.job.tenant, short.collection.id)
        if self._had_room[:2] != key or now_s > self._had_room[2] + ROOM_S:
            await require_room(self._mesh, short.collection, short.call)
            self._had_room = (*key, now_s)

    async def _embedded(
        self, short: _Short, parsed: Parsed, progress: Progress
    ) -> list[PassageRow]:
        chunks = await cut(self._mesh, short.collection, parsed, short.call)
        progress.stage, progress.total = "embed", len(chunks)
        rows: list[PassageRow] = []
        for part in embed_parts(chunks, short.collection):
            rows += await self._rows.made(
                short.collection, parsed.text, chunks[part], short.call, len(rows)
            )
            progress.done = len(rows)
        return rows


def _whole(short: _Short, parsed: Parsed, rows: list[PassageRow]) -> Whole:
    text = StoredText(
        text_key=text_key(short.version),
        title=parsed.title,
        media_type=parsed.media_type,
        page_count=parsed.page_count,
        characters=len(parsed.text),
        sections=1,
        complete=True,
    )
    passages = PassageSet(
        passage_set_key(text.text_key, short.collection),
        short.collection.fingerprint,
        passages=len(rows),
        sections=1,
        complete=True,
    )
    return Whole(text, stored_section(parsed, 0, 0), passages, rows)
