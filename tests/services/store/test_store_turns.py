"""Whose documents are ingested first."""

from __future__ import annotations

import pytest

from services.store import jobs
from services.store.collections import get_collection
from services.store.store import Store
from tests.services.store.publishing import create
from tests.services.store.stored import make_collection

pytestmark = pytest.mark.asyncio


async def test_tenants_take_turns_and_people_go_before_bulk(store: Store) -> None:
    for tenant, count in (("busy", 6), ("calm", 2)):
        collection = await make_collection(store, tenant, "c")
        for number in range(count):
            await create(store, collection, f"b{number}", job_id=f"{tenant}-{number}", bulk=True)
    async with store.system() as tx:
        one_by_one = [(await jobs.claim_jobs(tx, "w", lease_s=60, limit=1))[0].id for _ in range(5)]
    assert one_by_one == ["busy-0", "calm-0", "busy-1", "calm-1", "busy-2"]
    async with store.transaction("busy") as tx:
        collection = await get_collection(tx, "c")
    await create(store, collection, "now", job_id="busy-now")
    async with store.system() as tx:
        claimed = await jobs.claim_jobs(tx, "w", lease_s=60, limit=9)
        assert [job.id for job in claimed] == ["busy-now", "busy-3", "busy-4", "busy-5"]


async def test_bulk_that_waited_for_long_is_no_longer_put_behind(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    await create(store, collection, "old", bulk=True)
    async with store.system() as tx:
        await tx.run("UPDATE ingest_jobs SET create_time = now() - interval '11 minutes'")
    await create(store, collection, "new")
    async with store.system() as tx:
        claimed = await jobs.claim_jobs(tx, "w", lease_s=60, limit=2)
    assert [job.document_id for job in claimed] == ["old", "new"]
