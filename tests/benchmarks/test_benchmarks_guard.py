"""The guard fails on a ratio that is worse twice, and on nothing that noise can do once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import guard
from benchmarks.guard import Baseline, Found, judged, main, read_baselines, updated, write_baselines
from benchmarks.report import Comparison, Figure, SuiteReport

BASELINES = [
    Baseline("search", "SDK, p50", 2.0, 0.5),
    Baseline("search", "recall@10", 1.0, 0.02),
    Baseline("rest", "REST, p50", 1.2, 0.5),
]


def _found(sdk: float, recall: float = 1.0, rest: float = 1.2) -> list[SuiteReport]:
    def one(name: str, ratio: float, unit: str) -> Comparison:
        return Comparison(name, Figure("ours", ratio, unit), Figure("theirs", 1.0, unit))

    return [
        SuiteReport(
            "search", {}, comparisons=[one("SDK, p50", sdk, "ms"), one("recall@10", recall, "")]
        ),
        SuiteReport("rest", {}, comparisons=[one("REST, p50", rest, "ms")]),
    ]


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    file = tmp_path / "baselines.json"
    write_baselines(BASELINES, file)
    for name in ("read_baselines", "write_baselines"):
        function = getattr(guard, name)
        default = (file,)
        monkeypatch.setattr(function, "__defaults__", default)
    return file


class _Runs:
    """Gives one result after the other, and keeps which suites were asked for."""

    def __init__(self, *results: Found) -> None:
        self.asked: list[list[str]] = []
        self._results = list(results)

    def __call__(self, suites: Sequence[str]) -> Found:
        self.asked.append(list(suites))
        return self._results.pop(0)


def test_within_the_tolerance_nothing_is_said(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = _Runs((_found(2.9, 0.985, 0.1), {}))
    assert main([], runs) == 0
    assert runs.asked == [["rest", "search"]]
    assert "3 ratios are within their tolerance" in capsys.readouterr().out


def test_what_is_worse_once_is_measured_again(file: Path) -> None:
    runs = _Runs((_found(3.1), {}), (_found(2.2), {}))
    assert main([], runs) == 0
    assert runs.asked == [["rest", "search"], ["search"]]


def test_what_is_worse_twice_fails_and_is_named(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], _Runs((_found(3.1), {}), (_found(3.2), {}))) == 1
    assert "worse: search: SDK, p50: 3.2, baseline 2, tolerance 50%" in capsys.readouterr().out
    assert main([], _Runs((_found(2, 0.9), {}), (_found(2, 0.9), {}))) == 1


def test_a_peer_that_is_missing_is_named_and_a_suite_that_cannot_run_fails(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], _Runs((_found(float("nan")), {}))) == 0
    assert "not measured: search: SDK, p50" in capsys.readouterr().out
    assert main([], _Runs((_found(2.0), {"rest": "suite rest failed: no gateway"}))) == 1
    assert "no gateway" in capsys.readouterr().out
    assert main([], _Runs(([], {}))) == 1


def test_an_update_keeps_tolerances_and_what_it_did_not_measure(file: Path) -> None:
    assert main(["--update"], _Runs((_found(2.5, float("nan"), 1.0), {}))) == 0
    assert [(one.ratio, one.tolerance) for one in read_baselines(file)] == [
        (2.5, 0.5),
        (1.0, 0.02),
        (1.0, 0.5),
    ]
    assert updated(BASELINES, []) == BASELINES


def test_the_committed_baselines_are_ratios_with_room_for_noise() -> None:
    baselines = read_baselines(Path(guard.__file__).with_name("baselines.json"))
    assert {one.suite for one in baselines} == {"search", "rest"}
    assert all(one.tolerance >= 0.5 or "recall" in one.comparison for one in baselines)
    assert judged(baselines, []) == ([], [f"{one.suite}: {one.comparison}" for one in baselines])


@pytest.mark.parametrize("row", [{"ratio": 1}, {"ratio": 0, "tolerance": 1}])
def test_a_malformed_baseline_is_named(tmp_path: Path, row: dict[str, float]) -> None:
    file = tmp_path / "baselines.json"
    file.write_text(json.dumps({"search": {"a": row}}))
    with pytest.raises(ValueError, match="search: a: needs a ratio and a tolerance"):
        read_baselines(file)
