"""What may be relied on of segments: whatever a node has on disk, it answers what the log says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.index import GraphSettings
from services.retrieval.index import opening
from services.retrieval.index.builder import Builder
from services.store.collections import Collection
from services.store.store import Store
from tests.services.retrieval.lives import hurry
from tests.services.retrieval.nodes import (
    DIMENSIONS,
    ROOMS,
    Log,
    answers,
    check,
    names,
    row,
    settled,
    view_of,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes wait tenths of seconds where they would wait seconds."""
    hurry(monkeypatch)


async def test_nodes_at_one_watermark_have_the_same_segments_and_answers(
    store: Store, collection: Collection, rooms: ROOMS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "Builder", Builder)  # in processes of their own, once
    log = Log(store, collection)
    one, two = rooms("one"), rooms("two")
    await one.start()
    await two.start()
    await view_of(one, log)
    for round in range(4):
        await log.churn(8, round * 10)
        await view_of(two, log)
    await settled(one, log)
    first = await settled(two, log)
    second = await view_of(one, log, first.watermark)
    assert first.watermark == second.watermark > log.seq
    assert names(first) == names(second) != []
    check(first, log)
    check(second, log)
    assert answers(first) == answers(second)
    late = rooms("three")
    await late.start()
    third = await view_of(late, log, first.watermark)
    assert sorted(names(third)) == sorted(names(first))
    check(third, log)
    assert answers(third) == answers(first)


async def test_a_node_comes_back_with_its_segments_and_reads_only_what_is_new(
    store: Store, collection: Collection, rooms: ROOMS, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(store, collection)
    room = rooms("one")
    await room.start()
    await log.churn(12, 1)
    before = names(await settled(room, log))
    assert before
    await room.close()
    await log.write([row(3, 99), row(151, 0)], ["p007"])
    again = rooms("one")
    await again.start()
    view = await view_of(again, log)
    check(view, log)
    assert sorted(names(view)) == sorted(before)


def damage_nothing(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    # A new file: the object store has another name of the old one.
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [damage_nothing, flip], ids=["deleted", "flipped"])
async def test_a_harmed_segment_file_is_fetched_again(
    store: Store,
    collection: Collection,
    rooms: ROOMS,
    tmp_path: Path,
    harm: Callable[[Path], None],
) -> None:
    log = Log(store, collection)
    room = rooms("one")
    await room.start()
    await log.churn(12, 2)
    before = names(await settled(room, log))
    await room.close()
    for path in (tmp_path / "one" / str(collection.uid)).glob("*.segment"):
        harm(path)
    again = rooms("one")
    await again.start()
    view = await view_of(again, log)
    assert sorted(names(view)) == sorted(before)
    check(view, log)


@pytest.mark.parametrize("harm", [damage_nothing, cut, flip], ids=["deleted", "cut", "flipped"])
async def test_rows_of_a_lost_segment_are_sealed_again_from_the_log(
    store: Store,
    collection: Collection,
    rooms: ROOMS,
    tmp_path: Path,
    harm: Callable[[Path], None],
) -> None:
    log = Log(store, collection)
    room = rooms("one")
    await room.start()
    await log.churn(12, 3)
    before = names(await settled(room, log))
    await room.close()
    for path in (tmp_path / "one" / str(collection.uid)).glob("*.segment"):
        path.unlink()
    harm(tmp_path / "objects" / before[0])
    again = rooms("one")
    await again.start()
    view = await view_of(again, log)
    check(view, log)
    assert before[0] not in names(view)
    check(await settled(again, log), log)


async def test_manifests_that_do_not_read_cost_a_longer_start_and_nothing_else(
    store: Store, collection: Collection, rooms: ROOMS, tmp_path: Path
) -> None:
    log = Log(store, collection)
    room = rooms("one")
    await room.start()
    await log.churn(12, 4)
    before = names(await settled(room, log))
    await room.close()
    folder = tmp_path / "one" / str(collection.uid)
    manifests = list(folder.glob("manifest-*"))
    assert manifests
    for path in manifests:
        flip(path)
    again = rooms("one")
    await again.start()
    view = await view_of(again, log)
    assert sorted(names(view)) == sorted(before)
    check(view, log)


async def test_what_a_node_has_of_a_deleted_collection_goes(
    store: Store, collection: Collection, rooms: ROOMS, tmp_path: Path
) -> None:
    from services.store.collections import delete_collection

    log = Log(store, collection)
    room = rooms("one")
    await room.start()
    await log.churn(12, 5)
    await settled(room, log)
    folder = tmp_path / "one" / str(collection.uid)
    assert folder.exists()
    async with store.transaction("default") as tx:
        await delete_collection(tx, "papers")
    room.indexes.nudge()
    for _ in range(100):
        if not folder.exists():
            break
        await asyncio.sleep(0.05)
    assert not folder.exists()


assert GraphSettings().exact_values > 200 * DIMENSIONS
