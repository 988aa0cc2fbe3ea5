"""Nodes in this process that may end well or badly and begin again, with builds that are quick."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from engine.errors import RagmeshError
from engine.index import MaintenanceSettings
from engine.index.building import Job
from engine.types import JsonValue
from services.config import IndexSettings, LimitSettings
from services.mesh.mesh import Mesh
from services.retrieval.index import catching, indexes, opening, tending, upkeep
from services.retrieval.index.builder import Builder, BuildFailed, BuiltFile
from services.retrieval.index.opening import IndexRoom
from services.retrieval.servicer import RetrievalServicer
from services.rpc.call import Call
from services.store.store import Store

SMALL = MaintenanceSettings(seal_rows=20, quiet_seal_rows=8, segments_max=3, merge_width=3)
CALL_S = 30.0


class QuickBuilder(Builder):
    """Builds in a thread what the real one builds in a process: the same file, 0.5 s sooner."""

    async def build(self, job: Mapping[str, JsonValue]) -> BuiltFile:
        if self._closed:
            raise BuildFailed("Nothing is built: the node stops.")
        begin_s = time.monotonic()
        fields = dict(cast(Mapping[str, Any], job))
        fields["sources"] = tuple((path, kept) for path, kept in fields["sources"])
        try:
            written = await asyncio.to_thread(Job(**fields).run)
        except RagmeshError as error:
            raise BuildFailed(error.message) from error
        sha256 = hashlib.sha256(written.path.read_bytes()).digest()
        seconds = time.monotonic() - begin_s
        return BuiltFile(written.path, sha256, 1, written.size_bytes, seconds, {})


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has nodes seal, merge, and look at each other's leases after tenths of seconds."""
    monkeypatch.setattr(opening, "Builder", QuickBuilder)
    monkeypatch.setattr(tending, "QUIET_S", 0.1)
    monkeypatch.setattr(tending, "PAUSE_S", 0.1)
    monkeypatch.setattr(upkeep, "LEASE_S", 0.6)
    monkeypatch.setattr(indexes, "REFRESH_S", 0.3)
    monkeypatch.setattr(catching, "RETRY_S", 0.2)


class LivingNode:
    """One node by name, with a directory of its own below `root` and objects that all share."""

    def __init__(
        self,
        store: Store,
        root: Path,
        name: str,
        maintenance: MaintenanceSettings = SMALL,
        mesh: Mesh | None = None,
    ) -> None:
        """`mesh` has the siblings; without one there are none. `limits` hold from its start on."""
        self.limits = LimitSettings()
        self._mesh = cast(Mesh, mesh)
        self._store = store
        self._root = root
        self._maintenance = maintenance
        self.name = name
        self._threads: ThreadPoolExecutor | None = None
        self._room: IndexRoom | None = None
        self._servicer: RetrievalServicer | None = None

    @property
    def runs(self) -> bool:
        """Whether it lives."""
        return self._room is not None

    @property
    def directory(self) -> Path:
        """Its own directory."""
        return self._root / self.name

    @property
    def objects(self) -> Path:
        """The object store."""
        return self._root / "objects"

    @property
    def room(self) -> IndexRoom:
        """Its indexes."""
        assert self._room is not None, f"{self.name} does not run"
        return self._room

    @property
    def servicer(self) -> RetrievalServicer:
        """Its handlers."""
        assert self._servicer is not None, f"{self.name} does not run"
        return self._servicer

    async def start(self) -> None:
        """Begins a life."""
        self._threads = ThreadPoolExecutor(4, thread_name_prefix=self.name)
        self._room = IndexRoom(
            self._store,
            self._threads,
            None,
            IndexSettings(directory=self.directory, objects_dir=self.objects, limits=self.limits),
            self._root,
            self.name,
            self._maintenance,
        )
        self._servicer = RetrievalServicer(self._store, self._mesh, self._threads, self._room)
        await self._servicer.start()

    async def close(self) -> None:
        """Ends as a node that was told to."""
        if self._servicer is not None and self._threads is not None:
            await self._servicer.close()
            self._threads.shutdown()
        self._room = self._servicer = None

    async def crash(self) -> None:
        """Ends as a node that is killed: nothing is written down, and only what the kernel would
        let go of is let go of."""
        assert self._threads is not None
        room = self.room
        # What is cancelled tidies up behind it, which what is killed does not.
        left = self.directory.with_name(f"{self.name}.left")
        await asyncio.to_thread(_copy, self.directory, left)
        followed = room.indexes._followed.values()
        tasks = [task for one in followed for task in one.tasks()]
        tasks += [task for task in (room._tending, room.indexes._task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.servicer._migrator.close()
        await room.indexes._standing.close()
        # Not `close`, which writes manifests.
        room._objects.close()
        self._threads.shutdown(cancel_futures=True)
        room._held.release()
        await asyncio.to_thread(shutil.rmtree, self.directory)
        left.rename(self.directory)
        self._room = self._servicer = None

    def lose(self, what: str) -> None:
        """Removes what it keeps between two lives: `files`, `manifests` or `segments`."""
        if what == "files":
            shutil.rmtree(self.directory)
            return
        for path in self.directory.glob(f"*/*{what.removesuffix('s')}*"):
            with contextlib.suppress(IsADirectoryError):
                path.unlink()

    def flip(self, what: str, place: float) -> None:
        """Flips a bit in each of its files, at a place from 0 to 1, as a disk does."""
        for path in self.directory.glob(f"*/*{what.removesuffix('s')}*"):
            flip_bit(path, place)

    async def settled(self) -> None:
        """Returns when it has nothing left to seal or to merge."""
        quiet = 0
        for _ in range(1_000):
            await asyncio.sleep(0.02)
            busy = any(one.tasks() for one in self.room.indexes._followed.values())
            behind = any(
                one.index is None
                or one.index.seal_work(quiet=True) is not None
                or one.index.merge_work(quiet=True) is not None
                for one in self.room.indexes._followed.values()
            )
            quiet = 0 if busy or behind else quiet + 1
            if quiet >= 10:
                return
        raise AssertionError(f"{self.name} does not settle")


def _copy(source: Path, target: Path) -> None:
    """As much of a directory as stands still."""
    with contextlib.suppress(shutil.Error):
        shutil.copytree(source, target)


def flip_bit(path: Path, place: float) -> None:
    """Flips a bit of a file at a place from 0 to 1. The file becomes a new one, because the object
    store may have another name of the old."""
    data = bytearray(path.read_bytes())
    data[min(len(data) - 1, int(place * len(data)))] ^= 16
    path.unlink()
    path.write_bytes(data)


def a_call() -> Call:
    """A call of the tenant `default` with time enough."""
    return Call("default", "r1", time.monotonic() + CALL_S)
