"""An object is whole and what its name says, or not there, whatever the disk does."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from engine.errors import DataLoss
from services.errors import row_of
from services.objects.directory import DirectoryStore
from services.objects.seam import ObjectMissing, ObjectStoreFailed
from tests.services.retrieval.stored_objects import make_file

pytestmark = pytest.mark.asyncio

_FAULTS = Path(__file__).with_name("disk_faults.c")
_TRANSFER = """
import asyncio, json, os, sys
from pathlib import Path
from engine.errors import RagmeshError
from services.objects.directory import DirectoryStore
root, call, name, path, target, faults = sys.argv[1:]
async def main():
    objects = DirectoryStore(Path(root))
    for fault, where in json.loads(faults):
        os.environ["DISK_FAULT_PATH"] = where
        os.environ["DISK_FAULT"] = fault
        try:
            await getattr(objects, call)(name, Path(path))
            said = ["done", "", ""]
        except RagmeshError as error:
            said = [type(error).__name__, error.metadata["problem"], error.message]
        os.environ["DISK_FAULT"] = ""
        print(json.dumps([fault, *said, os.listdir(target)]))
asyncio.run(main())
"""


@pytest_asyncio.fixture
async def objects(tmp_path: Path) -> AsyncIterator[DirectoryStore]:
    made = DirectoryStore(tmp_path / "objects")
    yield made
    made.close()


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("faults") / "disk_faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, _FAULTS, "-ldl"], check=True)
    return library


@pytest.fixture(params=["one filesystem", "two filesystems"])
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory beside the objects, from which files can be linked, or cannot."""
    if request.param == "one filesystem":
        yield tmp_path
        return
    if os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        raise AssertionError("this test needs a second filesystem at /dev/shm")
    path = Path("/dev/shm") / f"{tmp_path.name}-{os.getpid()}"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path)


def left(root: Path) -> list[str]:
    """Every file below a directory."""
    return sorted(path.name for path in root.iterdir()) if root.exists() else []


async def test_what_was_put_is_fetched_listed_and_deleted(
    objects: DirectoryStore, away: Path, tmp_path: Path
) -> None:
    data = os.urandom((3 << 20) + 17)
    name, path = make_file(away, data)
    assert [found async for found in objects.names()] == []
    assert not await objects.exists(name)
    os.utime(path, (1, 1))
    for _ in range(2):  # the second time is the same as the first
        await objects.put(name, path)
        assert left(tmp_path / "objects") == [name]
    (found,) = [found async for found in objects.names()]
    assert (found.name, found.size_bytes) == (name, len(data))
    assert found.age_s < 60  # since it was put, whenever it was built
    path.unlink()
    await objects.fetch(name, away / "fetched")
    assert (away / "fetched").read_bytes() == data
    assert not [entry for entry in left(away) if entry.startswith(".part-")]
    await objects.delete(name)
    await objects.delete(name)
    assert not await objects.exists(name)
    assert (away / "fetched").read_bytes() == data


async def test_what_is_not_what_its_name_says_is_neither_put_nor_fetched(
    objects: DirectoryStore, away: Path, tmp_path: Path
) -> None:
    name, path = make_file(away, b"good" * 1000)
    wrong, other = make_file(away, b"else", "other")
    with pytest.raises(DataLoss) as caught:
        await objects.put(name, other)
    assert caught.value.metadata["sha256"] == wrong
    assert left(tmp_path / "objects") == []
    await objects.put(name, path)
    stored = tmp_path / "objects" / name
    for damaged in (b"good" * 999, b"gooe" + b"good" * 999, b""):
        stored.unlink()
        stored.write_bytes(damaged)
        with pytest.raises(DataLoss):
            await objects.fetch(name, away / "fetched")
        assert not (away / "fetched").exists()
    await objects.put(name, path)  # putting it again repairs it
    await objects.fetch(name, away / "fetched")


