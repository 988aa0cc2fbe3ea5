"""A build is a process of its own: it says what it built, or why not, and outlives nobody."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio

from engine.index.building import Job
from engine.index.columns import pack_rows
from engine.index.files import read_arrays, write_arrays
from engine.types import Point
from services.retrieval.index.builder import Builder, BuildFailed

pytestmark = pytest.mark.asyncio

_BUILD = """
import hashlib, json, os, sys, time
job = json.load(open(sys.argv[1]))
out = job["out"]
with open(out, "wb") as file:
    file.write(b"half")
    file.flush()
    with open(out + ".about", "w") as about:
        json.dump({"pid": os.getpid(), "session": os.getsid(0), "nice": os.nice(0),
            "environment": sorted(os.environ),
            "oom": int(open("/proc/self/oom_score_adj").read())}, about)
    if "complaint" in job:
        sys.exit("x" * 100_000 + job["complaint"])
    if "signal" in job:
        os.kill(os.getpid(), job["signal"])
    time.sleep(job.get("sleep_s", 0))
    file.write(b"whole")
print("something else")
data = open(out, "rb").read()
print(json.dumps({"sha256": hashlib.sha256(data).hexdigest(), "rows": 2, "size_bytes": len(data),
    "extra": [1], **job.get("lies", {})}))
