"""The stages of an ingestion: parse, chunk, embed, publish.

Each can be done again, and begins where it was left: sections of a text and passages are kept as
they are made, under a hash of all that they were made from. So a retry, the next version of a
document and another document with the same content redo nothing. A node holds one section of a
text at a time, and one request's vectors. Publishing is one transaction. A short document's first
try does all at once (`at_once`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from engine.documents.parsed import Parsed
from engine.errors import DocumentUnreadable, StoreUnavailable
from services.documents.asking import cut, require_room
from services.documents.at_once import AtOnce
from services.documents.making import PassageRows, Progress, embed_parts, parsed_sections
from services.documents.originals import Originals
from services.documents.outcome import require_attempts
from services.documents.parser import Parsers
from services.documents.texts import (
    passage_set_key,
    read_section,
    stored_section,
    text_key,
)
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.store import collections, passages, publishing, texts, versions
from services.store.collections import Collection
from services.store.jobs import IngestJob, hold_job
from services.store.passages import PassageRow, PassageSet
from services.store.points import Commit
from services.store.publishing import LastPassages
from services.store.store import Store, Tx
from services.store.texts import StoredText, TextSection
from services.store.versions import Version


class Stages:
    """What workers do with a job that they hold."""

    def __init__(self, store: Store, mesh: Mesh, originals: Originals) -> None:
        self._store = store
        self._mesh = mesh
        self._originals = originals
        self._rows = PassageRows(store, mesh)
        self._at_once = AtOnce(store, mesh, originals)

    async def ingest(self, job: IngestJob, parsers: Parsers, progress: Progress) -> Commit:
        """All stages that are not done. Raises what they raise, DocumentNotFound and
        CollectionNotFound where there is nothing to ingest any more, and FailedPrecondition where
        the job is not this worker's."""
        require_attempts(job)
        if job.attempts == 1:
            commit = await self._at_once.ingest(job, parsers, progress)
            if commit is not None:
                return commit
        collection, text, begun, only = await self._begun(job, parsers)
        call = Call(job.tenant, f"ingest-{job.id}", lane="bulk")
        # Passages that another document has already take room in the index all the same.
        await require_room(self._mesh, collection, call)
        made = _Making(job, collection, text, begun, call, progress)
        last: LastPassages | None = None
        while not made.begun.complete:
            last = await self._section(made, only)
        progress.stage = "publish"
        progress.done = progress.total = made.begun.passages

        async def publish(tx: Tx) -> Commit:
            return await publishing.publish_document(tx, collection, job, last)

        return await self._store.run(job.tenant, publish)

    async def parse(self, job: IngestJob, parsers: Parsers) -> None:
        """The first stage alone, for who embeds elsewhere. Raises as `ingest`."""
        require_attempts(job)
        await self._begun(job, parsers)

    async def _begun(
        self, job: IngestJob, parsers: Parsers
    ) -> tuple[Collection, StoredText, PassageSet, Parsed | None]:
        """The text, parsed unless it is there, the passages so far, and the text's section where it
        has but one and is at hand."""
        async with self._holding(job) as tx:
            collection = await collections.get_collection(tx, job.collection_id)
            version = await versions.get_version(tx, job)
            text = await texts.begin_text(tx, job, text_key(version))
            if text.complete:
                return collection, text, await _begin_passages(tx, job, collection, text), None
        return (collection, *await self._parse(job, collection, version, parsers))

    @contextlib.asynccontextmanager
    async def _holding(self, job: IngestJob) -> AsyncIterator[Tx]:
        """A transaction that writes only while the job is this worker's."""
        async with self._store.transaction(job.tenant) as tx:
            await hold_job(tx, job)
            yield tx

    async def _parse(
        self, job: IngestJob, collection: Collection, version: Version, parsers: Parsers
    ) -> tuple[StoredText, PassageSet, Parsed | None]:
        """The text and the passages that are made of it now, and the text's section if it has but
        one. Each section is stored before the next one is taken."""
        text = StoredText(text_key=text_key(version), complete=True)
        only: Parsed | None = None
        row: TextSection | None = None
        async with contextlib.aclosing(
            parsed_sections(self._originals, version, parsers)
        ) as sections:
            async for parsed in sections:
                if row is not None:
                    async with self._holding(job) as tx:
                        await texts.put_section(tx, text.text_key, row)
                row = stored_section(parsed, text.sections, text.characters)
                only = parsed if row.section_index == 0 else None
                text = replace(
                    text,
                    title=text.title or parsed.title,
                    media_type=parsed.media_type,
                    page_count=parsed.page_count,
                    sections=text.sections + 1,
                    characters=text.characters + len(parsed.text),
                )
        if row is None:
            raise DocumentUnreadable("the parser found no text in the file; send one with content")
        async with self._holding(job) as tx:
            await texts.put_section(tx, text.text_key, row)
            await texts.complete_text(tx, text)
            begun = await _begin_passages(tx, job, collection, text)
        return text, begun, only

    async def _section(self, made: _Making, only: Parsed | None) -> LastPassages | None:
        """Cuts and embeds the next section, which is `only` where that is given. Its passages are
        stored, but for the last ones of the last section: those are what it returns, to be stored
        where the document is published."""
        job, begun, progress = made.job, made.begun, made.progress
        parsed, start = (only, 0) if only is not None else await self._read(made)
        progress.stage = "chunk"
        chunks = await cut(self._mesh, made.collection, parsed, made.call)
        after = made.after(len(chunks))
        read = (start + len(parsed.text)) / max(1, made.text.characters)
        progress.stage, progress.done = "embed", begun.passages
        progress.total = after.passages if after.complete else round(after.passages / read)
        rows: list[PassageRow] = []
        for part in embed_parts(chunks, made.collection):
            if rows:
                async with self._holding(job) as tx:
                    await passages.put_passages(tx, begun.passage_set_key, rows)
            rows = await self._rows.made(
                made.collection, parsed.text, chunks[part], made.call, progress.done, start
            )
            progress.done += len(rows)
        made.begun = after
        if after.complete:
            return LastPassages(rows, after)
        async with self._holding(job) as tx:
            await passages.put_passages(tx, begun.passage_set_key, rows)
            await passages.end_section(tx, after)
        return None

    async def _read(self, made: _Making) -> tuple[Parsed, int]:
        """The section that comes next, and where in the text it starts."""
        async with self._store.transaction(made.job.tenant) as tx:
            stored = await texts.get_section(tx, made.text.text_key, made.begun.sections)
        if stored is None:
            raise StoreUnavailable("a section of the text is not there any more; try again")
        return read_section(stored), stored.start


async def _begin_passages(
    tx: Tx, job: IngestJob, collection: Collection, text: StoredText
) -> PassageSet:
    key = passage_set_key(text.text_key, collection)
    return await passages.begin_passages(tx, job, key, collection.fingerprint)


@dataclass(slots=True)
class _Making:
    """The passages of one version in the making: `begun` is what of them is there."""

    job: IngestJob
    collection: Collection
    text: StoredText
    begun: PassageSet
    call: Call
    progress: Progress

    def after(self, passages_count: int) -> PassageSet:
        """What is there once the next section's passages are."""
        sections = self.begun.sections + 1
        return replace(
            self.begun,
            passages=self.begun.passages + passages_count,
            sections=sections,
            complete=sections == self.text.sections,
        )