async def test_a_missing_object_is_told_from_a_missing_place(
    objects: DirectoryStore, tmp_path: Path
) -> None:
    name, path = make_file(tmp_path, b"x")
    with pytest.raises(ObjectMissing) as caught:
        await objects.fetch(name, tmp_path / "fetched")
    assert caught.value.metadata["object"] == name
    assert row_of(caught.value).reason == "STORE_UNAVAILABLE"
    await objects.put(name, path)
    with pytest.raises(ObjectStoreFailed) as nowhere:
        await objects.fetch(name, tmp_path / "no" / "fetched")
    assert nowhere.value.metadata["problem"] == "ENOENT"


@pytest.mark.parametrize("name", ["", "../" * 21 + "a", "A" * 64, "0" * 63, "0" * 64 + "\n"])
async def test_a_name_is_no_path(objects: DirectoryStore, tmp_path: Path, name: str) -> None:
    for call in (objects.put, objects.fetch):
        with pytest.raises(ValueError, match="no name"):
            await call(name, tmp_path / "x")
    with pytest.raises(ValueError, match="no name"):
        await objects.delete(name)


@pytest.mark.parametrize("call", ["put", "fetch"])
async def test_a_disk_that_fails_leaves_nothing_half_there(
    objects: DirectoryStore, away: Path, tmp_path: Path, faults: Path, call: str
) -> None:
    linked = away == tmp_path
    name, path = make_file(away, os.urandom(2 << 20))
    source, target = (away, tmp_path / "objects") if call == "put" else (tmp_path / "objects", away)
    target = target if call == "put" else away / "index"
    target.mkdir(exist_ok=True)
    if call == "fetch":
        await objects.put(name, path)
    # A linked file is read where it comes to lie, a copied one where it lies.
    trials = [
        *((f"fsync:{code}", target) for code in (errno.EIO, errno.ENOSPC, errno.EDQUOT)),
        (f"rename:{errno.EIO}", target),
        (f"read:{errno.EIO}", target if linked else source),
        *(
            (f"{'link' if linked else 'write'}:{code}", target)
            for code in (errno.EIO, errno.ENOSPC)
        ),
    ]
    arguments = [
        *(tmp_path / "objects", call, name, path if call == "put" else target / "fetched", target),
        json.dumps([(fault, str(where)) for fault, where in trials]),
    ]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _TRANSFER, *(str(argument) for argument in arguments)),
        env={**os.environ, "LD_PRELOAD": str(faults)},
        stdout=subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        printed, _ = await process.communicate()
    said = [json.loads(line) for line in printed.splitlines()]
    assert [line[0] for line in said] == [fault for fault, _ in trials]
    for fault, kind, problem, message, left_there in said:
        code = int(fault.rpartition(":")[2])
        full = code in (errno.ENOSPC, errno.EDQUOT)
        assert kind == ("ObjectStoreFull" if full else "ObjectStoreFailed"), fault
        assert problem == errno.errorcode[code]
        assert ("Free some space" in message) == full
        assert left_there == [], fault


async def test_a_put_that_is_killed_leaves_no_object_and_its_pieces_are_swept(
    objects: DirectoryStore, tmp_path: Path
) -> None:
    root = tmp_path / "objects"
    await asyncio.to_thread(_kill_in_the_middle_of_a_put, root, tmp_path / "built")
    assert not await objects.exists("0" * 64)
    assert [found async for found in objects.names()] == []
    assert len(left(root)) == 1
    assert await objects.tidy(3600.0) == 0
    for entry in root.iterdir():
        os.utime(entry, (1, 1))
    assert await objects.tidy(3600.0) == 1
    assert left(root) == []


def _kill_in_the_middle_of_a_put(root: Path, fifo: Path) -> None:
    root.mkdir()
    os.mkfifo(fifo)  # it cannot be linked usefully, so it is copied, as far as it goes
    script = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from services.objects import directory as objects\n"
        "objects._link = lambda *_: None\n"
        "store = objects.DirectoryStore(Path(sys.argv[1]))\n"
        "asyncio.run(store.put('0' * 64, Path(sys.argv[2])))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, root, fifo]) as process:
        with fifo.open("wb") as half:
            half.write(os.urandom(3 << 20))
            half.flush()
            while not left(root):
                time.sleep(0.01)
            process.kill()
        process.wait()
