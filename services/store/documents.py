"""Documents: made, published with their passages' points in one transaction, deleted whole."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from psycopg import errors as pg

from engine.errors import DocumentExists, DocumentNotFound, InvalidField
from engine.types import JsonValue, Payload
from services.store import jobs, sharing
from services.store.collections import Collection, collection_not_found
from services.store.contents import Content, Exists, name_content
from services.store.points import Commit, apply_batch, document_point_ids
from services.store.sharing import Shares
from services.store.store import Tx
from services.store.versions import Version, drop_version, put_version

DocumentState: TypeAlias = Literal["ingesting", "active", "failed"]

_COLUMNS = (
    "tenant, collection_uid, id, display_name, media_type, source_uri, payload, state, "
    "size_bytes, content_sha256, text_key, passage_set_key, text_characters, passages, title, "
    "ingest_job, next_number, create_time, update_time"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A row: the version that is published, or the first one until it is. `ingest_job` is the
    newest job's id, `collection_uid` the collection's `home_uid`."""

    tenant: str
    collection_uid: uuid.UUID
    id: str
    display_name: str
    media_type: str
    source_uri: str
    payload: Mapping[str, JsonValue]
    state: DocumentState
    size_bytes: int
    content_sha256: bytes
    text_key: bytes | None
    passage_set_key: bytes | None
    text_characters: int
    passages: int
    title: str
    ingest_job: str
    next_number: int
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """What a caller says of a document."""

    id: str
    display_name: str = ""
    source_uri: str = ""
    payload: Payload = field(default_factory=dict)


def passage_point_id(document_id: str, number: int) -> str:
    """The id of the point of a document's passage; `#` is in no document's id. The number stays
    with the passage while its text does, whatever is put before it."""
    return f"{document_id}#{number}"


async def create_document(
    tx: Tx,
    collection: Collection,
    new: NewDocument,
    content: Content,
    *,
    job_id: str,
    exists: Exists,
    bulk: bool = False,
    replace_existing: bool = False,
) -> tuple[Document, jobs.IngestJob]:
    """Store a document, which names its file in the object store, and a job to ingest it. With
    `replace_existing`, a document that is there gets it as its new version.

    `exists` says whether the object store has an object. Raises NotKept where it has not the
    file's, DocumentExists, and CollectionNotFound where the collection was deleted meanwhile.
    """
    if any("\0" in text for text in (new.display_name, new.source_uri)):
        raise InvalidField("display_name or source_uri contains U+0000; remove it")
    version = Version(
        tenant=tx.tenant,
        collection_uid=collection.home_uid,
        document_id=new.id,
        ingest_job=job_id,
        display_name=new.display_name,
        media_type=content.media_type,
        source_uri=new.source_uri,
        payload=new.payload,
        size_bytes=content.size_bytes,
        content_sha256=content.sha256,
    )
    document = await _insert(tx, collection, version)
    if document is None and not replace_existing:
        raise DocumentExists(
            f"document {new.id!r} exists in collection {collection.id!r}; choose another id, or "
            "say that it is to be replaced",
            metadata={"document": new.id, "collection": collection.id},
        )
    if document is not None:
        await put_version(tx, version)
        job = await _queue(tx, collection, version, bulk=bulk)
    else:
        document, job = await ingest_version(tx, collection, version, bulk=bulk)
    await name_content(tx, content, exists)
    return document, job


async def ingest_version(
    tx: Tx, collection: Collection, version: Version, *, bulk: bool = False
) -> tuple[Document, jobs.IngestJob]:
    """Queue a version of a document that is there, in place of one that was not published yet,
    whose job is cancelled. A document that was never published becomes what the version says at
    once. Raises DocumentNotFound."""
    document = await get_document(tx, collection, version.document_id, lock=True)
    await jobs.cancel_jobs(tx, collection.home_uid, version.document_id)
    gone = await drop_version(tx, collection.home_uid, version.document_id)
    await put_version(tx, version)
    if document.state != "active":
        gone += [Shares(document.content_sha256, None, None)]
        await tx.run(
            "UPDATE documents SET display_name = %s, media_type = %s, source_uri = %s, "
            "payload = %s::json, state = 'ingesting', size_bytes = %s, content_sha256 = %s "
            "WHERE tenant = %s AND collection_uid = %s AND id = %s",
            (
                *(version.display_name, version.media_type, version.source_uri),
                *(payload_json(version.payload), version.size_bytes, version.content_sha256),
                *(tx.tenant, collection.home_uid, version.document_id),
            ),
        )
    job = await _queue(tx, collection, version, bulk=bulk)
    await tx.run(
        "UPDATE documents SET ingest_job = %s, update_time = now() "
        "WHERE tenant = %s AND collection_uid = %s AND id = %s",
        (job.id, tx.tenant, collection.home_uid, version.document_id),
    )
    await sharing.release(tx, gone)
    return await get_document(tx, collection, version.document_id), job


