"""Equal watermarks mean equal segments, which hold every live row once and whose files exist."""

from __future__ import annotations

import asyncio
import random

import pytest

from engine.errors import CollectionNotFound
from services.store import cleanup
from services.store.changes import Feed, Rebuild, read_changes
from services.store.collections import Collection, delete_collection
from services.store.points import Watermark
from services.store.segments import (
    NewSegment,
    Outdated,
    Published,
    SegmentRow,
    claim_build,
    publish,
    release_build,
    reset_segments,
    segments_at,
)
from services.store.store import Store
from tests.services.store.sealed import Files, check_cover, look, merge, say, seal, write
from tests.services.store.stored import Database, Replica, make_collection

pytestmark = pytest.mark.asyncio


async def test_readers_find_every_live_row_once_while_all_write_seal_and_merge(
    store: Store,
) -> None:
    collection = await make_collection(store, "one", "c")
    files, done = Files(), asyncio.Event()
    by_head: dict[Watermark, tuple[SegmentRow, ...]] = {}
    published: list[Published] = []

    def enough() -> bool:
        outdated = sum(isinstance(p, Outdated) for p in published)
        return outdated > 3 and len(published) - outdated > 10 and len(by_head) > 10

    async def writer(seed: int) -> list[int]:
        choose, seqs = random.Random(seed), list[int]()
        while len(seqs) < 40 or not enough():
            ids = sorted({f"p{choose.randrange(60)}" for _ in range(6)})
            seqs.append(await write(store, collection, ids[:4], ids[4:]))
        return seqs

    async def builder(seed: int) -> None:
        choose = random.Random(seed)
        while not done.is_set():
            if choose.random() < 0.6:
                published.append(await seal(store, collection, files))
            else:
                published.append(await merge(store, collection, files, choose.randrange(1, 4)))

    async def reader() -> None:
        while not done.is_set():
            seen = await look(store, collection)
            check_cover(seen, files)
            assert by_head.setdefault(seen.head, seen.segments) == seen.segments
            await asyncio.sleep(0)

    others = [asyncio.create_task(work) for work in (builder(1), builder(2), reader(), reader())]
    async with asyncio.timeout(120):
        written = await asyncio.gather(*(writer(seed) for seed in range(3)))
    done.set()
    await asyncio.gather(*others)
    last = await look(store, collection)
    check_cover(last, files)
    # Publications and writes share one sequence, in which nothing is missing and nothing is twice.
    taken = {p.seq for p in published if isinstance(p, Watermark)}.union(*written)
    assert taken == set(range(1, last.head.seq + 1))


