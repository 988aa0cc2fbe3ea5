"""Documents with the same content share what was made of it, and the last one takes it along."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import (
    CollectionNotFound,
    DocumentExists,
    DocumentNotFound,
    FailedPrecondition,
    IngestJobNotFound,
)
from engine.types import Span
from services.store import cleanup, jobs
from services.store.changes import Feed, get_head, snapshot_scan
from services.store.collections import delete_collection
from services.store.contents import NotKept
from services.store.documents import (
    NewDocument,
    create_document,
    delete_document,
    fail_document,
    get_document,
    list_documents,
)
from services.store.parents import Parent, parents_of
from services.store.passages import (
    list_passages,
)
from services.store.publishing import publish_document
from services.store.store import Store
from services.store.texts import (
    get_section,
    get_text,
)
from tests.services.store.publishing import (
    PLACES,
    TEXT,
    content_of,
    create,
    publish,
    stored_rows,
)
from tests.services.store.stored import Replica, make_collection

pytestmark = pytest.mark.asyncio


async def test_equal_documents_share_and_the_last_one_cleans_up(store: Store) -> None:
    one = await make_collection(store, "one", "a")
    two = await make_collection(store, "one", "b")
    for collection, name in ((one, "x"), (one, "y"), (two, "x")):
        await create(store, collection, name)
        await publish(store, collection)
    assert await stored_rows(store) == (1, 1, 1, 3)
    async with snapshot_scan(store, "one", one.uid) as feed:
        assert isinstance(feed, Feed)
        points = [stored async for page in feed.pages() for stored in page.upserts]
    assert {p.point.id for p in points} == {f"{name}#{n}" for name in "xy" for n in range(3)}
    for stored in points:
        assert stored.span is not None
        assert stored.point.text == TEXT[stored.span.start : stored.span.end]
        assert stored.point.payload == {"of": stored.point.document}
        assert stored.point.vector is not None
        assert stored.point.vector.tolist() == [stored.point.passage_index + 1] * 4
    replica = Replica(one)
    await replica.catch_up(store)
    async with store.transaction("one") as tx:
        assert (await delete_document(tx, one, "x")).deleted == 3
    assert await stored_rows(store) == (1, 1, 1, 3)
    await replica.catch_up(store)
    assert set(replica.texts) == {"y#0", "y#1", "y#2"}
    async with store.transaction("one") as tx:
        await delete_document(tx, one, "y")
        await delete_document(tx, two, "x")
    assert await stored_rows(store) == (0, 0, 0, 0)


async def test_tenants_do_not_share(store: Store) -> None:
    for tenant in ("one", "two"):
        collection = await make_collection(store, tenant, "c")
        await create(store, collection, "x")
        await publish(store, collection)
    assert await stored_rows(store) == (2, 2, 2, 6)


async def test_a_collection_takes_its_documents_along_but_not_what_others_share(
    store: Store,
) -> None:
    one = await make_collection(store, "one", "a")
    two = await make_collection(store, "one", "b")
    await create(store, one, "x")
    await create(store, two, "x")
    await create(store, one, "z", b"another file")
    async with store.transaction("one") as tx:
        await delete_collection(tx, "a")
    assert (await stored_rows(store))[0] == 1
    async with store.transaction("one") as tx:
        assert (await jobs.get_job(tx, "job-a-x")).state == "cancelled"
        assert (await jobs.get_job(tx, "job-b-x")).state == "queued"
    with pytest.raises(CollectionNotFound):
        await create(store, one, "late")


async def test_a_document_whose_file_is_not_kept_is_not_made(store: Store) -> None:
    collection = await make_collection(store, "one", "c")

    async def nowhere(name: str) -> bool:
        return False

    with pytest.raises(NotKept):
        async with store.transaction("one") as tx:
            await create_document(
                tx, collection, NewDocument(id="y"), content_of(), job_id="j", exists=nowhere
            )
    assert await stored_rows(store) == (0, 0, 0, 0)
    async with store.transaction("one") as tx:
        assert await list_documents(tx, collection) == []


async def test_documents_are_found_by_name_and_page(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    for name in ("b", "a", "c"):
        await create(store, collection, name)
    with pytest.raises(DocumentExists):
        await create(store, collection, "b")
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
    await create(store, collection, "x")
    await publish(store, collection)
    async with store.transaction("one") as tx:
        document = await get_document(tx, collection, "x")
        assert (document.state, document.passages, document.title) == ("active", 3, "Title")
        assert document.text_characters == len(TEXT)
        assert document.text_key is not None and document.passage_set_key is not None
        text = await get_text(tx, document.text_key)
        assert text is not None and (text.title, text.sections) == ("Title", 1)
        section = await get_section(tx, document.text_key, 0)
        assert section is not None and section.text == TEXT
        rows = await list_passages(tx, document.passage_set_key, after_index=0, limit=2)
        assert [(r.passage_index, r.text, r.heading_path, r.places, r.parent) for r in rows] == [
            (1, TEXT[31:62], ("A", "B"), PLACES[:1], Span(0, 62)),
            (2, TEXT[62:93], ("A", "B"), PLACES, None),
        ]
        job = await jobs.get_job(tx, document.ingest_job)
        head = await get_head(tx, "one", collection.uid)
    assert head is not None
    assert (job.state, job.watermark, job.passages_done) == ("succeeded", head.seq, 3)
    assert job.finished and job.finish_time is not None


async def test_parts_of_a_larger_passage_lead_to_it(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    other = await make_collection(store, "two", "c")
    await create(store, collection, "x")
    await publish(store, collection)
    ids = ["x#0", "x#1", "x#2", "y#0"]
    async with store.transaction("one") as tx:
        found = await parents_of(tx, collection, ids)
    assert found == dict.fromkeys(ids[:2], Parent(Span(0, 62), TEXT[:62], None))
    async with store.transaction("two") as tx:
        assert await parents_of(tx, other, ids) == {}


async def test_a_job_goes_to_one_worker_and_after_its_lease_to_another(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    for number in range(10):
        await create(store, collection, f"x{number}", bytes([number]))

    async def claim(owner: str) -> list[jobs.IngestJob]:
        async with store.system() as tx:
            return await jobs.claim_jobs(tx, owner, lease_s=60, limit=3)

    [first] = (await claim("early"))[:1]
    claimed = await asyncio.gather(*(claim(f"w{n}") for n in range(5)))
    names = [job.id for batch in claimed for job in batch]
    assert len(names) == len(set(names)) == 7
    # A worker may have died of its job: when the lease has just run out, the job waits a moment.
    for age_s, found in ((0, 0), (60, 3)):
        async with store.system() as tx:
            await tx.run(
                "UPDATE ingest_jobs SET lease_until = clock_timestamp() - make_interval(secs => %s)"
                " WHERE starts_with(lease_owner, 'early/')",
                (age_s,),
            )
        again = await claim("late")
        assert len(again) == found
    assert [job.attempts for job in again] == [2, 2, 2]
    async with store.transaction("one") as tx:  # the first worker has lost it
        assert not await jobs.advance_job(tx, first, "embed", lease_s=60)
        assert not await jobs.fail_job(tx, first, {"reason": "late"})
    with pytest.raises(FailedPrecondition):
        async with store.transaction("one") as tx:
            await publish_document(tx, collection, first)


async def test_a_job_shows_its_progress_waits_and_fails_with_a_reason(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    await create(store, collection, "x")
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
        await create(store, collection, name)
    async with store.transaction("one") as tx:
        page = await jobs.list_jobs(tx, limit=2)
        assert [job.document_id for job in page] == ["z", "y"]
        last = page[-1]
        rest = await jobs.list_jobs(tx, before=(last.create_time, last.id))
        assert [job.document_id for job in rest] == ["x"]
        of_one = await jobs.list_jobs(tx, collection_uid=one.uid, state="queued")
        assert [job.document_id for job in of_one] == ["z", "x"]
        assert await jobs.list_jobs(tx, state="failed") == []
