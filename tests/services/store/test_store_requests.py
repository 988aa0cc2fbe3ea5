"""A repeated request gets the first answer, and what it did is done once."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import RequestIdReused
from services.store import cleanup
from services.store.collections import Collection
from services.store.points import apply_batch
from services.store.requests import recall, remember
from services.store.store import Store, Tx
from tests.services.store.stored import make_collection, point

pytestmark = pytest.mark.asyncio

_PAYLOAD = b"p" * 32


async def _upsert(tx: Tx, collection: Collection) -> bytes:
    first = await recall(tx, "r", "Upsert", _PAYLOAD)
    if first is not None:
        return first
    commit = await apply_batch(tx, collection, [point("p")])
    await remember(tx, "r", "Upsert", _PAYLOAD, str(commit.seq).encode())
    return str(commit.seq).encode()


async def test_repeating_at_the_same_time_does_it_once(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    answers = await asyncio.gather(
        *(store.run("one", lambda tx: _upsert(tx, collection)) for _ in range(10))
    )
    assert answers == [b"1"] * 10


async def test_a_request_that_failed_may_be_repeated(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    with pytest.raises(ZeroDivisionError):
        async with store.transaction("one") as tx:
            await _upsert(tx, collection)
            raise ZeroDivisionError
    async with store.transaction("one") as tx:
        assert await recall(tx, "r", "Upsert", _PAYLOAD) is None
        assert await _upsert(tx, collection) == b"1"


@pytest.mark.parametrize(("method", "payload"), [("Upsert", b"q" * 32), ("Delete", _PAYLOAD)])
async def test_another_payload_or_method_is_refused(
    store: Store, method: str, payload: bytes
) -> None:
    async with store.transaction("one") as tx:
        await remember(tx, "r", "Upsert", _PAYLOAD, b"")
    with pytest.raises(RequestIdReused) as caught:
        async with store.transaction("one") as tx:
            await recall(tx, "r", method, payload)
    assert caught.value.field == "request_id"
    async with store.transaction("one") as tx:
        assert await recall(tx, "r", "Upsert", _PAYLOAD) == b""


async def test_only_old_requests_are_forgotten(store: Store) -> None:
    async with store.transaction("one") as tx:
        for name in ("old", "new"):
            await remember(tx, name, "Upsert", _PAYLOAD, b"")
        await tx.run(
            "UPDATE requests SET create_time = now() - interval '3 days' WHERE request_id = 'old'"
        )
    async with store.system() as tx:
        assert await cleanup.purge_requests(tx) == 1
    async with store.transaction("one") as tx:
        assert await recall(tx, "new", "Upsert", _PAYLOAD) == b""
        assert await recall(tx, "old", "Upsert", _PAYLOAD) is None
