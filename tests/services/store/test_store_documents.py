"""Documents with the same content share what was made of it, and the last one takes it along."""

from __future__ import annotations

import asyncio
import hashlib

import numpy as np
import pytest

from engine.errors import (
    CollectionNotFound,
    DocumentExists,
    DocumentNotFound,
    FailedPrecondition,
    IngestJobNotFound,
    StoreUnavailable,
)
from engine.types import Span
from services.store import cleanup, jobs
from services.store.changes import Feed, get_head, snapshot_scan
from services.store.collections import Collection, delete_collection
from services.store.contents import Content, NotKept
from services.store.documents import (
    Document,
    NewDocument,
    create_document,
    delete_document,
    fail_document,
    get_document,
    list_documents,
    publish_document,
)
from services.store.passages import PassageRow, PassageSet, StoredText, get_text, list_passages
from services.store.store import Store
from tests.services.store.stored import Replica, make_collection

pytestmark = pytest.mark.asyncio

_DATA = b"A first sentence. A second one." * 3
_TEXT = _DATA.decode()


def _content(data: bytes = _DATA) -> Content:
    return Content(hashlib.sha256(data).digest(), len(data), "text/plain")


def _parsed(content: Content) -> tuple[StoredText, PassageSet, list[PassageRow]]:
    key = hashlib.sha256(content.sha256 + b"parser 1").digest()
    text = StoredText(
        text_key=key,
        title="Title",
        media_type="text/plain",
        page_count=0,
        text=_TEXT,
        blocks='[["paragraph", 0, 93]]',
    )
    rows = [
        PassageRow(
            passage_index=index,
            text=_TEXT[start : start + 31],
            span=Span(start, start + 31),
            heading_path=("A", "B"),
            tokens=7,
            vector=np.full(4, index + 1, np.float32),
        )
        for index, start in enumerate((0, 31, 62))
    ]
    return text, PassageSet(hashlib.sha256(key + b"chunking").digest(), "f", 3), rows


async def _there(name: str) -> bool:
    """As if every object had been put; `test_document_files.py` has a real store of them."""
    return True


async def _create(store: Store, collection: Collection, name: str, data: bytes = _DATA) -> Document:
    async with store.transaction(collection.tenant) as tx:
        document, _ = await create_document(
            tx,
            collection,
            NewDocument(id=name, payload={"of": name}),
            _content(data),
            job_id=f"job-{collection.id}-{name}",
            exists=_there,
        )
        return document


async def _publish(store: Store, collection: Collection, *, share: bool = False) -> None:
    """Take the oldest job and do it."""
    async with store.system() as tx:
        [job] = await jobs.claim_jobs(tx, "worker", lease_s=60, limit=1)
    async with store.transaction(job.tenant) as tx:
        document = await get_document(tx, collection, job.document_id)
        content = Content(document.content_sha256, document.size_bytes, document.media_type)
        text, passage_set, rows = _parsed(content)
        await publish_document(tx, collection, job, text, passage_set, None if share else rows)


async def _stored(store: Store) -> tuple[int, ...]:
    """Rows of contents, texts, passage sets, passages."""
    tables = ("contents", "texts", "passage_sets", "passages")
    async with store.system() as tx:
        rows = await tx.rows(
            "SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
        )
    return tuple(rows[0])


