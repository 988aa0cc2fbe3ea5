"""The suite `scale`: its data, its arithmetic, and that one part's failure is not the others'."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from benchmarks.__main__ import main
from benchmarks.bench import Bench, Options
from benchmarks.data import nearest
from benchmarks.pressure import Outcome
from benchmarks.processes import Taken
from benchmarks.report import SuiteReport, Target
from benchmarks.stage import evenly, last_watermark
from benchmarks.suites.scale import PARTS, scale
from benchmarks.suites.scale.million import ids_bytes, least_bytes, over
from benchmarks.suites.scale.restarts import Killed, replay_us
from benchmarks.synthetic import STEP, Synthetic


def test_rows_are_the_same_each_time_wherever_they_begin() -> None:
    made = Synthetic(2 * STEP + 70, dimensions=8)
    steps = dict(made.steps())
    assert [len(rows) for rows in steps.values()] == [STEP, STEP, 70]
    again = dict(made.steps(start=STEP))
    assert list(again) == [STEP, 2 * STEP]
    assert all(np.array_equal(again[first], steps[first]) for first in again)
    assert not np.array_equal(steps[0][:70], steps[2 * STEP])
    with pytest.raises(ValueError, match="multiples of 10000, and 5 is none"):
        next(made.steps(start=5))
    rows = np.concatenate(list(steps.values()))
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    queries = made.queries(20)
    assert np.array_equal(queries, made.queries(20))
    assert not {one.tobytes() for one in queries} & {one.tobytes() for one in rows}
    assert np.array_equal(
        np.sort(made.exact(queries, 10), axis=1), np.sort(nearest(rows, queries, 10), axis=1)
    )


def test_rows_lie_in_clusters_of_a_hundred() -> None:
    ((_, rows),) = Synthetic(3_000, dimensions=64).steps()
    close = (rows[:200] @ rows.T > 0.5).sum(axis=1)
    assert 60 < np.mean(close) < 150


@given(st.integers(1, 20_000))
def test_the_bytes_of_ids_are_their_characters_and_sixteen(count: int) -> None:
    assert ids_bytes(count) == sum(len(str(n)) + 16 for n in range(count))


def test_the_least_memory_is_that_of_vectors_and_links() -> None:
    # 384 numbers; 32 links and their count; 16 and theirs for each fifteenth point.
    assert least_bytes(15, 384, m=16) == 15 * (1_536 + 132) + 68
    assert over(Taken(3_000, 500), Taken(1_000, 0), 2_048, 1_024 * 1_000) == 2.498


def test_replay_is_the_slope_over_what_the_buffer_held() -> None:
    killed = [Killed(0, 100, 1.0), Killed(0, 1_100, 1.1), Killed(0, 2_100, 1.2)]
    assert replay_us(killed) == pytest.approx(100)
    assert np.isnan(replay_us([Killed(0, 5, 1.0), Killed(9, 5, 2.0)]))


def test_the_last_commit_is_the_highest_of_all_replies() -> None:
    replies = [
        base64.b64encode(pb.UpsertPointsResponse(watermark=one).SerializeToString()).decode()
        for one in ("9", "101", "20")
    ]
    assert last_watermark(Outcome(replies=replies)) == "101"


def test_even_times_fill_their_span_and_end_before_it() -> None:
    assert evenly(4, 2.0) == [0.0, 0.5, 1.0, 1.5]


def test_a_part_that_fails_is_a_missed_target_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(bench: Bench) -> SuiteReport:
        raise RuntimeError("the disk is full")

    def whole(bench: Bench) -> SuiteReport:
        return SuiteReport("scale", {"b": 1}, targets=[Target("scale_b", 7)])

    # By its name in sys.modules: in the package, the function hides the module.
    module = sys.modules["benchmarks.suites.scale"]
    monkeypatch.setattr(module, "PARTS", {"a": broken, "b": whole})
    found = scale(Bench(Options(), lambda _: None))
    assert found.setting == {"a failed": "RuntimeError: the disk is full", "b": 1}
    assert [(one.name, one.value) for one in found.targets] == [
        ("scale_a_ran", 0),
        ("scale_b", 7),
        ("scale_b_ran", 1),
    ]
    with pytest.raises(AssertionError, match="no part 'c', only a, b"):
        scale(Bench(Options(parts=("b", "c")), lambda _: None))


def test_one_part_can_be_asked_for_and_runs_on_a_real_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    arguments = ["scale", "--quick", "--parts", "many", "--json", str(file)]
    assert main(arguments) == 0
    (suite,) = json.loads(file.read_text())["suites"]
    assert set(suite["setting"]) == {"many"} < set(PARTS)
    values = {one["name"]: one["value"] for one in suite["targets"]}
    assert set(values) == {"scale_many_rss_mb", "scale_many_threads", "scale_many_ran"}
    assert all(value > 0 for value in values.values())
    assert "TARGET scale_many_threads" in capsys.readouterr().out
