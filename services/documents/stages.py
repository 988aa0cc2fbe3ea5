"""The stages of an ingestion: parse, chunk, embed, publish.

Each can be done again, and begins where it was left: sections of a text and passages are kept as
they are made, under a hash of all that they were made from. So a retry, the next version of a
document and another document with the same content redo nothing. A node holds one section of a
text at a time, and one request's vectors. Publishing is one transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from engine.documents.chunk import CONTEXT_TOKENS_MAX, Chunk
from engine.errors import DocumentUnreadable, StoreUnavailable
from engine.models.late import answer_parts
from services.documents.asking import cut, embed, require_room
from services.documents.files import Files
from services.documents.parser import Parser
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
from services.store.jobs import IngestJob
from services.store.passages import Embedded, PassageRow, PassageSet
from services.store.points import Commit
from services.store.store import Store, Tx
from services.store.texts import StoredText
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

    def __init__(self, store: Store, mesh: Mesh, files: Files) -> None:
        self._store = store
        self._mesh = mesh
        self._files = files

    async def ingest(self, job: IngestJob, parser: Parser, progress: Progress) -> Commit:
        """All stages that are not done. Raises what they raise, DocumentNotFound and
        CollectionNotFound where there is nothing to ingest any more, and FailedPrecondition where
        the job is not this worker's."""
        async with self._store.transaction(job.tenant) as tx:
            collection = await collections.get_collection(tx, job.collection_id)
            version = await versions.get_version(tx, job)
            text = await texts.begin_text(tx, job, text_key(version))
        if not text.complete:
            text = await self._parse(job, version, parser)
        async with self._store.transaction(job.tenant) as tx:
            begun = await passages.begin_passages(
                tx, job, passage_set_key(text.text_key, collection), collection.fingerprint
            )
        call = Call(job.tenant, f"ingest-{job.id}", lane="bulk")
        if not begun.complete:
            await require_room(self._mesh, collection, call)
        made = _Making(job, collection, text, begun, call, progress)
        while not made.begun.complete:
            await self._section(made)
        progress.stage = "publish"
        progress.done = progress.total = made.begun.passages

        async def publish(tx: Tx) -> Commit:
            return await documents.publish_document(tx, collection, job)

        return await self._store.run(job.tenant, publish)

    async def _parse(self, job: IngestJob, version: Version, parser: Parser) -> StoredText:
        text = StoredText(text_key=text_key(version), complete=True)
        reading = self._files.read(job.tenant, version.content_sha256)
        async with contextlib.aclosing(reading) as pieces:
            parsing = parser.parse(
                pieces, version.display_name, version.media_type, size_bytes=version.size_bytes
            )
            async with contextlib.aclosing(parsing) as sections:
                async for parsed in sections:
                    row = stored_section(parsed, text.sections, text.characters)
                    async with self._store.transaction(job.tenant) as tx:
                        await texts.put_section(tx, job, text.text_key, row)
                    text = replace(
                        text,
                        title=text.title or parsed.title,
                        media_type=parsed.media_type,
                        page_count=parsed.page_count,
                        sections=text.sections + 1,
                        characters=text.characters + len(parsed.text),
                    )
        if not text.sections:
            raise DocumentUnreadable("the parser found no text in the file; send one with content")
        async with self._store.transaction(job.tenant) as tx:
            await texts.complete_text(tx, job, text)
        return text

    async def _section(self, made: _Making) -> None:
        """Cuts and embeds the next section, and says that it is there."""
        job, begun, progress = made.job, made.begun, made.progress
        async with self._store.transaction(job.tenant) as tx:
            stored = await texts.get_section(tx, made.text.text_key, begun.sections)
        if stored is None:
            raise StoreUnavailable("a section of the text is not there any more; try again")
        parsed = read_section(stored)
        progress.stage = "chunk"
        chunks = await cut(self._mesh, made.collection, parsed, made.call)
        after = made.after(len(chunks))
        read = (stored.start + len(stored.text)) / max(1, made.text.characters)
        progress.stage, progress.done = "embed", begun.passages
        progress.total = after.passages if after.complete else round(after.passages / read)
        # With what comes before a passage, and some for the special tokens.
        tokens = [chunk.tokens + CONTEXT_TOKENS_MAX + SPECIAL_TOKENS_MAX for chunk in chunks]
        for part in answer_parts(tokens, made.collection.dimensions, EMBED_PASSAGES_MAX):
            rows = await self._rows(made, parsed.text, chunks[part], progress.done, stored.start)
            progress.done += len(rows)
            async with self._store.transaction(job.tenant) as tx:
                await passages.put_passages(tx, job, begun.passage_set_key, rows)
                if progress.done == after.passages:
                    await passages.end_section(tx, job, after)
        if not chunks:
            async with self._store.transaction(job.tenant) as tx:
                await passages.end_section(tx, job, after)
        made.begun = after

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
        return [
            PassageRow(
                passage_index=first_index + n,
                text=said[n],
                span=chunk.span.shifted(start),
                heading_path=chunk.heading_path,
                context=chunk.context,
                page=chunk.page,
                tokens=chunk.tokens,
                vector=found[keys[n]].vector,
                sentences=found[keys[n]].sentences,
                token_vectors=found[keys[n]].token_vectors,
                passage_key=keys[n],
            )
            for n, chunk in enumerate(chunks)
        ]


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
