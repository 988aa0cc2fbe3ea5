"""A document that is ingested again is searchable as it was until its new version is there, and
its passages keep their ids while their text stays."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from engine.errors import FailedPrecondition, StoreUnavailable
from services.store import jobs
from services.store.documents import (
    delete_document,
    fail_document,
    get_document,
)
from services.store.passages import begin_passages, find_embedded, put_passages
from services.store.publishing import publish_document
from services.store.store import Store
from services.store.texts import begin_text, complete_text
from tests.services.store.publishing import (
    create,
    make,
    passage_rows,
    publish,
    stored_rows,
    texts_of,
)
from tests.services.store.stored import make_collection

pytestmark = pytest.mark.asyncio


async def test_what_is_not_whole_is_not_published(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    await create(store, collection, "x")
    async with store.system() as tx:
        [job] = await jobs.claim_jobs(tx, "worker", lease_s=60, limit=1)
    async with store.transaction("one") as tx:
        await jobs.hold_job(tx, job)
        text = await begin_text(tx, job, b"k" * 32)
        await complete_text(tx, replace(text, sections=1))
        await begin_passages(tx, job, b"s" * 32, "f")
        await put_passages(tx, b"s" * 32, passage_rows()[:1])
    with pytest.raises(StoreUnavailable):
        async with store.transaction("one") as tx:
            await publish_document(tx, collection, job)
    async with store.transaction("one") as tx:
        document = await get_document(tx, collection, "x")
        assert (document.state, document.text_key) == ("ingesting", None)
        await delete_document(tx, collection, "x")
    assert await stored_rows(store) == (0, 0, 0, 0)


async def test_a_new_version_replaces_the_old_one_in_one_commit_and_keeps_ids(
    store: Store,
) -> None:
    collection = await make_collection(store, "one", "c")
    a, b, c, d = (f"{letter * 30} " for letter in "abcd")
    await create(store, collection, "x", b"first")
    await publish(store, collection, a + b + c)
    before = {"x#0": a, "x#1": b, "x#2": c}
    assert await texts_of(store, collection) == before
    changed = await create(store, collection, "x", b"second", job_id="job-2", replace_existing=True)
    assert (changed.state, changed.ingest_job) == ("active", "job-2")
    assert changed.content_sha256 == hashlib.sha256(b"first").digest()
    assert await texts_of(store, collection) == before
    await publish(store, collection, d + a + c)
    assert await texts_of(store, collection) == {"x#3": d, "x#0": a, "x#2": c}
    assert await stored_rows(store) == (1, 1, 1, 3)
    async with store.transaction("one") as tx:
        document = await get_document(tx, collection, "x")
    assert document.content_sha256 == hashlib.sha256(b"second").digest()
    # A number is never given twice.
    await create(store, collection, "x", b"third", job_id="job-3", replace_existing=True)
    await publish(store, collection, b + d)
    assert await texts_of(store, collection) == {"x#4": b, "x#3": d}


async def test_a_version_that_fails_or_is_overtaken_leaves_the_old_one_searchable(
    store: Store,
) -> None:
    collection = await make_collection(store, "one", "c")
    await create(store, collection, "x")
    await publish(store, collection)
    before = await texts_of(store, collection)
    await create(store, collection, "x", b"second", job_id="job-2", replace_existing=True)
    async with store.system() as tx:
        [job] = await jobs.claim_jobs(tx, "worker", lease_s=60, limit=1)
    async with store.transaction("one") as tx:
        await make(tx, job, "z" * 31)
        await fail_document(tx, collection, "x")
        assert (await get_document(tx, collection, "x")).state == "active"
    assert await stored_rows(store) == (2, 2, 2, 4)
    await create(store, collection, "x", b"third", job_id="job-3", replace_existing=True)
    async with store.transaction("one") as tx:
        assert (await jobs.get_job(tx, "job-2")).state == "cancelled"
    with pytest.raises(FailedPrecondition):
        async with store.transaction("one") as tx:
            await publish_document(tx, collection, job)
    assert await texts_of(store, collection) == before
    assert await stored_rows(store) == (2, 1, 1, 3)
    async with store.transaction("one") as tx:
        await delete_document(tx, collection, "x")
    assert await stored_rows(store) == (0, 0, 0, 0)


async def test_equal_passages_are_found_whatever_text_they_are_in(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    await create(store, collection, "x")
    await publish(store, collection)
    rows = passage_rows()
    async with store.transaction("one") as tx:
        keys = [row.passage_key or b"" for row in rows]
        found = await find_embedded(tx, [*keys, b"n" * 32])
    assert set(found) == set(keys)
    async with store.transaction("two") as tx:
        assert await find_embedded(tx, keys) == {}