async def test_equal_documents_share_and_the_last_one_cleans_up(store: Store) -> None:
    one = await make_collection(store, "one", "a")
    two = await make_collection(store, "one", "b")
    for collection, name in ((one, "x"), (one, "y"), (two, "x")):
        await _create(store, collection, name)
        await _publish(store, collection, share=name == "y")
    assert await _stored(store) == (1, 1, 1, 3)
    async with snapshot_scan(store, "one", one.uid) as feed:
        assert isinstance(feed, Feed)
        points = [stored async for page in feed.pages() for stored in page.upserts]
    assert {p.point.id for p in points} == {f"{name}#{n}" for name in "xy" for n in range(3)}
    for stored in points:
        assert stored.span is not None
        assert stored.point.text == _TEXT[stored.span.start : stored.span.end]
        assert stored.point.payload == {"of": stored.point.document}
        assert stored.point.vector is not None
        assert stored.point.vector.tolist() == [stored.point.passage_index + 1] * 4
    replica = Replica(one)
    await replica.catch_up(store)
    async with store.transaction("one") as tx:
        assert (await delete_document(tx, one, "x")).deleted == 3
    assert await _stored(store) == (1, 1, 1, 3)
    await replica.catch_up(store)
    assert set(replica.texts) == {"y#0", "y#1", "y#2"}
    async with store.transaction("one") as tx:
        await delete_document(tx, one, "y")
        await delete_document(tx, two, "x")
    assert await _stored(store) == (0, 0, 0, 0)


async def test_tenants_do_not_share(store: Store) -> None:
    for tenant in ("one", "two"):
        collection = await make_collection(store, tenant, "c")
        await _create(store, collection, "x")
        await _publish(store, collection)
    assert await _stored(store) == (2, 2, 2, 6)


async def test_a_collection_takes_its_documents_along_but_not_what_others_share(
    store: Store,
) -> None:
    one = await make_collection(store, "one", "a")
    two = await make_collection(store, "one", "b")
    await _create(store, one, "x")
    await _create(store, two, "x")
    await _create(store, one, "z", b"another file")
    async with store.transaction("one") as tx:
        await delete_collection(tx, "a")
    assert (await _stored(store))[0] == 1
    async with store.transaction("one") as tx:
        assert (await jobs.get_job(tx, "job-a-x")).state == "cancelled"
        assert (await jobs.get_job(tx, "job-b-x")).state == "queued"
    with pytest.raises(CollectionNotFound):
        await _create(store, one, "late")


