"""A child lives no longer than its parent, and programs that refuse root find another way."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import FailedPrecondition
from services.local import runas
from services.local.directory import hold
from services.local.postgres import embedded_postgres
from services.local.process import RunAs, launch_argv
from services.local.redis import redis_part
from services.local.supervisor import Supervisor
from tests.services.local.running import gone

ORPHANER = """
import os, subprocess, sys
from services.local.process import launch_argv
child = subprocess.Popen(launch_argv(["sleep", "20"]),
    stdout=subprocess.DEVNULL, start_new_session=True)
while not open(f"/proc/{child.pid}/cmdline", "rb").read().startswith(b"sleep"):
    pass  # until it has become the program
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_child_goes_when_its_parent_is_killed() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHANER], stdout=subprocess.PIPE, text=True)
    assert gone([int(done.stdout)], 2.0) == []


def test_a_child_whose_parent_died_first_does_not_begin(tmp_path: Path) -> None:
    argv = launch_argv(["touch", str(tmp_path / "begun")])
    parent = argv.index(str(os.getpid()))
    argv[parent] = str(os.getppid())  # what it sees when it was started by one that is no more
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode != 0
    assert "died before" in done.stderr
    assert not (tmp_path / "begun").exists()


def test_a_program_starts_with_usual_signals_and_makes_private_files(tmp_path: Path) -> None:
    script = f"grep SigIgn /proc/self/status; touch {tmp_path}/made"
    in_background = ["nohup", *launch_argv(["sh", "-c", script])]
    # `nohup` stays the process, so what it starts is still tied to us.
    done = subprocess.run(in_background, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[1], 16) == 0
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o600


@pytest.mark.usefixtures("leaves_no_process")
def test_a_start_given_up_midway_leaves_no_process(tmp_path: Path) -> None:
    async def main() -> None:
        with hold(tmp_path / "data") as held:
            postgres = embedded_postgres(held.directory)
            supervisor = Supervisor([postgres.part(), redis_part(held.directory)])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(supervisor.start(), 0.3)
            assert not held.directory.postgres.exists()

    asyncio.run(main())


def test_where_root_has_no_way_the_directory_in_the_way_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # so there is no `unshare`
    runas.namespace_works.cache_clear()
    try:
        with hold(tmp_path / "data") as held:
            if os.geteuid() != 0:
                assert embedded_postgres(held.directory).run_as == RunAs()
                return
            with pytest.raises(FailedPrecondition) as caught:
                embedded_postgres(held.directory)
            named = caught.value.metadata["obstacle"].rpartition(" ")[2]
            assert Path(named).stat().st_mode & stat.S_IXOTH == 0
            assert named in caught.value.message
    finally:
        runas.namespace_works.cache_clear()
