"""Ingestions that somebody asks for, ends or starts once more, after their document was stored.

A document's row is locked before its job's, as publishing and deleting do.
"""

from __future__ import annotations

from engine.errors import DocumentNotFound, IngestJobFinished
from services.store import jobs
from services.store.collections import Collection
from services.store.documents import COLUMNS, Document, get_document
from services.store.jobs import IngestJob
from services.store.store import Tx


async def reindex_document(
    tx: Tx, collection: Collection, document_id: str, *, job_id: str
) -> tuple[Document, IngestJob]:
    """Queue a stored document once more, as job `job_id`.

    One that waits already is the answer; one that runs read its settings before, and gives way.
    Raises DocumentNotFound.
    """
    key = (tx.tenant, collection.home_uid, document_id)
    await tx.rows(
        "SELECT 1 FROM documents WHERE tenant = %s AND collection_uid = %s AND id = %s FOR UPDATE",
        key,
    )
    document = await get_document(tx, collection, document_id)
    waiting = await jobs.hasten_job(tx, document.ingest_job)
    if waiting is not None:
        return document, waiting
    await jobs.cancel_jobs(tx, collection.home_uid, document_id)
    job = await jobs.create_job(tx, collection.home_uid, collection.id, document_id, job_id)
    queued = await tx.one(
        Document,
        "UPDATE documents SET ingest_job = %s, update_time = now(), "
        "state = CASE state WHEN 'failed' THEN 'ingesting' ELSE state END "
        f"WHERE tenant = %s AND collection_uid = %s AND id = %s RETURNING {COLUMNS}",
        (job_id, *key),
    )
    assert queued is not None
    return queued, job


async def cancel_ingestion(tx: Tx, job_id: str) -> IngestJob:
    """End a job that waits or runs; one that is cancelled is returned.

    Whoever works on it can write nothing any more. Raises IngestJobNotFound, and
    IngestJobFinished where it succeeded or failed before.
    """
    job = await jobs.get_job(tx, job_id)
    await tx.run(
        "UPDATE documents SET state = 'failed', update_time = now() "
        "WHERE tenant = %s AND collection_uid = %s AND id = %s AND ingest_job = %s "
        "AND state = 'ingesting'",
        (tx.tenant, job.collection_uid, job.document_id, job_id),
    )
    cancelled = await jobs.cancel_job(tx, job_id)
    if cancelled is not None:
        return cancelled
    job = await jobs.get_job(tx, job_id)  # as whoever ended it meanwhile left it
    if job.state != "cancelled":
        raise IngestJobFinished(
            f"ingest job {job_id!r} has {job.state} already, so it cannot be cancelled; to take "
            "back what it made searchable, delete the document",
            metadata={"ingest_job": job_id, "state": job.state},
        )
    return job


async def retry_ingestion(tx: Tx, job_id: str) -> IngestJob:
    """Queue a job that failed or was cancelled once more, with its attempts counted anew.

    One that waits may start now, and one that runs is returned. Raises IngestJobNotFound,
    DocumentNotFound, and IngestJobFinished where there is nothing to try again.
    """
    job = await jobs.get_job(tx, job_id)
    key = (tx.tenant, job.collection_uid, job.document_id)
    row = await tx.row(
        "SELECT ingest_job FROM documents "
        "WHERE tenant = %s AND collection_uid = %s AND id = %s FOR UPDATE",
        key,
    )
    if row is None:
        raise DocumentNotFound(
            f"document {job.document_id!r} of ingest job {job_id!r} was deleted; store it again",
            metadata={"document": job.document_id, "ingest_job": job_id},
        )
    if row[0] != job_id:
        raise IngestJobFinished(
            f"ingest job {job_id!r} was followed by {row[0]!r}, of the same document; retry that",
            metadata={"ingest_job": job_id, "later": row[0]},
        )
    again = await jobs.renew_job(tx, job_id)
    if again is None:
        again = await jobs.hasten_job(tx, job_id) or await jobs.get_job(tx, job_id)
    if again.state == "succeeded":
        raise IngestJobFinished(
            f"ingest job {job_id!r} has succeeded; to ingest its document anew, reindex it",
            metadata={"ingest_job": job_id, "state": again.state},
        )
    await tx.run(
        "UPDATE documents SET state = 'ingesting', update_time = now() "
        "WHERE tenant = %s AND collection_uid = %s AND id = %s AND state = 'failed'",
        key,
    )
    return again
