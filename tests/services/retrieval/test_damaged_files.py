"""A node that starts on damaged files answers right, or says what it cannot; never wrongly."""

from __future__ import annotations

import itertools
import json
import struct
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.retrieval.index.builder import BuildFailed
from services.rpc.call import Call
from services.store.collections import Collection
from services.store.store import Store
from tests.services.retrieval.lives import LivingNode, a_call, hurry
from tests.services.retrieval.nodes import Log, answers, check, names

TAIL = struct.Struct("<IQ8s")


@dataclass(frozen=True, slots=True)
class Place:
    """An offset of a file, and what lies there."""

    what: str
    offset: int


def places_of(data: bytes) -> Iterator[Place]:
    """One place of every kind: the marks, every array, the gaps between them, the footer, its
    checksum and its length."""
    tail = len(data) - TAIL.size
    _, length, _ = TAIL.unpack(data[tail:])
    arrays: Mapping[str, Any] = json.loads(data[tail - length : tail])["arrays"]
    yield Place("opening mark", 3)
    end = 8
    for name, entry in sorted(arrays.items(), key=lambda one: (one[1]["start"], one[0])):
        if entry["start"] > end:
            yield Place(f"padding before {name}", entry["start"] - 1)
        size = int(entry["dtype"][2:])
        for side in entry["shape"]:
            size *= side
        end = entry["start"] + size
        if size:
            yield Place(name, entry["start"] + size // 2)
    yield Place("footer's start", tail - length)
    yield Place("footer", tail - length // 2)
    yield Place("checksum of the footer", tail + 1)
    yield Place("length of the footer", tail + 5)
    yield Place("closing mark", tail + TAIL.size - 2)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :]


def cut(data: bytes, at: int) -> bytes:
    return data[:at]


def zeroed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]


DAMAGES = (flipped, cut, zeroed)


def replace(path: Path, data: bytes) -> None:
    """As a new file: the object store may have another name of the old one."""
    path.unlink()
    path.write_bytes(data)


@pytest_asyncio.fixture
async def written(
    store: Store, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[LivingNode, Log]]:
    """A node that was closed after it had sealed a collection and could answer for it."""
    hurry(monkeypatch)
    node, log = LivingNode(store, tmp_path, "one"), Log(store, collection)
    await node.start()
    await log.churn(12, 3)
    await at_head(node, log)
    await node.settled()
    assert names(await at_head(node, log))
    await node.close()
    yield node, log
    await node.close()


async def at_head(node: LivingNode, log: Log) -> Any:
    call = Call("default", "r1", time.monotonic() + 20)
    return await node.room.indexes.view(log.collection, log.seq, call)


async def one_life(node: LivingNode, log: Log) -> list[object]:
    """Starts the node, holds what it says against the log, and ends it well."""
    await node.start()
    view = await at_head(node, log)
    check(view, log)
    found = answers(view)
    await node.close()
    return found


def files(node: LivingNode, pattern: str) -> list[Path]:
    found = sorted(node.directory.glob(f"*/{pattern}"))
    assert found
    return found


async def test_a_segment_file_damaged_anywhere_is_fetched_again(
    written: tuple[LivingNode, Log],
) -> None:
    node, log = written
    before = await one_life(node, log)
    largest = max(files(node, "*.segment"), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    for place, damage in zip(places_of(whole), itertools.cycle(DAMAGES), strict=False):
        replace(largest, damage(whole, place.offset))
        assert await one_life(node, log) == before, (place, damage)
        assert largest.read_bytes() == whole, (place, damage)


async def test_a_manifest_damaged_anywhere_is_not_believed(
    written: tuple[LivingNode, Log],
) -> None:
    node, log = written
    before = await one_life(node, log)
    newest = max(files(node, "manifest-*"), key=lambda path: path.stat().st_mtime_ns)
    for place, damage in itertools.product(places_of(newest.read_bytes()), DAMAGES):
        for path in files(node, "manifest-*"):
            data = path.read_bytes()
            replace(path, damage(data, min(place.offset, len(data) - 1)))
        assert await one_life(node, log) == before, (place, damage)


async def test_an_object_damaged_for_every_node_is_sealed_again_from_the_log(
    written: tuple[LivingNode, Log],
) -> None:
    """In place, as a disk does it: the node's file and the object are one."""
    node, log = written
    for kind in ("vectors", "graph.", "words.", "payload.", "rows.", "footer"):
        path = files(node, "*.segment")[0]
        data = path.read_bytes()
        place = next(one for one in places_of(data) if one.what.startswith(kind))
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.write(flipped(data, place.offset))
        lost = path.name.removesuffix(".segment")
        assert (node.objects / lost).read_bytes() != data
        await node.start()
        view = await at_head(node, log)
        check(view, log)
        assert lost not in names(view)
        await node.settled()
        check(await at_head(node, log), log)
        assert names(await at_head(node, log))
        await node.close()


async def test_a_segment_damaged_under_a_running_node_becomes_no_part_of_another(
    written: tuple[LivingNode, Log],
) -> None:
    node, log = written
    await node.start()
    before = names(await at_head(node, log))
    path = files(node, "*.segment")[0]
    data = path.read_bytes()
    place = next(one for one in places_of(data) if one.what == "rows.seqs")
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(flipped(data, place.offset))
    with pytest.raises(BuildFailed, match="SHA-256"):
        await node.room.compactor.compact(log.collection, full=True, queries=4, call=a_call())
    assert names(await at_head(node, log)) == before
    await node.crash()
    await node.start()
    check(await at_head(node, log), log)
