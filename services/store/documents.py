"""Documents: made, published with their passages' points in one transaction, deleted whole."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from psycopg import errors as pg

from engine.errors import DocumentExists, DocumentNotFound, InvalidField, StoreUnavailable
from engine.types import JsonValue, Payload
from services.store import jobs, passages, sharing
from services.store.collections import Collection, collection_not_found
from services.store.contents import Content, Exists, name_content
from services.store.points import Commit, PointRow, apply_batch, document_point_ids
from services.store.store import Tx

DocumentState: TypeAlias = Literal["ingesting", "active", "failed"]

COLUMNS = (
    "tenant, collection_uid, id, display_name, media_type, source_uri, payload, state, "
    "size_bytes, content_sha256, text_key, passage_set_key, text_characters, passages, title, "
    "ingest_job, create_time, update_time"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A row. `ingest_job` is the job's id, `collection_uid` the collection's `home_uid`."""

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
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """What a caller says of a document."""

    id: str
    display_name: str = ""
    source_uri: str = ""
    payload: Payload = field(default_factory=dict)


def passage_point_id(document_id: str, passage_index: int) -> str:
    """The id of the point of a document's passage; `#` is in no document's id."""
    return f"{document_id}#{passage_index}"


async def create_document(
    tx: Tx,
    collection: Collection,
    new: NewDocument,
    content: Content,
    *,
    job_id: str,
    exists: Exists,
) -> tuple[Document, jobs.IngestJob]:
    """Store a document, which names its file in the object store, and a job to ingest it.

    `exists` says whether the object store has an object. Raises NotKept where it has not the
    file's, DocumentExists, and CollectionNotFound where the collection was deleted meanwhile.
    """
    if any("\0" in text for text in (new.display_name, new.source_uri)):
        raise InvalidField("display_name or source_uri contains U+0000; remove it")
    try:
        document = await tx.one(
            Document,
            "INSERT INTO documents (tenant, collection_uid, id, display_name, media_type, "
            "source_uri, payload, state, size_bytes, content_sha256, ingest_job) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s::json, 'ingesting', %s, %s, %s) "
            f"ON CONFLICT (tenant, collection_uid, id) DO NOTHING RETURNING {COLUMNS}",
            (
                *(tx.tenant, collection.home_uid, new.id, new.display_name, content.media_type),
                *(new.source_uri, json.dumps(new.payload, ensure_ascii=False, allow_nan=False)),
                *(content.size_bytes, content.sha256, job_id),
            ),
        )
    except pg.ForeignKeyViolation as error:
        raise collection_not_found(collection.id) from error
    if document is None:
        raise DocumentExists(
            f"document {new.id!r} exists in collection {collection.id!r}; choose another id",
            metadata={"document": new.id, "collection": collection.id},
        )
    job = await jobs.create_job(tx, collection.home_uid, collection.id, new.id, job_id)
    await name_content(tx, content, exists)
    return document, job


async def get_document(tx: Tx, collection: Collection, document_id: str) -> Document:
    """Raises DocumentNotFound."""
    found = await tx.one(
        Document,
        f"SELECT {COLUMNS} FROM documents WHERE tenant = %s AND collection_uid = %s AND id = %s",
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
        f"SELECT {COLUMNS} FROM documents WHERE tenant = %s AND collection_uid = %s AND id > %s "
        "AND state = coalesce(%s, state) ORDER BY id LIMIT %s",
        (tx.tenant, collection.home_uid, after, state, limit),
    )


async def publish_document(
    tx: Tx,
    collection: Collection,
    job: jobs.IngestJob,
    text: passages.StoredText,
    passage_set: passages.PassageSet,
    rows: Sequence[passages.PassageRow] | None,
) -> Commit:
    """Make a document searchable and its job succeed: text, passages, points, one commit.

    `rows` is None to share passages that are stored; StoreUnavailable where they are not any more:
    embed and try again. Raises DocumentNotFound where it was deleted, and FailedPrecondition where
    the job is not this worker's any more.
    """
    before = await tx.all(
        sharing.Shares,
        f"SELECT {sharing.COLUMNS} FROM documents "
        "WHERE tenant = %s AND collection_uid = %s AND id = %s FOR UPDATE",
        (tx.tenant, collection.home_uid, job.document_id),
    )
    document = await tx.one(
        Document,
        "UPDATE documents SET state = 'active', text_key = %s, passage_set_key = %s, "
        "passages = %s, title = %s, media_type = %s, text_characters = %s, update_time = now() "
        f"WHERE tenant = %s AND collection_uid = %s AND id = %s RETURNING {COLUMNS}",
        (
            *(text.text_key, passage_set.passage_set_key, passage_set.passages, text.title),
            *(text.media_type, len(text.text), tx.tenant, collection.home_uid, job.document_id),
        ),
    )
    if document is None:
        raise _not_found(collection, job.document_id)
    await jobs.hold_job(tx, job)
    await passages.put_text(tx, text)
    if rows is not None:
        await passages.put_passages(tx, passage_set, rows)
    elif await passages.adopt_passages(tx, passage_set.passage_set_key) is None:
        raise StoreUnavailable(
            "the last document that shared these passages was deleted meanwhile; try again"
        )
    points = [
        PointRow(
            id=passage_point_id(document.id, index),
            payload=document.payload,
            document=document.id,
            passage_index=index,
            passage_set_key=passage_set.passage_set_key,
        )
        for index in range(passage_set.passages)
    ]
    wanted = {point.id for point in points}
    points_before = await document_point_ids(tx, collection, document.id)
    await sharing.release(tx, before)
    commit = await apply_batch(
        tx, collection, points, [point for point in points_before if point not in wanted]
    )
    await jobs.succeed_job(tx, job, passage_set.passages, commit.seq)
    return commit


async def fail_document(tx: Tx, collection: Collection, document_id: str) -> None:
    """Say that a document did not become searchable. Nothing happens where it is, or was
    deleted."""
    await tx.run(
        "UPDATE documents SET state = 'failed', update_time = now() "
        "WHERE tenant = %s AND collection_uid = %s AND id = %s AND state = 'ingesting'",
        (tx.tenant, collection.home_uid, document_id),
    )


async def delete_document(tx: Tx, collection: Collection, document_id: str) -> Commit:
    """Delete a document with its points, and what no other document shares; cancel its job.

    Raises DocumentNotFound.
    """
    gone = await tx.all(
        sharing.Shares,
        "DELETE FROM documents WHERE tenant = %s AND collection_uid = %s AND id = %s "
        f"RETURNING {sharing.COLUMNS}",
        (tx.tenant, collection.home_uid, document_id),
    )
    if not gone:
        raise _not_found(collection, document_id)
    await jobs.cancel_jobs(tx, collection.home_uid, document_id)
    await sharing.release(tx, gone)
    points = await document_point_ids(tx, collection, document_id)
    return await apply_batch(tx, collection, (), points)


def _not_found(collection: Collection, document_id: str) -> DocumentNotFound:
    return DocumentNotFound(
        f"document {document_id!r} does not exist in collection {collection.id!r}",
        metadata={"document": document_id, "collection": collection.id},
    )
