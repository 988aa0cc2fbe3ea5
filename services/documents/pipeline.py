"""From stored bytes to searchable passages: parse, chunk, embed, publish.

Jobs are rows; workers on any node take them by a lease and extend it while they work. Each stage
can be done again: texts and passages are found by a hash of all that they were made from, so a
retry, and a second document with the same content, redo nothing. Publishing is one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from engine.documents.chunk import CONTEXT_TOKENS_MAX, Chunk, chunking
from engine.documents.embedding import embedding_text, passage_sentences
from engine.documents.parsed import Parsed
from engine.errors import (
    CollectionNotFound,
    DeadlineExceeded,
    DocumentNotFound,
    DocumentUnreadable,
    Exhausted,
    FailedPrecondition,
    FingerprintMismatch,
    IndexMemoryFull,
    InvalidArgument,
    LimitReached,
    NoEmbeddingModel,
    QueueFull,
    RagmeshError,
    Unavailable,
)
from engine.models.late import answer_parts
from services.config import DocumentSettings
from services.documents.convert import error_value
from services.documents.files import Files
from services.documents.parser import Parser
from services.documents.texts import passage_set_key, read_parsed, stored_text, text_key
from services.ending import ended
from services.mesh.mesh import Mesh
from services.rpc import metrics, names
from services.rpc.call import Call
from services.rpc.values import sentences_value, token_vectors_value, vector_value
from services.store import collections, documents, jobs, passages
from services.store.collections import Collection
from services.store.documents import Document
from services.store.jobs import IngestJob, JobStage
from services.store.passages import PassageRow, PassageSet, StoredText
from services.store.points import Commit
from services.store.store import Store, Tx

_LOG = logging.getLogger(__name__)

LEASE_S = 10.0
BEAT_S = 1.0
"""How soon a worker finds that its job was cancelled, or is another worker's."""
POLL_S = 0.5
"""How often an idle worker looks for jobs that other nodes queued, or whose lease ran out."""
SPECIAL_TOKENS_MAX = 8
EMBED_PASSAGES_MAX = 32
"""Passages sent to the embedding service at once: what a retry may have to do again."""
COUNT_TEXTS_MAX = 2_048
ATTEMPTS_MAX = 12
"""Starts of a job before it fails for good; with pauses that double to a minute, that rides out
some eight minutes without an embedding service or PostgreSQL."""

# Wrong for good: another try would end the same way.
_FINAL = (
    InvalidArgument,
    DocumentUnreadable,
    FingerprintMismatch,
    NoEmbeddingModel,
)
_REFUSALS = {
    "LIMIT_REACHED": LimitReached,
    "INDEX_MEMORY_FULL": IndexMemoryFull,
    "QUEUE_FULL": QueueFull,
}
# The document or its collection is gone, or the job is another worker's.
_LOST = (DocumentNotFound, CollectionNotFound, FailedPrecondition)


@dataclass(slots=True)
class Progress:
    """How far a job is; its heartbeat writes this to the row."""

    stage: JobStage = "parse"
    done: int = 0
    total: int = 0


