"""Budgets in PostgreSQL: reserved at once or not at all, settled once, freed when nobody comes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from engine.errors import BudgetExceeded, BudgetNotFound, InvalidField, LimitReached
from engine.spending.grants import Grant, Room, Wanted, grant
from services.store import budgets
from services.store.budgets import Budget
from services.store.store import Store
from tests.services.store.stored import Database


@pytest_asyncio.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """One whose callers wait for a connection as long as a busy machine takes."""
    opened = await Store.open(database.url, connections_max=8, wait_s=60.0)
    yield opened
    await opened.close()


async def made(
    store: Store, tenant: str = "one", name: str = "all", session: str = "", tokens: int = 100
) -> Budget:
    async with store.transaction(tenant) as tx:
        return await budgets.set_budget(tx, name, session, 0, tokens, reset=False)


async def held(
    store: Store,
    tokens: int,
    *,
    tenant: str = "one",
    session: str = "",
    uid: uuid.UUID | None = None,
    lifetime_s: float = 60.0,
) -> Grant | None:
    def decide(rooms: Sequence[Room]) -> Grant:
        return grant(rooms, Wanted("generationModels/m", tokens - 1, 1, None))

    async with store.transaction(tenant) as tx:
        return await budgets.reserve(
            tx, session, decide, uid=uid or uuid.uuid4(), lifetime_s=lifetime_s
        )


async def counts(store: Store, tenant: str = "one", name: str = "all") -> tuple[int, int]:
    """Spent, and reserved."""
    async with store.transaction(tenant) as tx:
        found = await budgets.get_budget(tx, name)
    return found.spent_tokens, found.reserved_tokens


async def test_at_once_no_more_is_held_than_there_is(store: Store) -> None:
    await made(store, tokens=100)
    found = await asyncio.gather(*(held(store, 10) for _ in range(30)), return_exceptions=True)
    assert sum(isinstance(f, Grant) for f in found) == 10
    assert sum(isinstance(f, BudgetExceeded) for f in found) == 20
    assert await counts(store) == (0, 100)


async def test_where_one_of_two_has_no_room_nothing_is_held_in_either(store: Store) -> None:
    await made(store, tokens=1_000)
    await made(store, name="mine", session="mine", tokens=5)
    with pytest.raises(BudgetExceeded, match="budgets/mine"):
        await held(store, 10, session="mine")
    assert await counts(store) == (0, 0)
    assert await held(store, 5, session="mine") is not None
    assert (await counts(store), await counts(store, name="mine")) == ((0, 5), (0, 5))


async def test_both_orders_of_budgets_never_block_each_other(store: Store) -> None:
    await made(store, tokens=10**6)
    for name in ("mine", "yours"):
        await made(store, name=name, session=name, tokens=10**6)
    uids = [uuid.uuid4() for _ in range(60)]
    await asyncio.gather(
        *(held(store, 10, session=("mine", "yours")[i % 2], uid=u) for i, u in enumerate(uids))
    )

    async def settle(uid: uuid.UUID) -> None:
        async with store.transaction("one") as tx:
            await budgets.settle(tx, uid, nanos=0, tokens=3)

    await asyncio.gather(*(settle(uid) for uid in uids for _ in range(2)))
    assert await counts(store) == (180, 0)
    assert await counts(store, name="mine") == (90, 0)


async def test_a_tenant_without_a_budget_holds_nothing(store: Store) -> None:
    await made(store, tenant="two")
    assert await held(store, 10**9) is None
    async with store.system() as tx:
        assert await tx.rows("SELECT 1 FROM budget_reservations") == []


async def test_what_nobody_settles_is_spent_when_its_time_is_over(store: Store) -> None:
    await made(store)
    await made(store, tenant="two")
    late = uuid.uuid4()
    await held(store, 10, uid=late, lifetime_s=-1.0)
    await held(store, 20, tenant="two", lifetime_s=-1.0)
    await held(store, 30)
    async with store.transaction("one") as tx:
        assert await budgets.purge_reservations(tx) == 1
    assert await counts(store) == (10, 30)
    assert await counts(store, "two") == (0, 20)
    async with store.system() as tx:
        assert await budgets.purge_reservations(tx) == 1
        assert await budgets.purge_reservations(tx) == 0
    assert await counts(store, "two") == (20, 0)
    async with store.transaction("one") as tx:
        await budgets.settle(tx, late, nanos=0, tokens=3)
    assert await counts(store) == (10, 30)


async def test_a_budget_that_is_made_again_has_nothing_of_the_one_before(store: Store) -> None:
    await made(store)
    uid = uuid.uuid4()
    await held(store, 10, uid=uid)
    async with store.transaction("one") as tx:
        await budgets.delete_budget(tx, "all")
    await made(store)
    async with store.transaction("one") as tx:
        await budgets.settle(tx, uid, nanos=0, tokens=7)
    assert await counts(store) == (0, 0)


async def test_a_session_has_one_budget_and_a_budget_one_session(store: Store) -> None:
    await made(store, name="mine", session="mine")
    with pytest.raises(InvalidField, match="budgets/mine"):
        await made(store, name="other", session="mine")
    with pytest.raises(InvalidField, match="another session"):
        await made(store, name="mine", session="yours")
    found = await asyncio.gather(
        *(made(store, name=f"b{i}", session="new") for i in range(8)), return_exceptions=True
    )
    assert sum(isinstance(f, Budget) for f in found) == 1
    assert sum(isinstance(f, InvalidField) for f in found) == 7


async def test_a_tenant_has_so_many_budgets(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "BUDGETS_MAX", 2)
    for name in ("a", "b"):
        await made(store, name=name, session=name)
    await made(store, name="b", session="b", tokens=7)
    with pytest.raises(LimitReached):
        await made(store, name="c", session="c")
    async with store.transaction("one") as tx:
        assert [b.id for b in await budgets.list_budgets(tx)] == ["a", "b"]
        assert [b.id for b in await budgets.list_budgets(tx, after="a", limit=5)] == ["b"]
        with pytest.raises(BudgetNotFound):
            await budgets.delete_budget(tx, "c")
