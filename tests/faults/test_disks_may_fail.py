"""A full disk and a failed sync are told, and never leave half of a file under its name.

The first tests are of the shim itself: what it does to a program, and what it leaves alone.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.index.building import prepare_job, save_job
from engine.index.collection import CollectionIndex, IndexSettings
from engine.index.files import read_arrays, write_arrays
from engine.types import Point
from tests.engine.index.sealing import spec_of
from tests.faults.disk import FailingDisk, compile_shim


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def disk(shim: Path, tmp_path: Path) -> FailingDisk:
    directory = tmp_path / "disk"
    directory.mkdir()
    return FailingDisk(shim, directory)


_WRITE = """
import os, shutil, sys
from pathlib import Path

def tried(what):
    try:
        print(what())
    except OSError as error:
        print(type(error).__name__, error.errno)

file = os.open(sys.argv[1] + "/file", os.O_RDWR | os.O_CREAT)
"""


def test_the_shim_cuts_the_write_that_fills_the_disk_and_refuses_the_next(
    disk: FailingDisk, tmp_path: Path
) -> None:
    code = f"""{_WRITE}
tried(lambda: os.write(file, b"x" * 60))
tried(lambda: os.pwrite(file, b"x" * 60, 60))
tried(lambda: os.write(file, b"x"))
tried(lambda: os.writev(file, [b"", b"x"]))
tried(lambda: Path(sys.argv[2]).write_bytes(b"x" * 200))
tried(lambda: shutil.copyfile(sys.argv[2], sys.argv[1] + "/copy"))
tried(lambda: os.write(file, b""))
"""
    aside = tmp_path / "diskette"  # its name begins like the disk's
    said = replace(disk, bytes_max=100).run(code, str(disk.directory), str(aside))
    full = f"OSError {errno.ENOSPC}"
    assert said.splitlines() == ["60", "40", full, full, "200", full, "0"]
    assert (disk.directory / "file").stat().st_size == 100
    assert (disk.directory / "copy").stat().st_size == 0


def test_the_shim_fails_one_sync_of_files_and_directories_on_the_disk(
    disk: FailingDisk, tmp_path: Path
) -> None:
    code = f"""{_WRITE}
other = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
folder = os.open(sys.argv[1], os.O_RDONLY)
tried(lambda: os.fsync(other))
tried(lambda: os.fsync(file))
tried(lambda: os.fdatasync(file))
tried(lambda: os.fsync(folder))
tried(lambda: os.fsync(folder))
"""
    for number in (1, 2, 3, 4):
        said = replace(disk, sync=number).run(code, str(disk.directory), str(tmp_path / "other"))
        expected = ["None"] * 5
        expected[number] = f"OSError {errno.EIO}"
        assert said.splitlines() == expected


def test_a_disk_that_is_told_nothing_does_what_disks_do(disk: FailingDisk) -> None:
    code = f"{_WRITE}\ntried(lambda: os.write(file, b'x' * 9))\ntried(lambda: os.fsync(file))"
    assert disk.run(code, str(disk.directory)).splitlines() == ["9", "None"]


_ARRAYS: dict[str, NDArray[Any]] = {
    "vectors": np.arange(96_000, dtype=np.float32).reshape(-1, 384),
    "words.terms": np.arange(70_000, dtype=np.uint8),
}
_WRITE_ARRAYS = """
import sys
from pathlib import Path
import numpy as np
from engine.index.files import write_arrays
with np.load(sys.argv[2]) as arrays:
    try:
        print(write_arrays(Path(sys.argv[1]), dict(arrays), {"written": "now"}).size_bytes)
    except OSError as error:
        print(type(error).__name__, error.errno)