async def test_of_two_builders_with_the_same_work_one_commits(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    files = Files()
    seq = await write(store, collection, ["a", "b"])
    added = files.put(frozenset({("a", seq), ("b", seq)}))
    results = await asyncio.gather(
        *(say(store, collection, files, [added], sealed=(0, seq)) for _ in range(5))
    )
    assert sorted(type(result).__name__ for result in results) == ["Outdated"] * 4 + ["Watermark"]
    seen = await look(store, collection)
    assert (seen.head.seq, seen.sealed_seq) == (seq + 1, seq)
    (row,) = seen.segments
    assert (row.name, row.adopted_seq, row.sealed_seq) == (added.name, seq + 1, seq)
    merged = files.put(frozenset({("a", seq)}), "merge")
    results = await asyncio.gather(
        *(
            say(store, collection, files, [merged], [added.sha256], sealed=(seq, seq))
            for _ in range(3)
        )
    )
    assert sum(isinstance(result, Outdated) for result in results) == 2


async def test_a_merge_is_not_held_up_by_a_seal_beside_it(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    files = Files()
    for ids in (["a"], ["b"]):
        await write(store, collection, ids)
        assert isinstance(await seal(store, collection, files), Watermark)
    before = await look(store, collection)
    merged = files.put(before.live, "merge")
    await write(store, collection, ["c"])
    assert isinstance(await seal(store, collection, files), Watermark)
    names = [segment.sha256 for segment in before.segments]
    sealed = (before.sealed_seq, before.sealed_seq)
    said = await say(store, collection, files, [merged], names, sealed=sealed)
    assert isinstance(said, Watermark)
    after = await look(store, collection)
    assert after.sealed_seq == 5 and len(after.segments) == 2
    check_cover(after, files)


async def test_an_index_learns_of_a_commit_that_only_publishes(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    files, replica = Files(), Replica(collection)
    await write(store, collection, ["a"])
    await replica.catch_up(store)
    said = await seal(store, collection, files)
    assert isinstance(said, Watermark) and replica.watermark is not None
    async with read_changes(store, "one", collection.uid, replica.watermark) as feed:
        assert isinstance(feed, Feed)
        assert [page async for page in feed.pages()] == []
        assert len(feed.segments) == 1
        assert Watermark(feed.head.seq, feed.head.change_id) == said


async def test_a_warm_index_finds_what_changed_without_the_vectors_of_sealed_rows(
    store: Store,
) -> None:
    collection = await make_collection(store, "one", "c")
    files, replica = Files(), Replica(collection)
    await write(store, collection, ["a", "b", "c", "d"])
    await replica.catch_up(store)
    await write(store, collection, ["b", "e"], ["a"])
    await seal(store, collection, files)
    late = await write(store, collection, ["f"], ["c", "e"])
    assert replica.watermark is not None
    async with read_changes(store, "one", collection.uid, replica.watermark) as feed:
        assert isinstance(feed, Feed)
        moved = [(page.ids, page.seqs.tolist()) async for page in feed.id_seqs()]
        assert moved == [(("b", "f"), [2, late])]
        assert [ids async for ids in feed.tombstones()] == [("a", "c", "e")]
        assert [ids async for ids in feed.tombstones(after_seq=feed.sealed_seq)] == [("c", "e")]
        full = [page async for page in feed.pages(after_seq=feed.sealed_seq)]
        assert [[p.point.id for p in page.upserts] for page in full] == [["f"]]


async def test_a_publication_says_why_it_is_refused(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    files = Files()
    seq = await write(store, collection, ["a"])
    one = files.put(frozenset({("a", seq)}))
    lost = NewSegment(b"\1" * 32, 1, 1, "seal")
    refused = await say(store, collection, files, [lost], sealed=(0, seq))
    assert isinstance(refused, Outdated) and "not in the object store" in refused.reason
    assert isinstance(await say(store, collection, files, [one], sealed=(0, seq)), Watermark)
    again = await say(store, collection, files, [one], sealed=(0, seq))
    assert isinstance(again, Outdated) and "sealed by now" in again.reason
    two = files.put(frozenset({("a", seq), ("b", seq)}))
    stale = await say(store, collection, files, [two], [b"\2" * 32], sealed=(seq, seq))
    assert isinstance(stale, Outdated) and "not current" in stale.reason
    seq = await write(store, collection, ["b"])
    twice = await say(store, collection, files, [one], sealed=(1, seq))
    assert isinstance(twice, Outdated) and "current already" in twice.reason
    before = (await look(store, collection)).head
    same = await say(store, collection, files, [one], [one.sha256], sealed=(1, 1))
    assert same == before  # nothing to do is no commit
    for wrong, why in (((2, 1), "goes back"), ((1, 99), "beyond"), ((1, 1), "no place")):
        with pytest.raises(ValueError, match=why):
            await say(store, collection, files, [two], sealed=wrong)
    assert (await look(store, collection)).head == before


async def test_what_was_retired_may_come_back(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    files = Files()
    await write(store, collection, ["a", "b"])
    await seal(store, collection, files)
    await write(store, collection, [], ["a"])
    (old,) = (await look(store, collection)).segments
    await merge(store, collection, files, 1)
    (new,) = (await look(store, collection)).segments
    assert new.sha256 != old.sha256
    sealed = (new.sealed_seq, new.sealed_seq)
    back = await say(store, collection, files, [old], [new.sha256], sealed=sealed)
    assert isinstance(back, Watermark)
    seen = await look(store, collection)
    assert [(s.sha256, s.adopted_seq) for s in seen.segments] == [(old.sha256, back.seq)]
    check_cover(seen, files)


async def test_a_lost_object_leaves_its_rows_to_the_log_once(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    files = Files()
    for ids in (["a"], ["b"]):
        await write(store, collection, ids)
        await seal(store, collection, files)
    lost = (await look(store, collection)).segments[0].sha256

    async def reset() -> Published:
        async with store.transaction("one") as tx:
            return await reset_segments(tx, collection, lost)

    results = await asyncio.gather(*(reset() for _ in range(3)))
    assert sum(isinstance(result, Watermark) for result in results) == 1
    seen = await look(store, collection)
    assert (seen.segments, seen.sealed_seq, len(seen.late)) == ((), 0, 2)
    assert isinstance(await seal(store, collection, files), Watermark)
    check_cover(await look(store, collection), files)


async def test_one_owner_builds_until_it_lets_go_or_is_late(store: Store) -> None:
    collection = await make_collection(store, "one", "c")

    async def claim(owner: str, ttl_s: float = 60.0, **work: str) -> bool:
        async with store.transaction("one") as tx:
            return await claim_build(tx, collection, owner, ttl_s, **work)  # type: ignore[arg-type]

    owners = [f"node {number}" for number in range(8)]
    won = await asyncio.gather(*(claim(owner) for owner in owners))
    assert sum(won) == 1
    winner = owners[won.index(True)]
    assert await claim(winner)  # extended
    assert not await claim("late")
    assert await claim("late", work="merge")
    async with store.transaction("one") as tx:
        await release_build(tx, collection, "late")  # not the lease that it has
    assert not await claim("late")
    async with store.transaction("one") as tx:
        await release_build(tx, collection, winner)
    assert await claim("brief")
    assert not await claim("late")
    assert await claim("brief", 0.01)
    await asyncio.sleep(0.05)
    assert await claim("late")
    async with store.transaction("one") as tx:
        await delete_collection(tx, "c")
    assert not await claim("late")
    async with store.system() as tx:
        await tx.run("UPDATE builds SET until = now() - interval '1 s'")
        assert await cleanup.purge_builds(tx) == 2


async def test_a_log_restored_from_before_a_publication_is_noticed(database: Database) -> None:
    store = await Store.open(database.url)
    collection = await make_collection(store, "one", "c")
    files, early, late = Files(), Replica(collection), Replica(collection)
    await write(store, collection, ["a"])
    await early.catch_up(store)
    await store.close()
    backup = database.backup()
    store = await Store.open(database.url)
    assert isinstance(await seal(store, collection, files), Watermark)
    await late.catch_up(store)
    await store.close()

    restored = await Store.open(backup.url)
    try:
        assert (await look(restored, collection)).segments == ()
        said = await seal(restored, collection, files)  # the same file, under the same number
        assert isinstance(said, Watermark) and late.watermark is not None
        assert said.seq == late.watermark.seq
        assert isinstance(await late.catch_up(restored), Rebuild)
        assert isinstance(await early.catch_up(restored), Feed)
    finally:
        await restored.close()


async def test_segments_and_leases_are_seen_by_their_tenant_only(store: Store) -> None:
    files = Files()
    collections = [await make_collection(store, tenant, "same") for tenant in ("one", "two")]
    for collection in collections:
        await write(store, collection, ["a"])
        await seal(store, collection, files)  # the same rows, so one file for both
        async with store.transaction(collection.tenant) as tx:
            assert await claim_build(tx, collection, "node", 60.0)
    for own, other in (collections, reversed(collections)):
        async with store.transaction(own.tenant) as tx:
            assert len(await segments_at(tx, own)) == 1
            assert await segments_at(tx, other) == []
            assert not await claim_build(tx, other, "thief", 60.0)
            assert await tx.rows("SELECT DISTINCT tenant FROM segments") == [(own.tenant,)]
            assert await tx.rows("SELECT tenant FROM builds") == [(own.tenant,)]
        with pytest.raises(CollectionNotFound):
            await _steal(store, own.tenant, other, files)
    with pytest.raises(RuntimeError, match="42501"):
        async with store.transaction("one") as tx:
            await cleanup.condemn_objects(tx, [b"\3" * 32])


async def _steal(store: Store, tenant: str, other: Collection, files: Files) -> None:
    added = files.put(frozenset({("stolen", 1)}))
    async with store.transaction(tenant) as tx:
        await publish(tx, other, [added], sealed_from=0, sealed_seq=1, exists=files.exists)


async def test_a_deleted_collection_takes_no_segments(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    files = Files()
    await write(store, collection, ["a"])
    seen = await look(store, collection)
    async with store.transaction("one") as tx:
        await delete_collection(tx, "c")
    with pytest.raises(CollectionNotFound):
        await say(store, collection, files, [files.put(seen.late)], sealed=(0, 1))
    with pytest.raises(CollectionNotFound):
        async with store.transaction("one") as tx:
            await reset_segments(tx, collection, b"\1" * 32)


async def test_which_rows_there_are_is_answered_by_an_index_alone(store: Store) -> None:
    collection = await make_collection(store, "one", "c")
    await write(store, collection, [f"p{number}" for number in range(3000)])
    async with store.system() as tx:
        await tx.run("SET LOCAL enable_sort = off")
        plan = await tx.rows(
            "EXPLAIN SELECT id, seq FROM points WHERE tenant = %s AND collection_uid = %s "
            "AND seq > -1 AND seq > 0 ORDER BY seq",
            ("one", collection.uid),
        )
    assert "Index Only Scan using points_by_commit" in plan[0][0]
