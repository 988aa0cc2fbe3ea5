"""What becomes of a job whose stages ended with an error: it fails for good, or is tried again."""

from __future__ import annotations

import contextlib
import logging

from engine.errors import (
    CollectionNotFound,
    DocumentNotFound,
    DocumentUnreadable,
    Exhausted,
    FailedPrecondition,
    FingerprintMismatch,
    InvalidArgument,
    NoEmbeddingModel,
    RagmeshError,
)
from services.documents.convert import error_value
from services.rpc import metrics
from services.store import collections, documents, jobs
from services.store.jobs import IngestJob
from services.store.store import Store, Tx

_LOG = logging.getLogger(__name__)

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
LOST = (DocumentNotFound, CollectionNotFound, FailedPrecondition)
"""The document or its collection is gone, or the job is another worker's."""


async def end(store: Store, job: IngestJob, error: BaseException) -> None:
    """Fails the job, or gives it back to be tried again later."""
    final = isinstance(error, _FINAL) and not isinstance(error, Exhausted)
    if not isinstance(error, RagmeshError):
        _LOG.error("ingest job failed", exc_info=error, extra={"job": job.id})
    if not final and job.attempts < ATTEMPTS_MAX:
        await give_back(store, job, delay_s=min(60.0, 0.5 * 2**job.attempts))
        return

    async def fail(tx: Tx) -> None:
        if await jobs.fail_job(tx, job, error_value(error)):
            collection = await collections.get_collection(tx, job.collection_id)
            await documents.fail_document(tx, collection, job.document_id)

    with contextlib.suppress(RagmeshError):
        await store.run(job.tenant, fail)
    metrics.INGEST_JOBS.labels("failed").inc()


async def give_back(store: Store, job: IngestJob, *, delay_s: float) -> None:
    """Queues the job again, to be taken after `delay_s`."""
    # If this fails, the lease runs out and another worker takes the job.
    with contextlib.suppress(RagmeshError):
        async with store.transaction(job.tenant) as tx:
            await jobs.requeue_job(tx, job, delay_s=delay_s)


def require_attempts(job: IngestJob) -> None:
    """Raises DocumentUnreadable for a job at which workers have died too often."""
    if job.attempts > ATTEMPTS_MAX:
        raise DocumentUnreadable(
            f"The node ended {ATTEMPTS_MAX} times while it worked on this document.",
            metadata={"attempts": ATTEMPTS_MAX},
        )
