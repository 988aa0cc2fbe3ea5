"""Documents as the service writes them: made, and published by a worker."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engine.documents.places import Place
from engine.types import Span
from services.store import jobs
from services.store.changes import Feed, snapshot_scan
from services.store.collections import Collection
from services.store.contents import Content
from services.store.documents import Document, NewDocument, create_document
from services.store.passages import PassageRow, begin_passages, end_section, put_passages
from services.store.publishing import publish_document
from services.store.store import Store, Tx
from services.store.texts import TextSection, begin_text, complete_text, put_section
from services.store.versions import get_version

DATA = b"A first sentence. A second one." * 3
TEXT = DATA.decode()
PLACES = (Place(3, (1.5, 2.0, 30.1, 40.0)), Place(4))


def content_of(data: bytes = DATA) -> Content:
    return Content(hashlib.sha256(data).digest(), len(data), "text/plain")


def passage_rows(said: str = TEXT) -> list[PassageRow]:
    return [
        PassageRow(
            passage_index=index,
            text=said[start : start + 31],
            span=Span(start, start + 31),
            heading_path=("A", "B"),
            tokens=7,
            places=PLACES[:index],
            parent=Span(0, 62) if index < 2 else None,
            parent_text=said[:62] if index == 0 else "",
            vector=np.full(4, index + 1, np.float32),
            passage_key=hashlib.sha256(said[start : start + 31].encode()).digest(),
        )
        for index, start in enumerate(range(0, len(said), 31))
    ]


async def make(
    tx: Tx,
    job: jobs.IngestJob,
    said: str = TEXT,
    rows: Sequence[PassageRow] | None = None,
    fingerprint: str = "f",
) -> None:
    """What the stages of a job make, all but its publishing."""
    version = await get_version(tx, job)
    text_key = hashlib.sha256(version.content_sha256 + b"parser 1").digest()
    await jobs.hold_job(tx, job)
    text = await begin_text(tx, job, text_key)
    section = TextSection(section_index=0, start=0, text=said, blocks='[["paragraph", 0, 93]]')
    await put_section(tx, text_key, section)
    known = replace(text, title="Title", media_type="text/plain", characters=len(said), sections=1)
    await complete_text(tx, known)
    begun = await begin_passages(
        tx, job, hashlib.sha256(text_key + b"chunking").digest(), fingerprint
    )
    if not begun.complete:
        rows = passage_rows(said) if rows is None else rows
        await put_passages(tx, begun.passage_set_key, rows)
        await end_section(tx, replace(begun, passages=len(rows), sections=1, complete=True))


async def there(name: str) -> bool:
    """As if every object had been put; `test_document_files.py` has a real store of them."""
    return True


async def create(
    store: Store, collection: Collection, name: str, data: bytes = DATA, **how: Any
) -> Document:
    async with store.transaction(collection.tenant) as tx:
        document, _ = await create_document(
            tx,
            collection,
            NewDocument(id=name, payload={"of": name}),
            content_of(data),
            exists=there,
            **{"job_id": f"job-{collection.id}-{name}", **how},
        )
        return document


async def publish(
    store: Store, collection: Collection, said: str = TEXT, **made: Any
) -> jobs.IngestJob:
    """Take the next job and do it."""
    async with store.system() as tx:
        [job] = await jobs.claim_jobs(tx, "worker", lease_s=60, limit=1)
    async with store.transaction(job.tenant) as tx:
        await make(tx, job, said, **made)
    async with store.transaction(job.tenant) as tx:
        await publish_document(tx, collection, job)
    return job


async def stored_rows(store: Store) -> tuple[int, ...]:
    """Rows of contents, texts, passage sets, passages."""
    tables = ("contents", "texts", "passage_sets", "passages")
    async with store.system() as tx:
        rows = await tx.rows(
            "SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
        )
    return tuple(rows[0])


async def texts_of(store: Store, collection: Collection) -> dict[str, str]:
    """The texts of a collection's points, by id."""
    async with snapshot_scan(store, collection.tenant, collection.uid) as feed:
        assert isinstance(feed, Feed)
        return {s.point.id: s.point.text async for page in feed.pages() for s in page.upserts}
