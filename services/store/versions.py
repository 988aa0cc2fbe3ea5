"""The version of a document that is being ingested, and what its stages have made so far.

A stage writes only while its worker holds the job (`jobs.hold_job`), and what it writes is referred
to by the version from the start: who deletes the document or replaces the version cancels the job
first, and takes what was made along. Locks are taken in one order: the document's row, its job's,
what is shared.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import DocumentNotFound
from engine.types import JsonValue
from services.store import sharing
from services.store.jobs import IngestJob
from services.store.sharing import Shares
from services.store.store import Tx

_COLUMNS = (
    "tenant, collection_uid, document_id, ingest_job, display_name, media_type, source_uri, "
    "payload, size_bytes, content_sha256, text_key, passage_set_key"
)
_KEY = "tenant = %s AND collection_uid = %s AND document_id = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A row. The keys are None until the stage that makes what they name has begun."""

    tenant: str
    collection_uid: uuid.UUID
    document_id: str
    ingest_job: str
    display_name: str
    media_type: str
    source_uri: str
    payload: Mapping[str, JsonValue]
    size_bytes: int
    content_sha256: bytes
    text_key: bytes | None = None
    passage_set_key: bytes | None = None


async def put_version(tx: Tx, version: Version) -> None:
    """Make this the version that is ingested; there is none, and the caller holds the document's
    row."""
    await tx.run(
        "INSERT INTO document_versions (tenant, collection_uid, document_id, ingest_job, "
        "display_name, media_type, source_uri, payload, size_bytes, content_sha256) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s::json, %s, %s)",
        (
            *(tx.tenant, version.collection_uid, version.document_id, version.ingest_job),
            *(version.display_name, version.media_type, version.source_uri),
            json.dumps(version.payload, ensure_ascii=False, allow_nan=False),
            *(version.size_bytes, version.content_sha256),
        ),
    )


async def drop_version(tx: Tx, collection_uid: uuid.UUID, document_id: str) -> list[Shares]:
    """Forget the version that was to be ingested, if any; what it referred to."""
    return await tx.all(
        Shares,
        f"DELETE FROM document_versions WHERE {_KEY} RETURNING {sharing.COLUMNS}",
        (tx.tenant, collection_uid, document_id),
    )


async def get_version(tx: Tx, job: IngestJob) -> Version:
    """What a job ingests. Raises DocumentNotFound where the document was deleted or got a newer
    version."""
    found = await tx.one(
        Version,
        f"SELECT {_COLUMNS} FROM document_versions WHERE {_KEY} AND ingest_job = %s",
        (tx.tenant, job.collection_uid, job.document_id, job.id),
    )
    if found is None:
        raise _superseded(job)
    return found


async def find_version(tx: Tx, collection_uid: uuid.UUID, document_id: str) -> Version | None:
    """The version of a document that is or was to be ingested and is not published."""
    return await tx.one(
        Version,
        f"SELECT {_COLUMNS} FROM document_versions WHERE {_KEY}",
        (tx.tenant, collection_uid, document_id),
    )


async def refer(
    tx: Tx, job: IngestJob, *, text_key: bytes | None = None, passage_set_key: bytes | None = None
) -> None:
    """Say what a stage of the job makes from now on, and release what it made before, by other
    rules. The caller holds the job, and then the row that is named. Raises as `get_version`."""
    row = await tx.row(
        f"WITH before AS (SELECT text_key, passage_set_key FROM document_versions WHERE {_KEY}) "
        "UPDATE document_versions v SET text_key = coalesce(%s, v.text_key), "
        "passage_set_key = coalesce(%s, v.passage_set_key) FROM before "
        "WHERE v.tenant = %s AND v.collection_uid = %s AND v.document_id = %s "
        "AND v.ingest_job = %s RETURNING before.text_key, before.passage_set_key",
        (
            *(tx.tenant, job.collection_uid, job.document_id),
            *(text_key, passage_set_key, tx.tenant, job.collection_uid, job.document_id, job.id),
        ),
    )
    if row is None:
        raise _superseded(job)
    text, passages = row
    gone = Shares(
        None,
        text if text_key not in (None, text) else None,
        passages if passage_set_key not in (None, passages) else None,
    )
    if gone.text_key or gone.passage_set_key:
        await sharing.release(tx, [gone])


def _superseded(job: IngestJob) -> DocumentNotFound:
    return DocumentNotFound(
        f"document {job.document_id!r} has no version for ingest job {job.id!r} any more",
        metadata={"document": job.document_id, "collection": job.collection_id},
    )
