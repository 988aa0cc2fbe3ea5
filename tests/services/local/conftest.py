"""Processes that run a whole embedded mesh, and are gone when a test ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.services.local.running import Mesh, running_mesh


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Callable[..., Mesh]]:
    """Starts meshes; by default in `tmp_path/data`."""
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    with ExitStack() as started:

        def start(root: Path | None = None, prefix: Sequence[str] = ()) -> Mesh:
            return started.enter_context(running_mesh(root or tmp_path / "data", prefix))

        yield start


@pytest.fixture
def ordinary_user() -> list[str]:
    """What to put before a command so that it runs as an ordinary user, in any directory."""
    if os.geteuid() != 0:
        return []
    return ["unshare", "--user", "--map-user=1", "--map-group=1", "--"]


@pytest.fixture
def leaves_no_process() -> Iterator[None]:
    """Fails a test that leaves a child process of its own; other tests may keep theirs."""
    before = set(psutil.Process().children())
    yield
    assert set(psutil.Process().children()) - before == set()