class Pipeline:
    """The ingest workers of one node."""

    def __init__(
        self, settings: DocumentSettings, store: Store, mesh: Mesh, owner: str, files: Files
    ) -> None:
        self._files = files
        self._settings = settings
        self._store = store
        self._mesh = mesh
        self._owner = owner
        self._nudged = asyncio.Event()
        self._watched: dict[str, asyncio.Event] = {}
        self._parsers = [Parser(settings) for _ in range(settings.workers)]
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts the workers."""
        self._workers = [
            asyncio.create_task(self._work(parser), name="ingest") for parser in self._parsers
        ]

    def nudge(self) -> None:
        """Says that a job was queued."""
        self._nudged.set()

    async def moved(self, job_id: str, timeout_s: float) -> None:
        """Waits until a job of this node has moved, or `timeout_s`: jobs of other nodes move
        unseen, so look again then."""
        event = self._watched.setdefault(job_id, asyncio.Event())
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return
        finally:
            if self._watched.get(job_id) is event:
                del self._watched[job_id]

    def _tell(self, job_id: str) -> None:
        event = self._watched.pop(job_id, None)
        if event is not None:
            event.set()

    async def stop(self) -> None:
        """Stops the workers; what they had is queued again for other nodes."""
        await ended(self._workers)
        self._workers = []
        for parser in self._parsers:
            await parser.close()

    async def _work(self, parser: Parser) -> None:
        while True:
            try:
                async with self._store.system() as tx:
                    claimed = await jobs.claim_jobs(tx, self._owner, lease_s=LEASE_S, limit=1)
            except RagmeshError as error:
                _LOG.warning("no jobs can be taken now: %s", error.message)
                claimed = []
            except Exception:
                # Whatever it was, without this task the node would never take a job again.
                _LOG.exception("no jobs can be taken now")
                claimed = []
                await asyncio.sleep(LEASE_S / 4)
            if claimed:
                await self._run(claimed[0], parser)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._nudged.wait()
            self._nudged.clear()

    async def _run(self, job: IngestJob, parser: Parser) -> None:
        """Works on one job with a heartbeat beside it; whatever happens, the job's row says it."""
        metrics.INGEST_RUNNING.inc()
        progress = Progress()
        work = asyncio.create_task(self._ingest(job, parser, progress))
        beat = asyncio.create_task(self._beat(job, progress, work))
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait([work])
            await self._give_back(job, delay_s=0.0)
            raise
        finally:
            beat.cancel()
            metrics.INGEST_RUNNING.dec()
        error = None if work.cancelled() else work.exception()
        if work.cancelled() or isinstance(error, _LOST):
            _LOG.info("job was cancelled or taken over", extra={"job": job.id})
            # Or another index took over just now: where the collection is gone, so is the job.
            if isinstance(error, CollectionNotFound):
                await self._give_back(job, delay_s=0.0)
        elif error is None:
            metrics.INGEST_JOBS.labels("succeeded").inc()
        else:
            await self._failed(job, error)
        self._tell(job.id)

    async def _beat(self, job: IngestJob, progress: Progress, work: asyncio.Task[Commit]) -> None:
        """Extends the lease; ends the work if the job is not ours any more."""
        seen: tuple[object, ...] = ("parse", 0, 0)  # what a job that was just taken says anyway
        quiet_s = 0.0
        while True:
            now = (progress.stage, progress.done, progress.total)
            if now != seen or quiet_s >= BEAT_S:
                seen, quiet_s = now, 0.0
                try:
                    async with self._store.transaction(job.tenant) as tx:
                        ours = await jobs.advance_job(
                            tx,
                            job,
                            progress.stage,
                            done=progress.done,
                            total=progress.total,
                            lease_s=LEASE_S,
                        )
                except RagmeshError:
                    ours = True  # PostgreSQL is away: the lease decides when it is back
                if not ours and not work.done():
                    work.cancel()
                    return
                self._tell(job.id)
            await asyncio.sleep(0.25)
            quiet_s += 0.25

    async def _failed(self, job: IngestJob, error: BaseException) -> None:
        final = isinstance(error, _FINAL) and not isinstance(error, Exhausted)
        if not isinstance(error, RagmeshError):
            _LOG.error("ingest job failed", exc_info=error, extra={"job": job.id})
        if not final and job.attempts < ATTEMPTS_MAX:
            await self._give_back(job, delay_s=min(60.0, 0.5 * 2**job.attempts))
            return

        async def end(tx: Tx) -> None:
            if await jobs.fail_job(tx, job, error_value(error)):
                collection = await collections.get_collection(tx, job.collection_id)
                await documents.fail_document(tx, collection, job.document_id)

        with contextlib.suppress(RagmeshError):
            await self._store.run(job.tenant, end)
        metrics.INGEST_JOBS.labels("failed").inc()

    async def _give_back(self, job: IngestJob, *, delay_s: float) -> None:
        # If this fails too, the lease runs out and another worker takes the job.
        with contextlib.suppress(RagmeshError):
            async with self._store.transaction(job.tenant) as tx:
                await jobs.requeue_job(tx, job, delay_s=delay_s)

    async def _ingest(self, job: IngestJob, parser: Parser, progress: Progress) -> Commit:
        if job.attempts > ATTEMPTS_MAX:
            raise DocumentUnreadable(
                f"The node ended {ATTEMPTS_MAX} times while it worked on this document.",
                metadata={"attempts": ATTEMPTS_MAX},
            )
        async with self._store.transaction(job.tenant) as tx:
            collection = await collections.get_collection(tx, job.collection_id)
            document = await documents.get_document(tx, collection, job.document_id)
        call = Call(job.tenant, f"ingest-{job.id}", lane="bulk")
        text, parsed = await self._parsed(document, parser)
        await self._require_room(collection, call)
        progress.stage = "chunk"
        key = passage_set_key(text.text_key, collection)
        async with self._store.transaction(job.tenant) as tx:
            shared = await passages.get_passage_set(tx, key)
        rows: list[PassageRow] | None = None
        if shared is None:
            chunks = await self._chunks(collection, parsed, call)
            progress.stage, progress.total = "embed", len(chunks)
            rows = await self._embedded(collection, parsed.text, chunks, call, progress)
            shared = PassageSet(key, collection.fingerprint, len(rows))
        progress.stage, progress.done, progress.total = "publish", shared.passages, shared.passages
        made = shared

        async def publish(tx: Tx) -> Commit:
            return await documents.publish_document(tx, collection, job, text, made, rows)

        return await self._store.run(job.tenant, publish)

    async def _require_room(self, collection: Collection, call: Call) -> None:
        """Raises Exhausted where the index has no room for passages, before they are embedded."""
        name = names.collection_name(collection.id)
        try:
            stats = await self._mesh.retrieval.GetCollectionStats(
                retrieval.GetCollectionStatsRequest(name=name), call
            )
        except (Unavailable, DeadlineExceeded):
            return  # no index, no want of room: it is made from the log when it is back
        if reason := stats.refusal_reason:
            raise _REFUSALS.get(reason, Exhausted)(
                f"The index of {name} takes no more points now ({reason}). Delete some, or raise "
                "its limits or the node's memory.",
                metadata={"collection": collection.id},
            )

    async def _parsed(self, document: Document, parser: Parser) -> tuple[StoredText, Parsed]:
        key = text_key(document)
        async with self._store.transaction(document.tenant) as tx:
            stored = await passages.get_text(tx, key)
            if stored is not None:
                return stored, read_parsed(stored)
        reading = self._files.read(document.tenant, document.content_sha256)
        async with contextlib.aclosing(reading) as pieces:
            parsed = await parser.parse(
                pieces,
                document.display_name,
                document.media_type,
                size_bytes=document.size_bytes,
            )
        return stored_text(key, parsed), parsed

    async def _chunks(self, collection: Collection, parsed: Parsed, call: Call) -> list[Chunk]:
        steps = chunking(
            parsed,
            tokens_max=collection.chunk_tokens_max,
            overlap_tokens=collection.chunk_overlap_tokens,
            context_tokens_max=CONTEXT_TOKENS_MAX,
        )
        texts = next(steps)
        while True:
            counts = await self._counts(collection, texts, call)
            try:
                texts = steps.send(counts)
            except StopIteration as done:
                chunks: list[Chunk] = done.value
                return chunks

    async def _counts(self, collection: Collection, texts: Sequence[str], call: Call) -> list[int]:
        counts: list[int] = []
        for start in range(0, len(texts), COUNT_TEXTS_MAX):
            response = await self._mesh.embedding.CountTokens(
                embedding.CountTokensRequest(
                    model=collection.embedding_model, texts=texts[start : start + COUNT_TEXTS_MAX]
                ),
                call,
            )
            counts += response.tokens
        return counts

    async def _embedded(
        self,
        collection: Collection,
        text: str,
        chunks: Sequence[Chunk],
        call: Call,
        progress: Progress,
    ) -> list[PassageRow]:
        rows: list[PassageRow] = []
        # With what comes before a passage, and some for the special tokens.
        tokens = [chunk.tokens + CONTEXT_TOKENS_MAX + SPECIAL_TOKENS_MAX for chunk in chunks]
        for part in answer_parts(tokens, collection.dimensions, EMBED_PASSAGES_MAX):
            some = chunks[part]
            texts = [text[c.span.start : c.span.end] for c in some]
            response = await self._mesh.embedding.EmbedTexts(
                embedding.EmbedTextsRequest(
                    model=collection.embedding_model,
                    texts=[embedding_text(t, c.context) for t, c in zip(texts, some, strict=True)],
                    input_kind=embedding.INPUT_KIND_PASSAGE,
                    truncate=True,
                    include_sentences=True,
                    include_tokens=collection.token_store,
                ),
                call,
            )
            if response.fingerprint != collection.fingerprint:
                raise FingerprintMismatch(
                    f"The model embeds into {response.fingerprint}, but the collection holds "
                    f"{collection.fingerprint}. Make a new collection for the new model.",
                    metadata={"fingerprint": response.fingerprint},
                )
            for made, chunk, passage in zip(response.embeddings, some, texts, strict=True):
                sentences = sentences_value(made.sentences)
                rows.append(
                    PassageRow(
                        passage_index=len(rows),
                        text=passage,
                        span=chunk.span,
                        heading_path=chunk.heading_path,
                        context=chunk.context,
                        page=chunk.page,
                        tokens=chunk.tokens,
                        vector=vector_value(made.vector, "passage"),
                        sentences=(
                            passage_sentences(sentences, passage, chunk.context)
                            if sentences is not None
                            else None
                        ),
                        token_vectors=(
                            token_vectors_value(made.token_vectors)
                            if collection.token_store
                            else None
                        ),
                    )
                )
            progress.done = len(rows)
        return rows