async def _insert(tx: Tx, collection: Collection, version: Version) -> Document | None:
    """The row of a new document; None where there is one."""
    try:
        return await tx.one(
            Document,
            "INSERT INTO documents (tenant, collection_uid, id, display_name, media_type, "
            "source_uri, payload, state, size_bytes, content_sha256, ingest_job) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s::json, 'ingesting', %s, %s, %s) "
            f"ON CONFLICT (tenant, collection_uid, id) DO NOTHING RETURNING {_COLUMNS}",
            (
                *(tx.tenant, collection.home_uid, version.document_id, version.display_name),
                *(version.media_type, version.source_uri, payload_json(version.payload)),
                *(version.size_bytes, version.content_sha256, version.ingest_job),
            ),
        )
    except pg.ForeignKeyViolation as error:
        raise collection_not_found(collection.id) from error


async def _queue(tx: Tx, collection: Collection, version: Version, *, bulk: bool) -> jobs.IngestJob:
    return await jobs.create_job(
        tx,
        collection.home_uid,
        collection.id,
        version.document_id,
        version.ingest_job,
        bulk=bulk,
    )


def payload_json(payload: Mapping[str, JsonValue]) -> str:
    """As it is written down."""
    return json.dumps(payload, ensure_ascii=False, allow_nan=False)


async def get_document(
    tx: Tx, collection: Collection, document_id: str, *, lock: bool = False
) -> Document:
    """With `lock`, nobody else changes it until the commit. Raises DocumentNotFound."""
    found = await tx.one(
        Document,
        f"SELECT {_COLUMNS} FROM documents WHERE tenant = %s AND collection_uid = %s AND id = %s "
        f"{'FOR UPDATE' if lock else ''}",
        (tx.tenant, collection.home_uid, document_id),
    )
    if found is None:
        raise _not_found(collection, document_id)
    return found


async def list_documents(
    tx: Tx,
    collection: Collection,
    *,
    state: DocumentState | None = None,
    after: str = "",
    limit: int = 1000,
) -> list[Document]:
    """By id, those that come after `after`; only those in `state`, if given."""
    return await tx.all(
        Document,
        f"SELECT {_COLUMNS} FROM documents WHERE tenant = %s AND collection_uid = %s AND id > %s "
        "AND state = coalesce(%s, state) ORDER BY id LIMIT %s",
        (tx.tenant, collection.home_uid, after, state, limit),
    )


async def fail_document(tx: Tx, collection: Collection, document_id: str) -> None:
    """Say that a document is not searchable. Nothing happens to one that was deleted, or that is
    searchable in an older version."""
    await tx.run(
        "UPDATE documents SET state = 'failed', update_time = now() "
        "WHERE tenant = %s AND collection_uid = %s AND id = %s AND state <> 'active'",
        (tx.tenant, collection.home_uid, document_id),
    )


async def delete_document(tx: Tx, collection: Collection, document_id: str) -> Commit:
    """Delete a document with its points, and what no other document shares; cancel its job.

    Raises DocumentNotFound.
    """
    await get_document(tx, collection, document_id, lock=True)
    await jobs.cancel_jobs(tx, collection.home_uid, document_id)
    gone = await drop_version(tx, collection.home_uid, document_id)
    gone += await tx.all(
        Shares,
        "DELETE FROM documents WHERE tenant = %s AND collection_uid = %s AND id = %s "
        f"RETURNING {sharing.COLUMNS}",
        (tx.tenant, collection.home_uid, document_id),
    )
    await sharing.release(tx, gone)
    points = await document_point_ids(tx, collection, document_id)
    return await apply_batch(tx, collection, (), points)


def _not_found(collection: Collection, document_id: str) -> DocumentNotFound:
    return DocumentNotFound(
        f"document {document_id!r} does not exist in collection {collection.id!r}",
        metadata={"document": document_id, "collection": collection.id},
    )
