"""The stages of an ingestion: parse, chunk, embed, publish.

Each can be done again, and begins where it was left: sections of a text and passages are kept as
they are made, under a hash of all that they were made from. So a retry, the next version of a
document and another document with the same content redo nothing. A node holds one section of a
text at a time, and one request's vectors. Publishing is one transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from engine.documents.chunk import CONTEXT_TOKENS_MAX, Chunk
from engine.documents.parsed import Parsed
from engine.errors import DocumentUnreadable, StoreUnavailable
from engine.models.late import answer_parts
from services.documents.asking import cut, embed, require_room
from services.documents.originals import Originals
from services.documents.outcome import require_attempts
from services.documents.parser import Parsers
from services.documents.texts import (
    passage_key,
    passage_set_key,
    read_section,
    stored_section,
    text_key,
)
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.store import collections, documents, passages, texts, versions
from services.store.collections import Collection
from services.store.documents import LastPassages
from services.store.jobs import IngestJob, hold_job
from services.store.passages import Embedded, PassageRow, PassageSet
from services.store.points import Commit
from services.store.store import Store, Tx
from services.store.texts import StoredText, TextSection
from services.store.versions import Version

EMBED_PASSAGES_MAX = 32
"""Passages sent to the embedding service at once: what a retry may have to do again."""
SPECIAL_TOKENS_MAX = 8


@dataclass(slots=True)
class Progress:
    """How far a job is; its heartbeat writes this to the row. `total` is an estimate until the
    last section is cut."""

    stage: Literal["parse", "chunk", "embed", "publish"] = "parse"
    done: int = 0
    total: int = 0


class Stages:
    """What workers do with a job that they hold."""

    def __init__(self, store: Store, mesh: Mesh, originals: Originals) -> None:
        self._store = store
        self._mesh = mesh
        self._originals = originals

    async def ingest(self, job: IngestJob, parsers: Parsers, progress: Progress) -> Commit:
        """All stages that are not done. Raises what they raise, DocumentNotFound and
        CollectionNotFound where there is nothing to ingest any more, and FailedPrecondition where
        the job is not this worker's."""
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
            return await documents.publish_document(tx, collection, job, last)

        return await self._store.run(job.tenant, publish)

    async def parse(self, job: IngestJob, parsers: Parsers) -> None:
        """The first stage alone, for who embeds elsewhere. Raises as `ingest`."""
        await self._begun(job, parsers)

    async def _begun(
        self, job: IngestJob, parsers: Parsers
    ) -> tuple[Collection, StoredText, PassageSet, Parsed | None]:
        """The text, parsed unless it is there, the passages so far, and the text's section where it
        has but one and is at hand."""
        require_attempts(job)
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
        async with contextlib.aclosing(self._parsed(version, parsers)) as sections:
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

    async def _parsed(self, version: Version, parsers: Parsers) -> AsyncGenerator[Parsed, None]:
        opening = self._originals.opened(version.tenant, version.content_sha256, version.size_bytes)
        async with opening as original, parsers.free() as parser:
            parsing = parser.parse(
                original.pieces,
                version.display_name,
                version.media_type,
                size_bytes=original.size_bytes,
            )
            async with contextlib.aclosing(parsing) as sections:
                async for parsed in sections:
                    yield replace(parsed, media_type=original.media_type or parsed.media_type)

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
        # With what comes before a passage, and some for the special tokens.
        tokens = [chunk.tokens + CONTEXT_TOKENS_MAX + SPECIAL_TOKENS_MAX for chunk in chunks]
        rows: list[PassageRow] = []
        for part in answer_parts(tokens, made.collection.dimensions, EMBED_PASSAGES_MAX):
            if rows:
                async with self._holding(job) as tx:
                    await passages.put_passages(tx, begun.passage_set_key, rows)
            rows = await self._rows(made, parsed.text, chunks[part], progress.done, start)
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

    async def _rows(
        self, made: _Making, text: str, chunks: Sequence[Chunk], first_index: int, start: int
    ) -> list[PassageRow]:
        """Passages with what the model makes of them, or made of equal ones before."""
        collection = made.collection
        said = [text[chunk.span.start : chunk.span.end] for chunk in chunks]
        keys = [
            passage_key(collection, each, chunk.context)
            for each, chunk in zip(said, chunks, strict=True)
        ]
        async with self._store.transaction(made.job.tenant) as tx:
            found: dict[bytes, Embedded] = await passages.find_embedded(tx, keys)
        missing = {key: n for n, key in enumerate(keys) if key not in found}
        if missing:
            fresh = await embed(
                self._mesh,
                collection,
                [(said[n], chunks[n].context) for n in missing.values()],
                made.call,
            )
            found |= dict(zip(missing, fresh, strict=True))
        placed = [chunk.shifted(start) for chunk in chunks]
        return [
            PassageRow(
                passage_index=first_index + n,
                text=said[n],
                span=chunk.span,
                heading_path=chunk.heading_path,
                context=chunk.context,
                page=chunk.page,
                places=chunk.places,
                parent=chunk.parent,
                parent_text=chunk.parent_text,
                tokens=chunk.tokens,
                vector=found[keys[n]].vector,
                sentences=found[keys[n]].sentences,
                token_vectors=found[keys[n]].token_vectors,
                passage_key=keys[n],
            )
            for n, chunk in enumerate(placed)
        ]


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
