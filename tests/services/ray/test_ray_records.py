"""Who lives, who keeps whom, and what is left to be ended: locks say it, whatever died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import ServiceUnavailable
from services.ray import records
from services.ray.node import Node
from services.ray.records import About, Record, all_records, orphans
from services.ray.sweep import ADOPT_WITHIN_S, close, sweep

OURS = About("embedding", "session", 0)
SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
"""Stands for a node that does not serve: it is never drained, only ended."""
KEEPER = """
import sys, time
from pathlib import Path
from services.ray.records import About
from services.ray.node import Node
node = Node.start(Path(sys.argv[1]), About("embedding", sys.argv[2], 0), sys.argv[3:], {},
                  Path(sys.argv[1]) / ".log")
print(node.record.name, node.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return records.home(tmp_path, "deployment")


def start(home: Path, about: About = OURS) -> Node:
    return Node.start(home, about, SLEEP, os.environ, home / ".log")


def left_by_a_killed_keeper(home: Path, session: str = "session") -> int:
    """A node whose keeper was killed; its process."""
    command = [sys.executable, "-c", KEEPER, str(home), session, *SLEEP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        pid = int(keeper.stdout.readline().split()[1])
        keeper.kill()
    return pid


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_node_is_nobodys_child_and_is_known_by_its_record(home: Path) -> None:
    node = start(home)
    (record,) = all_records(home)
    assert record.pid() == node.pid
    assert record.about() == OURS
    assert os.getsid(node.pid) == node.pid
    with pytest.raises(ChildProcessError):
        os.waitpid(node.pid, os.WNOHANG)
    assert list(orphans(home)) == []
    node.kill()
    assert not lives(node.pid)
    assert list(all_records(home)) == []


def test_a_program_that_does_not_begin_leaves_no_record(home: Path) -> None:
    with pytest.raises(ServiceUnavailable, match="no-such-program"):
        node = Node.start(home, OURS, ["/no-such-program"], {}, home / ".log")
        node.until_ready(5.0, home / ".log")
    assert [record.pid() for record in all_records(home)] in ([], [0])
    assert list(orphans(home)) == []


def test_a_node_outlives_a_killed_keeper_and_has_one_next_keeper(home: Path) -> None:
    pid = left_by_a_killed_keeper(home)
    assert lives(pid)
    (orphan,) = orphans(home)
    assert orphan.pid() == pid
    assert list(orphans(home)) == []
    assert not Record(orphan.directory).keep()
    orphan.release()
    (again,) = orphans(home)
    Node(again, again.pid()).kill()
    assert not lives(pid)


def test_a_sweep_ends_other_sessions_and_what_nobody_took_over(home: Path, tmp_path: Path) -> None:
    kept, fresh = start(home), left_by_a_killed_keeper(home)
    strange, old = left_by_a_killed_keeper(home, "another"), left_by_a_killed_keeper(home)
    for record in all_records(home):
        if record.pid() == old:
            long_ago_s = time.time() - ADOPT_WITHIN_S - 1
            os.utime(record.directory / "keeper", (long_ago_s, long_ago_s))
    sweep(str(tmp_path), "deployment", "session", 1.0)
    assert [lives(pid) for pid in (kept.pid, fresh, strange, old)] == [True, True, False, False]
    close(str(tmp_path), "deployment", "session", 1.0)
    assert not lives(kept.pid)
    assert not lives(fresh)
    assert records.is_closed(home, "session")
    assert not records.is_closed(home, "another")
    assert list(all_records(home)) == []


def test_a_record_of_a_process_that_is_no_more_signals_nobody(home: Path, tmp_path: Path) -> None:
    node = start(home)
    os.kill(node.pid, signal.SIGKILL)
    assert node.ended(5.0)
    (record,) = all_records(home)
    (record.directory / "node").write_text(str(os.getpid()))  # as if its number had come to us
    assert record.pid() == 0
    node.record.release()
    close(str(tmp_path), "deployment", "session", 1.0)