"""


class Held:
    """Something large."""


@pytest_asyncio.fixture
async def builder(tmp_path: Path) -> AsyncIterator[Callable[..., Builder]]:
    made: list[Builder] = []

    def make(**settings: float) -> Builder:
        argv = (sys.executable, "-c", _BUILD)
        made.append(Builder(tmp_path, argv=argv, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        await each.close()


def about(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(out.with_name(out.name + ".about").read_text())
    return found


def started(out: Path) -> bool:
    try:
        return bool(about(out))
    except (FileNotFoundError, ValueError):
        return False


def gone(pid: object) -> bool:
    """Whether a process runs no more; a zombie that nobody has reaped yet does not."""
    try:
        return psutil.Process(int(str(pid))).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def wait_for(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_s
        await asyncio.sleep(0.01)


async def test_a_build_says_what_it_built_and_stands_back(
    builder: Callable[..., Builder], tmp_path: Path
) -> None:
    os.environ["RAGMESH_SECRET_OF_THIS_TEST"] = "hunter2"
    try:
        built = await builder(nice=7).build({"out": str(tmp_path / "s")})
    finally:
        del os.environ["RAGMESH_SECRET_OF_THIS_TEST"]
    data = (tmp_path / "s").read_bytes()
    assert data == b"halfwhole"
    assert built.sha256 == hashlib.sha256(data).digest()
    assert (built.rows, built.size_bytes, built.report["extra"]) == (2, 9, [1])
    assert built.segment("merge").name == hashlib.sha256(data).hexdigest()
    said = about(tmp_path / "s")
    assert said["nice"] == os.nice(0) + 7
    assert said["session"] == said["pid"] != os.getpid()
    assert said["oom"] == 500
    assert "RAGMESH_SECRET_OF_THIS_TEST" not in str(said["environment"])
    assert not [name for name in os.listdir(tmp_path) if "job" in name]


@pytest.mark.parametrize(
    ("job", "why"),
    [
        ({"complaint": "the disk is full"}, "exit status 1: x+the disk is full"),
        ({"signal": int(signal.SIGSEGV)}, "SIGSEGV"),
        ({"lies": {"size_bytes": 8}}, "8 bytes and the file has 9"),
        ({"lies": {"sha256": "zz"}}, "did not say"),
        ({"lies": {"rows": None}}, "did not say"),
        ({"lies": {"rows": -1}}, "9 bytes"),
    ],
)
async def test_a_build_that_fails_says_why_and_leaves_no_file(
    builder: Callable[..., Builder], tmp_path: Path, job: dict[str, object], why: str
) -> None:
    with pytest.raises(BuildFailed, match=why) as caught:
        await builder().build({"out": str(tmp_path / "s"), **job})  # type: ignore[dict-item]
    assert len(caught.value.message) < 5000
    assert not (tmp_path / "s").exists()


async def test_a_build_that_fails_holds_nothing_of_who_asked_for_it(
    builder: Callable[..., Builder], tmp_path: Path
) -> None:
    """Who asks has the segments that are to be merged, which go with them, collector or not."""
    made = builder()
    refs: list[weakref.ref[Held]] = []

    async def ask() -> None:
        held = Held()
        refs.append(weakref.ref(held))
        await made.build({"out": str(tmp_path / "out"), "complaint": "no"})

    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(BuildFailed):
            await ask()
        await asyncio.sleep(0)  # this step was woken by the task, and so its handle has it
        assert refs[0]() is None
    finally:
        gc.enable()


async def test_a_build_that_takes_too_long_is_ended(
    builder: Callable[..., Builder], tmp_path: Path
) -> None:
    with pytest.raises(BuildFailed, match="within 1 s"):
        await builder(wall_s=1.0).build({"out": str(tmp_path / "s"), "sleep_s": 60})
    assert gone(about(tmp_path / "s")["pid"])
    assert not (tmp_path / "s").exists()


async def test_a_cancelled_build_is_killed_and_its_place_is_free(
    builder: Callable[..., Builder], tmp_path: Path
) -> None:
    one = builder(parallel=1)
    task = asyncio.create_task(one.build({"out": str(tmp_path / "s"), "sleep_s": 60}))
    await wait_for(lambda: started(tmp_path / "s"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(about(tmp_path / "s")["pid"])
    assert not (tmp_path / "s").exists()
    await one.build({"out": str(tmp_path / "t")})


async def test_a_builder_that_is_closed_ends_its_builds_and_takes_no_more(
    builder: Callable[..., Builder], tmp_path: Path
) -> None:
    one = builder(parallel=1)
    outs = [tmp_path / name for name in ("s", "t")]
    tasks = [asyncio.create_task(one.build({"out": str(out), "sleep_s": 60})) for out in outs]
    await wait_for(lambda: started(outs[0]))
    await one.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [BuildFailed, BuildFailed]
    assert gone(about(outs[0])["pid"])
    assert not any(out.exists() for out in outs)


async def test_no_more_are_built_at_once_than_were_allowed(
    builder: Callable[..., Builder], tmp_path: Path
) -> None:
    two = builder(parallel=2)
    outs = [tmp_path / str(number) for number in range(3)]
    tasks = [asyncio.create_task(two.build({"out": str(o), "sleep_s": 0.5})) for o in outs]
    await wait_for(lambda: sum(started(out) for out in outs) == 2)
    assert not started(outs[2])
    await asyncio.gather(*tasks)
    assert started(outs[2])


async def test_a_build_dies_with_its_node(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from services.retrieval.index.builder import Builder\n"
        "builder = Builder(Path(sys.argv[1]), argv=(sys.executable, '-c', sys.argv[2]))\n"
        "asyncio.run(builder.build({'out': sys.argv[1] + '/s', 'sleep_s': 60}))\n"
    )
    node = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), _BUILD, stderr=subprocess.DEVNULL
    )
    await wait_for(lambda: started(tmp_path / "s"))
    node.kill()
    await node.wait()
    await wait_for(lambda: gone(about(tmp_path / "s")["pid"]))


async def test_segments_are_built_from_the_same_rows_as_the_same_bytes(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((300, 8)).astype(np.float32)
    points = [
        Point(id=f"p{n}", vector=None, text=f"word {n}", payload={"n": n}) for n in range(300)
    ]
    write_arrays(
        tmp_path / "dump",
        {
            **pack_rows(points, np.arange(1, 301)),
            "vectors": vectors,
            "dense": np.ones(300, np.bool_),
        },
        {},
    )
    sources = ((str(tmp_path / "dump"), None),)
    job = Job(sources, str(tmp_path / "one"), 8, "cosine", "en", 16, 100, 300, "float32", False)
    builder = Builder(tmp_path)
    one = await builder.build(asdict(job))
    two = await builder.build(asdict(replace(job, out=str(tmp_path / "two"))))
    assert (one.rows, one.sha256) == (300, two.sha256)
    assert one.sha256 == hashlib.sha256((tmp_path / "one").read_bytes()).digest()
    assert np.array_equal(read_arrays(tmp_path / "two").arrays["rows.seqs"], np.arange(1, 301))
    lost = replace(job, sources=((str(tmp_path / "lost"), None),))
    with pytest.raises(BuildFailed, match="No such file"):
        await builder.build(asdict(lost))
    await builder.close()
