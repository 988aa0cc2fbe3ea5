"""Messages of sessions: a tree that is as it was written, page by page, whoever writes beside; and
sessions that end when their time is over."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import LimitReached, MessageNotFound, SessionExists, SessionNotFound
from services.store import messages, sessions
from services.store.messages import NewMessage, Page
from services.store.sessions import Session
from services.store.store import Store
from tests.services.store.stored import Database

WRITES = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 12)), min_size=1, max_size=12)
"""What each write follows (modulo what is there) and how many messages it has."""


def said(*texts: str) -> list[NewMessage]:
    return [NewMessage(role=1, text=text, payload={}) for text in texts]


async def made(store: Store, **asked: Any) -> Session:
    async with store.transaction("t") as tx:
        return await sessions.create_session(tx, str(uuid.uuid4()), payload={}, **asked)


async def append(
    store: Store, session: Session, texts: list[str], parent: int | None = None
) -> list[int]:
    async with store.transaction("t") as tx:
        _, appended = await messages.append_messages(tx, session.id, said(*texts), parent)
    return [message.index for message in appended]


async def pages(read: Callable[[int], Awaitable[Page]], *, by_depth: bool = False) -> list[int]:
    """The indexes of everything, page by page."""
    found: list[int] = []
    after = 0
    while True:
        page = await read(after)
        found += [message.index for message in page.messages]
        if not page.more:
            return found
        assert page.messages
        after = page.messages[-1].depth if by_depth else page.messages[-1].index


async def branch(
    store: Store, session: Session, leaf: int, size: int, *, newest_first: bool = False
) -> list[int]:
    async def read(after: int) -> Page:
        async with store.transaction("t") as tx:
            place = await messages.get_place(tx, session, leaf, "leaf_index")
            return await messages.list_branch(
                tx, session, place, after=after, limit=size, newest_first=newest_first
            )

    return await pages(read, by_depth=True)


async def children(store: Store, session: Session, parent: int, size: int) -> list[int]:
    async def read(after: int) -> Page:
        async with store.transaction("t") as tx:
            return await messages.list_children(tx, session, parent, after=after, limit=size)

    return await pages(read)


async def everything(
    store: Store, session: Session, size: int, *, newest_first: bool = False
) -> list[int]:
    async def read(after: int) -> Page:
        async with store.transaction("t") as tx:
            return await messages.list_all(
                tx, session, after=after, limit=size, newest_first=newest_first
            )

    return await pages(read)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=WRITES, size=st.integers(1, 9))
async def test_a_tree_is_what_a_dictionary_would_be(
    store: Store, writes: list[tuple[int, int]], size: int
) -> None:
    session = await made(store)
    parents: dict[int, int] = {}
    for at, count in writes:
        parent = at % (len(parents) + 1)
        indexes = await append(store, session, ["x"] * count, parent)
        for index in indexes:
            assert index == len(parents) + 1
            parents[index], parent = parent, index
    total = len(parents)
    assert await everything(store, session, size) == list(range(1, total + 1))
    assert await everything(store, session, size, newest_first=True) == list(range(total, 0, -1))
    for leaf in {total, total // 2 + 1, 1}:
        expected, at = [], leaf
        while at:
            expected.append(at)
            at = parents[at]
        assert await branch(store, session, leaf, size, newest_first=True) == expected
        assert await branch(store, session, leaf, size) == expected[::-1]
        following = sorted(i for i, parent in parents.items() if parent == leaf)
        assert await children(store, session, leaf, size) == following
    first = sorted(i for i, parent in parents.items() if parent == 0)
    assert await children(store, session, 0, size) == first


async def test_a_page_of_a_hundred_thousand_reads_a_page(store: Store) -> None:
    session = await made(store)
    for _ in range(100):
        await append(store, session, ["What was said."] * 1_000)
    assert (await branch(store, session, 100_000, 1_000))[::10_000] == list(
        range(1, 100_000, 10_000)
    )
    async with store.transaction("t") as tx:
        leaf = await messages.get_place(tx, session, 100_000, "leaf_index")
        key = {"tenant": "t", "uid": session.uid, "leaf": leaf.index}
        for after in (0, 50_000, 99_900):
            bounds = {"to_depth": after + 51, "after_depth": after}
            explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + messages._BRANCH
            rows = await tx.rows(explain, {**key, **bounds})
            plan = rows[0][0] if not isinstance(rows[0][0], str) else json.loads(rows[0][0])
            # 51 rows by their key, and a look for each of some 20 jumps: not 100,000.
            assert plan[0]["Plan"]["Shared Hit Blocks"] < 1_000
    async with store.transaction("t") as tx:
        gone = await sessions.delete_session(tx, session.id)
        left = await tx.row("SELECT count(*) FROM messages WHERE session_uid = %s", (session.uid,))
    assert gone.messages == 100_000
    assert left is not None and left[0] == 0


async def test_writers_at_the_same_time_lose_nothing(store: Store) -> None:
    session = await made(store)
    await append(store, session, ["first"])
    writes = [append(store, session, ["a", "b", "c"], 1) for _ in range(8)]
    found = await asyncio.gather(*writes)
    assert sorted(i for indexes in found for i in indexes) == list(range(2, 26))
    for indexes in found:
        assert indexes == list(range(indexes[0], indexes[0] + 3))
        assert await branch(store, session, indexes[-1], 10) == [1, *indexes]
    assert await children(store, session, 1, 100) == sorted(indexes[0] for indexes in found)


async def test_without_a_parent_each_write_follows_the_one_committed_before(store: Store) -> None:
    session = await made(store)
    await asyncio.gather(*(append(store, session, ["a", "b"]) for _ in range(8)))
    assert await branch(store, session, 16, 100) == list(range(1, 17))


async def test_a_write_that_is_cut_off_leaves_nothing(store: Store, database: Database) -> None:
    session = await made(store)
    begun = asyncio.Event()

    async def cut_off() -> None:
        async with store.transaction("t") as tx:
            await messages.append_messages(tx, session.id, said("lost"), None)
            begun.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(cut_off())
    await begun.wait()
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s "
            "AND state = 'idle in transaction'",
            (database.name,),
        )
    assert await append(store, session, ["kept"]) == [1]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await everything(store, session, 10) == [1]


async def test_what_is_not_there_cannot_be_followed(store: Store) -> None:
    session = await made(store)
    with pytest.raises(MessageNotFound, match="0 messages"):
        await append(store, session, ["x"], 1)
    with pytest.raises(SessionExists):
        async with store.transaction("t") as tx:
            await sessions.create_session(tx, session.id, payload={})
    assert await append(store, session, ["x"]) == [1]


async def test_a_full_session_takes_no_more_and_says_what_to_do(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MESSAGES_MAX", 3)
    session = await made(store)
    await append(store, session, ["a", "b"])
    with pytest.raises(LimitReached, match="has 2 messages and takes at most 3"):
        await append(store, session, ["c", "d"])
    assert await append(store, session, ["c"]) == [3]


async def test_a_page_of_long_messages_ends_early(store: Store) -> None:
    session = await made(store)
    await append(store, session, ["é" * 100_000] * 60)
    async with store.transaction("t") as tx:
        page = await messages.list_all(tx, session, after=0, limit=60)
    assert page.more
    assert sum(message.size_bytes for message in page.messages) <= messages.PAGE_BYTES_MAX
    assert await everything(store, session, 60) == list(range(1, 61))


async def test_a_session_ends_after_its_last_message(store: Store, database: Database) -> None:
    session = await made(store, ttl_s=3600)
    kept = await made(store)
    assert session.expire_time is not None and kept.expire_time is None
    await append(store, session, ["x"])
    async with store.transaction("t") as tx:
        later = await sessions.get_session(tx, session.id)
    assert later.expire_time is not None and later.expire_time > session.expire_time
    _set(database, "expire_time = now() - interval '1 s'", session)
    for ask in (sessions.get_session, sessions.delete_session):
        with pytest.raises(SessionNotFound, match="time is over"):
            async with store.transaction("t") as tx:
                await ask(tx, session.id)
    with pytest.raises(SessionNotFound):
        await append(store, session, ["y"])
    async with store.transaction("t") as tx:
        assert [row.id for row in await sessions.list_sessions(tx)] == [kept.id]
    async with store.system() as tx:
        assert await sessions.purge_sessions(tx) == 1
        assert await sessions.purge_sessions(tx) == 0
        left = await tx.row("SELECT count(*) FROM messages")
    assert left is not None and left[0] == 0


async def test_clean_up_removes_a_bounded_piece_at_a_time(store: Store, database: Database) -> None:
    for texts in (["a"] * 3, ["b"] * 3, [], ["c"]):
        session = await made(store, ttl_s=60)
        if texts:
            await append(store, session, texts)
        _set(database, "expire_time = now() - interval '1 s'", session)
    removed: list[int] = []
    while not removed or removed[-1]:
        async with store.system() as tx:
            removed.append(await sessions.purge_sessions(tx, messages_max=4))
    assert removed[0] < 4 and sum(removed) == 4


async def test_an_id_whose_session_has_ended_is_free_before_it_is_removed(
    store: Store, database: Database
) -> None:
    session = await made(store, ttl_s=60)
    await append(store, session, ["old"])
    _set(database, "expire_time = now() - interval '1 s'", session)
    async with store.transaction("t") as tx:
        again = await sessions.create_session(tx, session.id, payload={})
    assert (again.messages, again.uid != session.uid) == (0, True)
    assert await everything(store, again, 10) == []


async def test_a_clock_that_jumps_back_changes_no_order_and_no_end(
    store: Store, database: Database
) -> None:
    session = await made(store, ttl_s=60)
    await append(store, session, ["before"])
    # As if the clock had been a day ahead until now.
    ahead = "update_time = now() + interval '1 day', expire_time = now() + interval '1 day 60 s'"
    _set(database, ahead, session)
    async with store.transaction("t") as tx:
        then = await sessions.get_session(tx, session.id)
        grown, appended = await messages.append_messages(tx, session.id, said("after"), None)
        listed = await messages.list_all(tx, session, after=0, limit=10)
    assert grown.update_time == then.update_time == appended[0].create_time
    assert grown.expire_time == then.expire_time
    assert [message.text for message in listed.messages] == ["before", "after"]


def _set(database: Database, what: str, session: Session) -> None:
    with psycopg.connect(
        psycopg.conninfo.make_conninfo(database.admin_url, dbname=database.name), autocommit=True
    ) as admin:
        admin.execute(f"UPDATE sessions SET {what} WHERE uid = %s".encode(), (session.uid,))
