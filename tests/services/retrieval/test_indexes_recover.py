"""An index that could not be built is built as soon as it can be, and who asks meanwhile waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from engine.errors import IndexUnavailable
from services.config import IndexSettings
from services.retrieval.index.opening import IndexRoom
from services.rpc.call import Call
from services.store.collections import Collection
from services.store.points import apply_batch
from services.store.store import Store
from tests.services.store.stored import Database, make_collection, point


@pytest_asyncio.fixture
async def room(store: Store, tmp_path: Path) -> AsyncIterator[IndexRoom]:
    threads = ThreadPoolExecutor(2)
    made = IndexRoom(store, threads, None, IndexSettings(), tmp_path, "node")
    yield made
    await made.close()
    threads.shutdown()


def call(seconds: float) -> Call:
    return Call("default", "r1", time.monotonic() + seconds)


async def rename(database: Database, old: str, new: str) -> None:
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as connection:
        await connection.execute(f"ALTER TABLE {old} RENAME TO {new}".encode())


async def written(store: Store) -> tuple[Collection, int]:
    collection = await make_collection(store, "default", "papers")
    async with store.transaction("default") as tx:
        commit = await apply_batch(tx, collection, [point("one")])
    return collection, commit.seq


async def test_a_caller_waits_for_the_next_try_and_is_not_told_of_one_that_failed_before(
    store: Store, database: Database, room: IndexRoom
) -> None:
    collection, seq = await written(store)
    await rename(database, "passages", "passages_away")
    await room.start()
    with pytest.raises(IndexUnavailable):
        await room.indexes.view(collection, seq, call(5))
    await rename(database, "passages_away", "passages")
    view = await room.indexes.view(collection, seq, call(5))
    assert view.points == 1


async def test_every_caller_who_waited_is_told_that_the_try_failed(
    store: Store, database: Database, room: IndexRoom
) -> None:
    collection, seq = await written(store)
    await rename(database, "passages", "passages_away")
    await room.start()
    outcomes = await asyncio.gather(
        *(room.indexes.view(collection, seq, call(5)) for _ in range(3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [IndexUnavailable] * 3
