"""Whatever happens to PostgreSQL, callers see errors of ragmesh, and nothing half done."""

from __future__ import annotations

import asyncio
import contextlib

import psycopg
import pytest

from engine.errors import DeadlineExceeded, StoreUnavailable
from services.store.points import apply_batch
from services.store.store import Store, Tx
from tests.services.store.stored import Database, Replica, make_collection, point

pytestmark = pytest.mark.asyncio


def _kill_connections(database: Database) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE datname = %s",
            (database.name,),
        )


async def test_a_connection_killed_in_a_transaction_leaves_nothing_behind(
    store: Store, database: Database
) -> None:
    collection = await make_collection(store, "one", "c")
    with pytest.raises(StoreUnavailable) as caught:
        async with store.transaction("one") as tx:
            await apply_batch(tx, collection, [point("lost")])
            _kill_connections(database)
    assert caught.value.metadata == {"outcome": "unknown"}  # it died before COMMIT was answered
    async with store.transaction("one") as tx:
        await apply_batch(tx, collection, [point("kept")])
    replica = Replica(collection)
    await replica.catch_up(store)
    assert replica.seqs == {"kept": 1}


async def test_connections_that_died_while_idle_are_passed_over(
    store: Store, database: Database
) -> None:
    async def use(_: int) -> None:
        async with store.transaction("one") as tx:
            await tx.rows("SELECT pg_sleep(0.02)")

    await asyncio.gather(*map(use, range(8)))
    _kill_connections(database)
    await asyncio.gather(*map(use, range(8)))


async def test_run_repeats_what_a_lost_connection_undid(store: Store, database: Database) -> None:
    collection = await make_collection(store, "one", "c")
    tries = 0

    async def work(tx: Tx) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            _kill_connections(database)
        return (await apply_batch(tx, collection, [point("p")])).seq

    assert await store.run("one", work) == 1
    assert tries == 2


async def test_a_deadlock_is_resolved_by_repeating(store: Store) -> None:
    collections = [await make_collection(store, "one", name) for name in ("a", "b")]
    both = asyncio.Barrier(2)
    tries = 0

    async def work(tx: Tx, order: list[int]) -> None:
        nonlocal tries
        tries += 1
        await apply_batch(tx, collections[order[0]], [point("p")])
        if tries <= 2:
            await both.wait()
        await apply_batch(tx, collections[order[1]], [point("p")])

    await asyncio.gather(
        store.run("one", lambda tx: work(tx, [0, 1])),
        store.run("one", lambda tx: work(tx, [1, 0])),
    )
    assert tries == 3


async def test_a_failed_statement_is_never_committed_around(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    with pytest.raises(RuntimeError, match="not committed"):
        async with store.transaction("one") as tx:
            await apply_batch(tx, collection, [point("p")])
            with contextlib.suppress(psycopg.Error):
                await tx.run("SELECT 1 / 0")


async def test_callers_beyond_the_bound_are_refused_at_once(database: Database) -> None:
    store = await Store.open(database.url, connections_max=1, waiting_max=1, wait_s=0.3)
    try:
        async with store.transaction("one"):
            results = await asyncio.gather(
                *(_once(store) for _ in range(4)), return_exceptions=True
            )
        assert all(isinstance(result, StoreUnavailable) for result in results)
        assert all(result.retry_after_s for result in results)  # type: ignore[union-attr]
        await _once(store)
    finally:
        await store.close()


async def _once(store: Store) -> None:
    async with store.transaction("one"):
        pass


async def test_a_deadline_bounds_a_statement(store: Store) -> None:
    with pytest.raises(DeadlineExceeded):
        async with store.transaction("one", timeout_s=0.05) as tx:
            await tx.rows("SELECT pg_sleep(5)")


async def test_a_cancelled_caller_leaves_a_usable_pool(database: Database) -> None:
    store = await Store.open(database.url, connections_max=2)
    try:
        collection = await make_collection(store, "one", "c")

        async def write(number: int) -> None:
            async with store.transaction("one") as tx:
                await apply_batch(tx, collection, [point(f"p{number}", str(number))])

        for number in range(40):
            task = asyncio.create_task(write(number))
            await asyncio.sleep(0.0002 * (number % 10))
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await write(99)
        replica = Replica(collection)
        await replica.catch_up(store)
        assert replica.texts["p99"] == "99"
        assert all(name == f"p{text}" for name, text in replica.texts.items())
        assert sorted(replica.seqs.values()) == list(range(1, len(replica.seqs) + 1))
    finally:
        await store.close()


async def test_no_server_is_said_in_our_words(database: Database) -> None:
    url = psycopg.conninfo.make_conninfo(database.url, host="/nowhere")
    with pytest.raises(StoreUnavailable):
        await Store.open(url)
