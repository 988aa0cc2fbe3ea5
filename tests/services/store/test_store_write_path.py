"""Acknowledged writes are in the log, in the order of their numbers, and no reader misses one."""

from __future__ import annotations

import asyncio
import random
import time

import numpy as np
import pytest

from engine.errors import CollectionNotFound, DimensionMismatch, InvalidField
from engine.types import Payload, Sentences
from services.store import cleanup
from services.store.changes import Feed, Gone, Rebuild, heads, heads_since, snapshot_scan
from services.store.collections import Collection, delete_collection
from services.store.points import PointRow, apply_batch
from services.store.store import Store
from tests.services.store.stored import Database, Replica, make_collection, point

pytestmark = pytest.mark.asyncio


async def _write(
    store: Store, collection: Collection, seed: int, rounds: int
) -> dict[int, dict[str, str | None]]:
    """Random overlapping batches; what each commit wrote (text) and deleted (None)."""
    choose = random.Random(seed)
    done: dict[int, dict[str, str | None]] = {}
    for number in range(rounds):
        ids = [f"p{choose.randrange(120)}" for _ in range(choose.randrange(1, 30))]
        choose.shuffle(ids)
        written, deleted = ids[: len(ids) * 2 // 3], set(ids[len(ids) * 2 // 3 :])
        deleted -= set(written)
        text = f"{seed}/{number}"
        async with store.transaction(collection.tenant) as tx:
            commit = await apply_batch(
                tx, collection, [point(name, text) for name in written], sorted(deleted)
            )
            if choose.random() < 0.2:
                await asyncio.sleep(0.002)
        if commit.upserted or commit.deleted:
            assert commit.seq not in done
            done[commit.seq] = dict.fromkeys(deleted) | dict.fromkeys(written, text)
    return done


def _state(commits: dict[int, dict[str, str | None]], seq: int) -> dict[str, str]:
    state: dict[str, str] = {}
    for number in sorted(commits):
        if number <= seq:
            for name, text in commits[number].items():
                if text is None:
                    state.pop(name, None)
                else:
                    state[name] = text
    return state


async def test_a_tailer_always_stands_at_a_prefix_of_the_commits(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    replica = Replica(collection)
    stop = asyncio.Event()
    stood: list[tuple[int, dict[str, str]]] = []

    async def tail() -> None:
        while not stop.is_set():
            assert isinstance(await replica.catch_up(store), Feed)
            assert replica.watermark is not None
            stood.append((replica.watermark.seq, dict(replica.texts)))
            await asyncio.sleep(0)

    tailer = asyncio.create_task(tail())
    async with store.transaction("other") as idle:  # holds back every xmin for the whole test
        await idle.run("CREATE TEMP TABLE held (x int)")
        await idle.run("INSERT INTO held VALUES (1)")
        results = await asyncio.gather(*(_write(store, collection, seed, 12) for seed in range(12)))
    stop.set()
    await tailer
    await replica.catch_up(store)
    commits = {seq: change for result in results for seq, change in result.items()}
    assert sorted(commits) == list(range(1, len(commits) + 1))
    assert len(stood) > 5
    for seq, texts in stood:
        assert texts == _state(commits, seq), f"at {seq}"
    assert replica.texts == _state(commits, len(commits))
    fresh = Replica(collection)
    await fresh.catch_up(store)
    assert (fresh.texts, fresh.seqs) == (replica.texts, replica.seqs)


async def test_a_delete_that_waited_sees_what_the_writer_before_it_wrote(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    async with store.transaction("one") as first:
        await apply_batch(first, collection, [point("p", "first")])

        async def delete() -> int:
            async with store.transaction("one") as second:
                return (await apply_batch(second, collection, [], ["p"])).deleted

        waiting = asyncio.create_task(delete())
        await asyncio.sleep(0.1)
        assert not waiting.done()
    assert await waiting == 1
    replica = Replica(collection)
    await replica.catch_up(store)
    assert replica.texts == {}


async def test_what_a_batch_says_it_did(store: Store) -> None:
    collection = await make_collection(store, "one", "c")

    async def apply(*args: object, **kwargs: object) -> tuple[int, int, int]:
        async with store.transaction("one") as tx:
            commit = await apply_batch(tx, collection, *args, **kwargs)  # type: ignore[arg-type]
            return commit.seq, commit.upserted, commit.deleted

    assert await apply([point("a", "1"), point("b"), point("a", "2")]) == (1, 2, 0)
    assert await apply([], ["nothing", "there"]) == (1, 0, 0)  # no commit where nothing was
    assert await apply([point("c")], ["a", "a", "x"]) == (2, 1, 1)
    assert await apply([], ["b", "c"], unchanged_since=1) == (3, 0, 1)  # c came later
    assert await apply() == (3, 0, 0)
    replica = Replica(collection)
    await replica.catch_up(store)
    assert replica.seqs == {"c": 2}


async def test_values_come_back_as_they_were_written(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    vector = np.array([1.5, -0.0, 3e-39, -3e38], dtype=np.float32)
    sentences = Sentences(
        np.array([[0, 3], [4, 9]], np.int32), np.array([[1, -127], [3, 4]], np.int8)
    )
    payload: Payload = {
        "whole": 1,
        "float": 1.0,
        "big": 1e300,
        "text": "ü\u2028",
        "list": [None, {"a": []}],
    }
    rows = [
        PointRow(id="ü", vector=vector, text="x'\\", payload=payload, sentences=sentences),
        PointRow(id="words only", text="no vector"),
    ]
    async with store.transaction("one") as tx:
        await apply_batch(tx, collection, rows)
    async with snapshot_scan(store, "one", collection.uid) as feed:
        assert isinstance(feed, Feed)
        found = {p.point.id: p.point async for page in feed.pages() for p in page.upserts}
    full, words = found["ü"], found["words only"]
    assert full.vector is not None and full.vector.tobytes() == vector.tobytes()
    assert full.text == "x'\\"
    assert full.payload == payload
    assert isinstance(full.payload["float"], float) and isinstance(full.payload["whole"], int)
    assert full.sentences is not None
    assert np.array_equal(full.sentences.spans, sentences.spans)
    assert np.array_equal(full.sentences.vectors, sentences.vectors)
    assert words.vector is None and words.sentences is None


@pytest.mark.parametrize(
    ("row", "deletes", "error"),
    [
        (point("p", dimensions=5), [], DimensionMismatch),
        (PointRow(id=""), [], InvalidField),
        (PointRow(id="x" * 257), [], InvalidField),
        (PointRow(id="a\0b"), [], InvalidField),
        (PointRow(id="p", text="a\0b"), [], InvalidField),
        (PointRow(id="p", payload={"x": float("nan")}), [], InvalidField),
        (point("p"), ["p"], InvalidField),
    ],
)
async def test_a_bad_point_is_refused_and_its_batch_not_half_written(
    store: Store, row: PointRow, deletes: list[str], error: type[Exception]
) -> None:
    collection = await make_collection(store, "one", "c")
    replica = Replica(collection)
    await replica.catch_up(store)
    before = replica.watermark
    with pytest.raises(error):
        async with store.transaction("one") as tx:
            await apply_batch(tx, collection, [point("good"), row], deletes)
    await replica.catch_up(store)
    assert replica.texts == {} and before is not None and replica.watermark == before


async def test_a_deleted_collection_takes_no_writes_and_its_points_go(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    async with store.transaction("one") as tx:
        await apply_batch(tx, collection, [point(f"p{n}") for n in range(30)])
    replica = Replica(collection)
    await replica.catch_up(store)
    async with store.transaction("one") as tx:
        await delete_collection(tx, "c")
    again = await make_collection(store, "one", "c")
    assert again.uid != collection.uid
    with pytest.raises(CollectionNotFound):
        async with store.transaction("one") as tx:
            await apply_batch(tx, collection, [point("late")])
    assert isinstance(await replica.catch_up(store), Gone)
    removed = 0
    async with store.system() as tx:
        while piece := await cleanup.purge_points(tx, rows_max=7):
            removed += piece
        assert removed == 31  # and the note of the deletion
        assert await tx.rows("SELECT 1 FROM points") == []


async def test_an_index_below_the_floor_starts_anew(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    slow, fast = Replica(collection), Replica(collection)
    for number in range(6):
        async with store.transaction("one") as tx:
            await apply_batch(tx, collection, [point(f"p{number}")], [f"p{number - 1}"])
        await fast.catch_up(store)
        if number == 1:
            await slow.catch_up(store)
    async with store.system() as tx:
        assert await cleanup.trim_log(tx, "one", collection.uid, 99) == 5
    assert isinstance(await fast.catch_up(store), Feed)
    refused = await slow.catch_up(store)
    assert isinstance(refused, Rebuild) and "trimmed" in refused.reason
    fresh = Replica(collection)
    await fresh.catch_up(store)
    assert fresh.texts == fast.texts == {"p5": ""}


async def test_a_log_restored_from_an_older_backup_is_noticed(database: Database) -> None:
    store = await Store.open(database.url)
    collection = await make_collection(store, "one", "c")
    early, late = Replica(collection), Replica(collection)
    async with store.transaction("one") as tx:
        await apply_batch(tx, collection, [point("a", "kept")])
    await early.catch_up(store)
    await store.close()
    backup = database.backup()
    store = await Store.open(database.url)
    async with store.transaction("one") as tx:
        await apply_batch(tx, collection, [point("b", "lost")])
    await late.catch_up(store)
    await store.close()

    restored = await Store.open(backup.url)
    try:
        async with restored.transaction("one") as tx:  # the same number as the lost commit
            commit = await apply_batch(tx, collection, [point("c", "new")])
        assert late.watermark is not None and commit.seq == late.watermark.seq
        refused = await late.catch_up(restored)
        assert isinstance(refused, Rebuild) and "restored" in refused.reason
        assert isinstance(await early.catch_up(restored), Feed)
        assert early.texts == {"a": "kept", "c": "new"}
    finally:
        await restored.close()


async def test_heads_tell_which_collections_moved(store: Store) -> None:
    one = await make_collection(store, "one", "c")
    two = await make_collection(store, "two", "c")
    async with store.system() as tx:
        seen = {head.collection_uid: head.seq for head in await heads(tx)}
        assert seen == {one.uid: 0, two.uid: 0}
    async with store.transaction("two") as tx:
        commit = await apply_batch(tx, two, [point("p")])
    async with store.system() as tx:
        moved = await heads_since(tx, seen)
    assert [(head.tenant, head.seq, head.change_id) for head in moved] == [
        ("two", 1, commit.change_id)
    ]


async def test_one_changed_row_is_found_without_reading_the_collection(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    async with store.transaction("one") as tx:
        await apply_batch(tx, collection, [point(f"p{n}") for n in range(5000)])
    replica = Replica(collection)
    await replica.catch_up(store)
    async with store.transaction("one") as tx:
        await apply_batch(tx, collection, [point("p7", "again")], ["p8"])
    before = await _read(store, collection)
    await replica.catch_up(store)
    assert replica.texts["p7"] == "again" and "p8" not in replica.texts
    assert await _read(store, collection) - before < 100


async def _read(store: Store, collection: Collection) -> int:
    """Index entries read from the table of points so far."""
    async with store.system() as tx:
        await tx.run("SELECT pg_stat_force_next_flush()")
    async with store.system() as tx:
        row = await tx.row(
            "SELECT sum(idx_tup_read) + (SELECT seq_tup_read FROM pg_stat_user_tables "
            "WHERE relname = 'points') FROM pg_stat_user_indexes WHERE relname = 'points'"
        )
    assert row is not None
    return int(row[0])


async def test_batches_are_written_fast_enough(store: Store) -> None:
    collection = await make_collection(store, "one", "c", 384)
    vectors = np.random.default_rng(1).standard_normal((500, 384)).astype(np.float32)
    start = time.perf_counter()
    for batch in range(10):
        rows = [
            PointRow(id=f"{batch}/{n}", vector=vectors[n], text="a text " * 40, payload={"n": n})
            for n in range(500)
        ]
        async with store.transaction("one") as tx:
            await apply_batch(tx, collection, rows)
    points_s = 5000 / (time.perf_counter() - start)
    print(f"\n{points_s:,.0f} durable points/s (batches of 500 x 384)")
    assert points_s > 2000
    start, count = time.perf_counter(), 0
    async with snapshot_scan(store, "one", collection.uid) as feed:
        assert isinstance(feed, Feed)
        async for page in feed.pages():
            count += len(page.upserts)
    print(f"{count / (time.perf_counter() - start):,.0f} points/s replayed")
    assert count == 5000
