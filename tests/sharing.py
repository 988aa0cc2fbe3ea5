"""How a whole run of the tests is shared out among processes: tests that stand on one mesh stay
together, every other file is on its own, and what takes longest begins first."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

PROCESSES = 2
"""On two cores: with three, parts of the meshes under test wait for each other."""

ONE_NODE, SPLIT_MESH = "behaviour on one node", "behaviour on a split mesh"
MESHES = {
    "tests/faults": "faults of a mesh",
    "tests/services/gateway": "the gateway",
    "tests/services/chat": "chat",
    "tests/services/generation": "generation",
}
"""Folders whose tests share what takes seconds to start."""
WITHOUT_MESH = {
    "test_disks_may_fail",
    "test_model_queue_under_pressure",
    "test_siblings_come_back",
}
"""Files in them that do not."""

LONGEST = (
    SPLIT_MESH,
    ONE_NODE,
    "faults of a mesh",
    "tests/services/ray",
    "tests/services/local",
    "tests/services/commands",
    "tests/services/retrieval",
    "the gateway",
    "tests/benchmarks",
    "tests/services",
    "tests/engine",
)
"""In this order; the rest follows."""


def unit(nodeid: str) -> str:
    """What a test is run together with."""
    path, _, test = nodeid.partition("::")
    file = PurePosixPath(path)
    folder = str(file.parent)
    if folder == "tests/behaviour":
        words = re.split(r"[\[\]-]", test)
        return ONE_NODE if {"process", "grpc"}.intersection(words) else SPLIT_MESH
    return MESHES.get(folder, path) if file.stem not in WITHOUT_MESH else path


def place(name: str) -> int:
    """When a unit begins, as a number that grows."""
    return next((n for n, one in enumerate(LONGEST) if name.startswith(one)), len(LONGEST))


def processes(config: pytest.Config) -> int:
    """How many processes run the tests; 0 is this one, for whoever asked for a part of them."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    some = any(config.getoption(one, False) for one in ("keyword", "markexpr", "lf", "collectonly"))
    return PROCESSES if whole and not some else 0


class Sharing(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each process one unit after the other, in the order of the tests."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        config.option.loadscopereorder = False  # a unit's tests say nothing of how long it takes
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)
