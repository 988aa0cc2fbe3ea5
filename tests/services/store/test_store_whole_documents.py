"""A short document is stored and published in one transaction, and is then as any other."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from engine.errors import FailedPrecondition, InvalidField
from services.store import jobs
from services.store.collections import Collection
from services.store.documents import delete_document, get_document
from services.store.jobs import IngestJob
from services.store.passages import PassageSet, get_passage_set, list_passages
from services.store.points import Commit
from services.store.publishing import Whole, publish_whole
from services.store.store import Store, Tx
from services.store.texts import StoredText, TextSection, get_section, get_text
from services.store.versions import get_version
from tests.services.store.publishing import (
    TEXT,
    create,
    make,
    passage_rows,
    publish,
    stored_rows,
    texts_of,
)
from tests.services.store.stored import make_collection

pytestmark = pytest.mark.asyncio

BLOCKS = '[["paragraph", 0, 93]]'


def whole(sha256: bytes, said: str = TEXT) -> Whole:
    """The same keys as `publishing.make`."""
    text_key, rows = hashlib.sha256(sha256 + b"parser 1").digest(), passage_rows(said)
    text = StoredText(
        text_key=text_key,
        title="Title",
        media_type="text/plain",
        characters=len(said),
        sections=1,
        complete=True,
    )
    made_of = PassageSet(
        hashlib.sha256(text_key + b"chunking").digest(), "f", len(rows), sections=1, complete=True
    )
    section = TextSection(section_index=0, start=0, text=said, blocks=BLOCKS)
    return Whole(text, section, made_of, rows)


async def claimed(store: Store) -> IngestJob:
    async with store.system() as tx:
        [job] = await jobs.claim_jobs(tx, "worker", lease_s=60, limit=1)
    return job


async def at_once(store: Store, collection: Collection, job: IngestJob, said: str = TEXT) -> Commit:
    async with store.transaction(job.tenant) as tx:
        version = await get_version(tx, job)

    async def work(tx: Tx) -> Commit:
        made = whole(version.content_sha256, said)
        return await publish_whole(tx, collection, job, version, made)

    return await store.run(job.tenant, work)


async def test_at_once_or_by_stages_a_document_is_the_same(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    await create(store, collection, "x")
    await publish(store, collection)
    by_stages = await texts_of(store, collection)
    other = await make_collection(store, "two", "c")
    await create(store, other, "x")
    job = await claimed(store)
    assert (await at_once(store, other, job)).seq > 0
    assert await texts_of(store, other) == by_stages
    found = []
    for tenant, place in (("one", collection), ("two", other)):
        async with store.transaction(tenant) as tx:
            document = await get_document(tx, place, "x")
            assert document.text_key is not None and document.passage_set_key is not None
            found.append(
                (
                    replace(
                        document,
                        tenant="",
                        collection_uid=job.collection_uid,
                        ingest_job="",
                        create_time=job.create_time,
                        update_time=job.create_time,
                    ),
                    await get_text(tx, document.text_key),
                    await get_section(tx, document.text_key, 0),
                    await get_passage_set(tx, document.passage_set_key),
                    await list_passages(tx, document.passage_set_key),
                )
            )
    assert found[0] == found[1]
    async with store.transaction("two") as tx:
        assert (await jobs.get_job(tx, job.id)).state == "succeeded"
        await delete_document(tx, other, "x")
    assert await stored_rows(store) == (1, 1, 1, 3)


async def test_equal_documents_at_once_share_what_was_made(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    for name in "abcdefgh":
        await create(store, collection, name)
    async with store.system() as tx:
        taken = await jobs.claim_jobs(tx, "worker", lease_s=60, limit=8)
    # One of them goes by stages, and is in the middle of them.
    async with store.transaction("one") as tx:
        await make(tx, taken[0])
    await asyncio.gather(*(at_once(store, collection, job) for job in taken))
    assert await stored_rows(store) == (1, 1, 1, 3)
    assert len(await texts_of(store, collection)) == 24


async def test_who_lost_the_job_or_cannot_store_the_text_leaves_nothing(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    await create(store, collection, "x")
    job = await claimed(store)
    with pytest.raises(InvalidField, match="U\\+0000"):
        await at_once(store, collection, job, TEXT + "\0")
    async with store.transaction("one") as tx:
        version = await get_version(tx, job)
        await jobs.cancel_job(tx, job.id)
    with pytest.raises(FailedPrecondition):
        async with store.transaction("one") as tx:
            await publish_whole(tx, collection, job, version, whole(version.content_sha256))
    assert await stored_rows(store) == (1, 0, 0, 0)
    assert await texts_of(store, collection) == {}
