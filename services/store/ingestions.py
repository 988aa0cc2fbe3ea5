"""Ingestions that somebody asks for, ends or starts once more, after their document was stored.

A document's row is locked before its job's, as publishing and deleting do.
"""

from __future__ import annotations

from dataclasses import replace

from engine.errors import DocumentNotFound, IngestJobFinished
from services.store import jobs
from services.store.collections import Collection
from services.store.documents import Document, get_document, ingest_version
from services.store.jobs import IngestJob
from services.store.store import Tx
from services.store.versions import Version, find_version


async def reindex_document(
    tx: Tx, collection: Collection, document_id: str, *, job_id: str, bulk: bool = False
) -> tuple[Document, IngestJob]:
    """Queue a stored document once more, as job `job_id`.

    One that waits already is the answer; one that runs read its settings before, and gives way.
    Raises DocumentNotFound.
    """
    document = await get_document(tx, collection, document_id, lock=True)
    waiting = await jobs.hasten_job(tx, document.ingest_job)
    if waiting is not None:
        return document, waiting
    last = await jobs.get_job(tx, document.ingest_job)
    making = await find_version(tx, collection.home_uid, document_id)
    if making is None or last.finished:  # what did not become a version is not taken up again
        making = Version(
            tenant=document.tenant,
            collection_uid=document.collection_uid,
            document_id=document.id,
            ingest_job=job_id,
            display_name=document.display_name,
            media_type=document.media_type,
            source_uri=document.source_uri,
            payload=document.payload,
            size_bytes=document.size_bytes,
            content_sha256=document.content_sha256,
        )
    return await ingest_version(tx, collection, replace(making, ingest_job=job_id), bulk=bulk)


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