async def test_sharing_passages_that_are_gone_is_refused_whole(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    await _create(store, collection, "x")
    with pytest.raises(StoreUnavailable):
        await _publish(store, collection, share=True)
    async with store.transaction("one") as tx:
        document = await get_document(tx, collection, "x")
    assert (document.state, document.text_key) == ("ingesting", None)


async def test_a_document_whose_file_is_not_kept_is_not_made(store: Store) -> None:
    collection = await make_collection(store, "one", "c")

    async def nowhere(name: str) -> bool:
        return False

    with pytest.raises(NotKept):
        async with store.transaction("one") as tx:
            await create_document(
                tx, collection, NewDocument(id="y"), _content(), job_id="j", exists=nowhere
            )
    assert await _stored(store) == (0, 0, 0, 0)
    async with store.transaction("one") as tx:
        assert await list_documents(tx, collection) == []


async def test_documents_are_found_by_name_and_page(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    for name in ("b", "a", "c"):
        await _create(store, collection, name)
    with pytest.raises(DocumentExists):
        await _create(store, collection, "b")
    async with store.transaction("one") as tx:
        page = await list_documents(tx, collection, limit=2)
        assert [document.id for document in page] == ["a", "b"]
        assert [d.id for d in await list_documents(tx, collection, after="b")] == ["c"]
        await fail_document(tx, collection, "c")
        assert (await get_document(tx, collection, "c")).state == "failed"
        with pytest.raises(DocumentNotFound):
            await delete_document(tx, collection, "d")


async def test_a_published_document_has_text_passages_and_a_finished_job(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    await _create(store, collection, "x")
    await _publish(store, collection)
    async with store.transaction("one") as tx:
        document = await get_document(tx, collection, "x")
        assert (document.state, document.passages, document.title) == ("active", 3, "Title")
        assert document.text_characters == len(_TEXT)
        assert document.text_key is not None and document.passage_set_key is not None
        assert await get_text(tx, document.text_key) == _parsed(_content())[0]
        rows = await list_passages(tx, document.passage_set_key, after_index=0, limit=1)
        assert [(r.passage_index, r.text, r.heading_path) for r in rows] == [
            (1, _TEXT[31:62], ("A", "B"))
        ]
        job = await jobs.get_job(tx, document.ingest_job)
        head = await get_head(tx, "one", collection.uid)
    assert head is not None
    assert (job.state, job.watermark, job.passages_done) == ("succeeded", head.seq, 3)
    assert job.finished and job.finish_time is not None


async def test_a_job_goes_to_one_worker_and_after_its_lease_to_another(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    for number in range(10):
        await _create(store, collection, f"x{number}", bytes([number]))

    async def claim(owner: str) -> list[jobs.IngestJob]:
        async with store.system() as tx:
            return await jobs.claim_jobs(tx, owner, lease_s=60, limit=3)

    [first] = (await claim("early"))[:1]
    claimed = await asyncio.gather(*(claim(f"w{n}") for n in range(5)))
    names = [job.id for batch in claimed for job in batch]
    assert len(names) == len(set(names)) == 7
    async with store.system() as tx:
        await tx.run(
            "UPDATE ingest_jobs SET lease_until = clock_timestamp() "
            "WHERE starts_with(lease_owner, 'early/')"
        )
    again = await claim("late")
    assert [job.attempts for job in again] == [2, 2, 2]
    async with store.transaction("one") as tx:  # the first worker has lost it
        assert not await jobs.advance_job(tx, first, "embed", lease_s=60)
        assert not await jobs.fail_job(tx, first, {"reason": "late"})
    with pytest.raises(FailedPrecondition):
        async with store.transaction("one") as tx:
            await publish_document(tx, collection, first, *_parsed(_content()))


async def test_a_job_shows_its_progress_waits_and_fails_with_a_reason(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    await _create(store, collection, "x")
    async with store.system() as tx:
        [job] = await jobs.claim_jobs(tx, "w", lease_s=60, limit=5)
        assert await jobs.count_waiting(tx) == 1
    async with store.transaction("one") as tx:
        assert await jobs.advance_job(tx, job, "embed", done=2, total=9, lease_s=60)
        seen = await jobs.get_job(tx, job.id)
        assert (seen.state, seen.stage, seen.passages_done, seen.passages_total) == (
            *("running", "embed"),
            *(2, 9),
        )
        assert await jobs.requeue_job(tx, job, delay_s=0.1)
    async with store.system() as tx:
        assert await jobs.claim_jobs(tx, "w", lease_s=60, limit=5) == []
    await asyncio.sleep(0.15)
    async with store.system() as tx:
        [job] = await jobs.claim_jobs(tx, "w", lease_s=60, limit=5)
    async with store.transaction("one") as tx:
        assert await jobs.fail_job(tx, job, {"reason": "UNREADABLE"})
        seen = await jobs.get_job(tx, job.id)
        assert (seen.state, seen.attempts, seen.error) == ("failed", 2, {"reason": "UNREADABLE"})
        with pytest.raises(IngestJobNotFound):
            await jobs.get_job(tx, "other")
        await tx.run("UPDATE ingest_jobs SET finish_time = now() - interval '1 year'")
    async with store.system() as tx:
        assert await cleanup.purge_jobs(tx) == 0  # its document still names it
    async with store.transaction("one") as tx:
        await delete_document(tx, collection, "x")
    async with store.system() as tx:
        assert await cleanup.purge_jobs(tx) == 1


async def test_jobs_are_listed_newest_first_by_page_collection_and_state(store: Store) -> None:
    one = await make_collection(store, "one", "a")
    two = await make_collection(store, "one", "b")
    for collection, name in ((one, "x"), (two, "y"), (one, "z")):
        await _create(store, collection, name)
    async with store.transaction("one") as tx:
        page = await jobs.list_jobs(tx, limit=2)
        assert [job.document_id for job in page] == ["z", "y"]
        last = page[-1]
        rest = await jobs.list_jobs(tx, before=(last.create_time, last.id))
        assert [job.document_id for job in rest] == ["x"]
        of_one = await jobs.list_jobs(tx, collection_uid=one.uid, state="queued")
        assert [job.document_id for job in of_one] == ["z", "x"]
        assert await jobs.list_jobs(tx, state="failed") == []