"""


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    file = tmp_path / "arrays.npz"
    np.savez(file, **_ARRAYS)  # type: ignore[arg-type]
    return file


def _size(folder: Path) -> int:
    return write_arrays(folder / "sizing", _ARRAYS, {"written": "now"}).size_bytes


def test_a_full_disk_is_told_and_leaves_nothing(
    disk: FailingDisk, arrays: Path, tmp_path: Path
) -> None:
    whole = _size(tmp_path)
    path = disk.directory / "segment"
    for allowed in (0, 5, 64, 100_000, whole - 1):
        said = replace(disk, bytes_max=allowed).run(_WRITE_ARRAYS, str(path), str(arrays))
        assert said == f"OSError {errno.ENOSPC}\n", allowed
        assert not list(disk.directory.iterdir())
    assert replace(disk, bytes_max=whole).run(_WRITE_ARRAYS, str(path), str(arrays)) == f"{whole}\n"
    found = read_arrays(path, check=True)
    assert {name: one.tobytes() for name, one in found.arrays.items()} == {
        name: one.tobytes() for name, one in _ARRAYS.items()
    }


def test_a_full_disk_leaves_the_file_that_had_the_name(disk: FailingDisk, arrays: Path) -> None:
    path = disk.directory / "segment"
    write_arrays(path, {"a": np.zeros(3)}, {"written": "before"})
    said = replace(disk, bytes_max=1_000).run(_WRITE_ARRAYS, str(path), str(arrays))
    assert said == f"OSError {errno.ENOSPC}\n"
    assert read_arrays(path, check=True).facts == {"written": "before"}
    assert list(disk.directory.iterdir()) == [path]


def test_a_failed_sync_is_told_and_leaves_a_whole_file_or_none(
    disk: FailingDisk, arrays: Path
) -> None:
    path = disk.directory / "segment"
    failed = 0
    for number in range(1, 10):
        said = replace(disk, sync=number).run(_WRITE_ARRAYS, str(path), str(arrays))
        left = list(disk.directory.iterdir())
        assert left in ([], [path]), "nothing half-written stays beside it"
        if left:
            assert read_arrays(path, check=True).facts == {"written": "now"}
            path.unlink()
        if not said.startswith("OSError"):
            break
        assert said == f"OSError {errno.EIO}\n"
        failed += 1
    assert failed >= 2, "the file and its directory are synced"


_BUILD = """
import contextlib, sys
from engine.index.building import main
with contextlib.redirect_stderr(sys.stdout):
    print(main(sys.argv[1:]))
"""


@pytest.fixture
def job(disk: FailingDisk, tmp_path: Path) -> Path:
    """A job for a builder, whose segment goes onto the disk."""
    index = CollectionIndex(IndexSettings(dimensions=8))
    vectors = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    points = [
        Point(str(n), vector, text=f"word {n % 7}", payload={"n": n})
        for n, vector in enumerate(vectors)
    ]
    index.apply(points, [], 1, "change")
    index.freeze()
    work = index.seal_work(quiet=True)
    assert work is not None
    sources = [(view, None) for view in work.sources]
    file = tmp_path / "job.json"
    out = disk.directory / "segment"
    save_job(prepare_job(sources, spec_of(index, work), tmp_path, out), file)
    return file


def test_a_builder_on_a_disk_that_fails_says_so_and_leaves_nothing_half_built(
    disk: FailingDisk, job: Path
) -> None:
    path = disk.directory / "segment"
    assert disk.run(_BUILD, str(job)).endswith("\n0\n")
    whole = path.stat().st_size
    path.unlink()
    for allowed in (0, 1_000, whole // 2, whole - 1):
        said = replace(disk, bytes_max=allowed).run(_BUILD, str(job))
        assert "No space left on device" in said
        assert said.endswith("\n1\n")
        assert not list(disk.directory.iterdir()), allowed
    said = replace(disk, sync=1).run(_BUILD, str(job))
    assert "Input/output error" in said
    assert said.endswith("\n1\n")
    assert not list(disk.directory.iterdir())
    assert replace(disk, bytes_max=whole).run(_BUILD, str(job)).endswith("\n0\n")
    assert read_arrays(path, check=True).facts["rows"] == 500
