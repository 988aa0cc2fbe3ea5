"""Two nodes never write into one index directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import FailedPrecondition
from services.retrieval.index.directory import hold_free_index, hold_index

_HOLDER = """
import sys
from pathlib import Path
from services.retrieval.index.directory import hold_index
held = hold_index(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_node_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    root = tmp_path / "index" / "0"
    argv = [sys.executable, "-c", _HOLDER, str(root)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(FailedPrecondition) as caught:
            hold_index(root)
        assert caught.value.metadata["pid"] == str(holder.pid)
        for part in (str(root), str(holder.pid), "RAGMESH_INDEX__DIRECTORY"):
            assert part in caught.value.message
        with hold_free_index(tmp_path / "index") as beside:
            assert beside.root == tmp_path / "index" / "1"
        holder.kill()
    with hold_index(root):  # what a killed node wrote about itself stays, its lock does not
        pass


def test_nodes_of_one_data_directory_each_find_one_that_is_free(tmp_path: Path) -> None:
    first, second = hold_free_index(tmp_path), hold_free_index(tmp_path)
    assert (first.root.name, second.root.name) == ("0", "1")
    with pytest.raises(FailedPrecondition, match="All 2"):
        hold_free_index(tmp_path, slots_max=2)
    for _ in range(2):
        first.release()
    with hold_free_index(tmp_path) as again:
        assert again.root.name == "0"
    second.release()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for hold in (hold_index, hold_free_index):
        with pytest.raises(FailedPrecondition, match="cannot be used") as caught:
            hold(tmp_path / "file" / "index")
        assert str(tmp_path) in caught.value.metadata["path"]
