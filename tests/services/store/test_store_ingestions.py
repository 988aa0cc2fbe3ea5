"""Ingestions that are cancelled, tried again and asked for anew, in any order: a document has one
unfinished job at most, its state says what its job came to, and who lost a job writes nothing."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from engine.errors import DocumentNotFound, FailedPrecondition, IngestJobFinished
from services.store import ingestions, jobs
from services.store.collections import Collection
from services.store.documents import (
    Document,
    delete_document,
    fail_document,
    get_document,
)
from services.store.jobs import IngestJob
from services.store.points import document_point_ids
from services.store.publishing import publish_document
from services.store.store import Store
from tests.services.store.publishing import create, make
from tests.services.store.stored import make_collection

pytestmark = pytest.mark.asyncio

_LOST = (FailedPrecondition, DocumentNotFound)
"""What a worker gets whose job is not its own any more, or whose version another one replaced."""


class _Bench:
    """One document of one collection, and whoever works on it."""

    def __init__(self, store: Store, collection: Collection) -> None:
        self.store, self.collection = store, collection
        self.held: list[IngestJob] = []
        """Every start of a job that some worker has ever had, the latest last."""
        self._made = 0

    async def create(self) -> IngestJob:
        await create(self.store, self.collection, "d", job_id=self._new())
        return (await self.jobs())[0]

    async def claim(self) -> None:
        async with self.store.system() as tx:
            self.held += await jobs.claim_jobs(tx, "node", lease_s=60, limit=9)

    async def publish(self, job: IngestJob) -> None:
        """Make and publish as a worker that believes to have this job."""
        async with self.store.transaction("one") as tx:
            await make(tx, job)
        async with self.store.transaction("one") as tx:
            await publish_document(tx, self.collection, job)

    async def fail(self, job: IngestJob) -> bool:
        async with self.store.transaction("one") as tx:
            ours = await jobs.fail_job(tx, job, {"reason": "X"})
            if ours:
                await fail_document(tx, self.collection, "d")
        return ours

    async def cancel(self, job_id: str) -> IngestJob:
        async with self.store.transaction("one") as tx:
            return await ingestions.cancel_ingestion(tx, job_id)

    async def retry(self, job_id: str) -> IngestJob:
        async with self.store.transaction("one") as tx:
            return await ingestions.retry_ingestion(tx, job_id)

    async def reindex(self) -> IngestJob:
        async with self.store.transaction("one") as tx:
            _, job = await ingestions.reindex_document(tx, self.collection, "d", job_id=self._new())
        return job

    async def document(self) -> Document:
        async with self.store.transaction("one") as tx:
            return await get_document(tx, self.collection, "d")

    async def jobs(self) -> list[IngestJob]:
        async with self.store.transaction("one") as tx:
            return await jobs.list_jobs(tx)

    async def points(self) -> int:
        async with self.store.transaction("one") as tx:
            return len(await document_point_ids(tx, self.collection, "d"))

    def _new(self) -> str:
        self._made += 1
        return f"j{self._made}"


@pytest.fixture
async def bench(store: Store) -> _Bench:
    return _Bench(store, await make_collection(store, "one", "c"))


async def test_who_had_a_job_before_it_was_cancelled_and_tried_again_writes_nothing(
    bench: _Bench,
) -> None:
    job = await bench.create()
    await bench.claim()
    assert (await bench.cancel(job.id)).state == "cancelled"
    assert (await bench.document()).state == "failed"
    assert (await bench.retry(job.id)).state == "queued"
    await bench.claim()
    early, late = bench.held
    assert early.attempts == late.attempts == 1, "attempts are counted anew"
    with pytest.raises(_LOST):
        await bench.publish(early)
    assert not await bench.fail(early)
    async with bench.store.transaction("one") as tx:
        assert not await jobs.advance_job(tx, early, "embed", lease_s=60)
    await bench.publish(late)
    assert (await bench.document()).state == "active"


async def test_a_job_that_waits_is_hastened_and_one_that_runs_gives_way(bench: _Bench) -> None:
    job = await bench.create()
    assert (await bench.reindex()).id == job.id, "it has not begun"
    await bench.claim()
    async with bench.store.transaction("one") as tx:
        assert await jobs.requeue_job(tx, bench.held[0], delay_s=3_600)
    await bench.claim()
    assert len(bench.held) == 1
    assert (await bench.retry(job.id)).state == "queued"
    await bench.claim()
    assert [held.attempts for held in bench.held] == [1, 2], "it goes on where it was"
    later = await bench.reindex()
    assert later.id != job.id
    with pytest.raises(_LOST):
        await bench.publish(bench.held[-1])
    with pytest.raises(IngestJobFinished, match=later.id):
        await bench.retry(job.id)


async def test_a_job_of_a_deleted_document_is_not_tried_again(bench: _Bench) -> None:
    job = await bench.create()
    async with bench.store.transaction("one") as tx:
        await delete_document(tx, bench.collection, "d")
    with pytest.raises(DocumentNotFound):
        await bench.retry(job.id)
    assert (await bench.cancel(job.id)).state == "cancelled"


@pytest.mark.parametrize("seed", range(4))
async def test_in_any_order_the_document_says_what_became_of_it(bench: _Bench, seed: int) -> None:
    chance = random.Random(seed)
    await bench.create()
    published = False

    async def some_job() -> str:
        return chance.choice(await bench.jobs()).id

    async def worker(act: Callable[[IngestJob], Awaitable[object]]) -> None:
        nonlocal published
        if bench.held:
            held = chance.choice(bench.held[-3:])
            await act(held)
            published = published or act == bench.publish

    for _ in range(60):
        before = await bench.points()
        what = chance.choice(["claim", "publish", "fail", "cancel", "retry", "reindex"])
        try:
            if what == "claim":
                await bench.claim()
            elif what in ("publish", "fail"):
                await worker(bench.publish if what == "publish" else bench.fail)
            elif what == "reindex":
                await bench.reindex()
            else:
                await (bench.cancel if what == "cancel" else bench.retry)(await some_job())
        except _LOST:
            assert await bench.points() == before
        found, document = await bench.jobs(), await bench.document()
        unfinished = [job for job in found if not job.finished]
        assert len(unfinished) <= 1
        (current,) = [job for job in found if job.id == document.ingest_job]
        assert not unfinished or unfinished == [current]
        assert (await bench.points() > 0) == published
        if published:
            assert document.state == "active"
        else:
            assert document.state == ("failed" if current.finished else "ingesting")
