"""A data directory has one holder, private modes, and sockets whose paths fit."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import FailedPrecondition
from services.local.directory import (
    SOCKET_NAME_BYTES_MAX,
    SOCKET_PATH_BYTES_MAX,
    find_holder,
    hold,
)
from tests.services.local.running import Mesh


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    path.unlink()


def test_a_second_holder_learns_who_holds_it_and_where_it_answers(
    mesh: Callable[..., Mesh], tmp_path: Path
) -> None:
    first = mesh()
    up = first.wait_for(kind="up")
    with pytest.raises(FailedPrecondition) as caught:
        hold(tmp_path / "data")
    assert caught.value.metadata["pid"] == str(first.process.pid)
    assert up["url"] in caught.value.message
    assert mesh().wait_for(kind="failed")["error"] == "FailedPrecondition"
    holder = find_holder(tmp_path / "data")
    assert holder is not None
    assert (holder.pid, holder.addresses["postgres"]) == (first.process.pid, up["url"])
    assert abs(time.time() - holder.started_at_s) < 60

    first.kill()  # what it wrote about itself stays, the lock does not
    assert find_holder(tmp_path / "data") is None
    hold(tmp_path / "data").release()


def test_a_directory_can_be_held_again_once_released(tmp_path: Path) -> None:
    for _ in range(3):
        with hold(tmp_path / "data") as held:
            held.describe({"name": "a" * 1000})
            held.describe({"name": "b"})
            holder = find_holder(tmp_path / "data")
            assert holder is not None
            assert holder.addresses == {"name": "b"}
        held.release()
        assert find_holder(tmp_path / "data") is None


def test_everything_in_it_is_private_even_where_it_was_open(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir(mode=0o755)
    with hold(root) as held:
        rooms = ("redis", "models", "objects", "logs", "run")
        modes = {path.stat().st_mode & 0o777 for path in (root, *(root / room for room in rooms))}
        assert modes == {0o700}
        assert held.directory.lock_file.stat().st_mode & 0o777 == 0o600


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "home"
    root.mkdir(mode=0o755)
    (root / "thesis.tex").write_text("")
    with pytest.raises(FailedPrecondition, match=r"thesis\.tex"):
        hold(root)
    assert root.stat().st_mode & 0o777 == 0o755
    assert os.listdir(root) == ["thesis.tex"]


def test_a_path_that_is_no_directory_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition, match="file/data"):
        hold(tmp_path / "file" / "data")


@pytest.mark.parametrize("length", [1, 30, 67 - 5, 67 - 4, 150, 240])
def test_sockets_can_be_made_whatever_the_length_of_the_path(length: int) -> None:
    base = Path("/tmp") / f"rm-{os.getpid()}"
    root = base / ("x" * length)
    try:
        with hold(root) as held:
            longest = held.directory.socket("s" * (SOCKET_NAME_BYTES_MAX - 1))
            assert len(os.fsencode(longest)) <= SOCKET_PATH_BYTES_MAX
            listen(longest)
            assert (root / "run").resolve() == held.directory.run.resolve()
            assert held.directory.run.stat().st_mode & 0o777 == 0o700
            with pytest.raises(ValueError, match="40 bytes"):
                held.directory.socket("s" * SOCKET_NAME_BYTES_MAX)
        with hold(root) as again:
            assert again.directory == held.directory
        assert held.directory.run.exists() == (held.directory.run.parent == root)
    finally:
        shutil.rmtree(base)


def test_a_directory_that_is_moved_takes_its_sockets_along(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 40)
    with hold(deep) as held:
        far = held.directory.run
    shallow = Path("/tmp") / f"rm-moved-{os.getpid()}"
    deep.rename(shallow)
    try:
        with hold(shallow) as held:
            assert held.directory.run == shallow / "run"
            listen(held.directory.socket("a.sock"))
        shallow.rename(deep)
        with hold(deep) as held:
            assert held.directory.run == far
    finally:
        shutil.rmtree(shallow, ignore_errors=True)


def test_a_planted_socket_directory_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 40)
    with hold(deep) as held:
        short = held.directory.run
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    short.symlink_to(elsewhere)
    try:
        with pytest.raises(FailedPrecondition, match="somebody else's"):
            hold(deep)
    finally:
        short.unlink()
    hold(deep).release()  # and the refusal kept no lock
