"""Tests of one mesh run in one process, and what the sharing names is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sharing import LONGEST, MESHES, ONE_NODE, SPLIT_MESH, WITHOUT_MESH, place, unit

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("nodeid", "wanted"),
    [
        ("tests/behaviour/test_a.py::test_b[process]", ONE_NODE),
        ("tests/behaviour/test_a.py::test_b[8-grpc]", ONE_NODE),
        ("tests/behaviour/test_a.py::test_b[grpc-EmbedTexts-Damage.CUT]", ONE_NODE),
        ("tests/behaviour/test_a.py::test_b[split-EmbedTexts]", SPLIT_MESH),
        ("tests/behaviour/test_a.py::test_b[rest]", SPLIT_MESH),
        ("tests/behaviour/test_a.py::test_grpc_itself", SPLIT_MESH),
        ("tests/faults/test_redis_may_be_lost.py::test_a", MESHES["tests/faults"]),
        (
            "tests/faults/test_siblings_come_back.py::test_a",
            "tests/faults/test_siblings_come_back.py",
        ),
        ("tests/engine/test_schedule.py::test_a[x::y]", "tests/engine/test_schedule.py"),
    ],
)
def test_what_stands_on_one_mesh_stays_together(nodeid: str, wanted: str) -> None:
    assert unit(nodeid) == wanted


def test_what_is_named_is_there() -> None:
    for folder in MESHES:
        assert (ROOT / folder).is_dir()
    for name in WITHOUT_MESH:
        assert (ROOT / "tests" / "faults" / f"{name}.py").is_file()
    for one in LONGEST:
        assert one in (ONE_NODE, SPLIT_MESH, *MESHES.values()) or (ROOT / one).exists()
    assert place(SPLIT_MESH) == 0 < place("tests/engine/x.py") < place("tests/house/x.py")
