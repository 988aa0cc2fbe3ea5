"""Two runs beside each other: a verdict only outside of the noise of both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.compare import better_of, compare
from benchmarks.report import Report
from benchmarks.results import NoReport, read_report
from benchmarks.samples import Median, median_ratio, quartiles, samples_of
from tests.benchmarks.reports import MACHINE, TARGETS, timed

CALM = [1.0, 1.01, 1.02, 0.99, 1.0]


def _written(file: Path, report: Report) -> Path:
    file.write_text(json.dumps(report.to_json(TARGETS)))
    return file


def test_a_report_is_read_as_it_was_written_with_all_rounds(tmp_path: Path) -> None:
    report = timed([1.0, 3.0, 2.0])
    read = read_report(_written(tmp_path / "a.json", report))
    again = json.loads(json.dumps(read.to_json(TARGETS)))
    assert again == json.loads(json.dumps(report.to_json(TARGETS)))
    assert samples_of(read.suites[0].figures[0].value) == (1.0, 3.0, 2.0)
    assert samples_of(read.suites[0].comparisons[0].ratio) == (0.5, 1.5, 1.0)
    assert np.isnan(read.suites[1].targets[0].value)


def test_the_json_has_median_quartiles_samples_seeds_and_no_nan(tmp_path: Path) -> None:
    text = _written(tmp_path / "a.json", timed([1.0, 2.0, 3.0, 4.0, 10.0])).read_text()
    assert "NaN" not in text
    document = json.loads(text)
    figure = document["suites"][0]["figures"][0]
    assert (figure["value"], figure["iqr"]) == (3.0, [2.0, 4.0])
    assert figure["samples"] == [1.0, 2.0, 3.0, 4.0, 10.0]
    once = document["suites"][0]["figures"][1]
    assert (once["iqr"], once["samples"]) == (None, [])
    assert document["seeds"] == {"data": [0]}
    assert document["machine"]["commit"] == "abc"
    assert document["suites"][1]["targets"][0]["verdict"] == "unmeasured"


def test_a_median_keeps_its_samples_until_something_is_computed_of_it() -> None:
    one = Median([3.0, 1.0, 2.0])
    assert (one, samples_of(one)) == (2.0, (3.0, 1.0, 2.0))
    assert samples_of(one * 2) == samples_of(2.0) == ()
    assert np.isnan(Median([]))
    assert quartiles([1.0]) is None
    assert quartiles([1.0, float("nan")]) is None
    assert samples_of(median_ratio(one, Median([1.0, 1.0, 4.0]))) == (3.0, 1.0, 0.5)
    assert samples_of(median_ratio(one, Median([1.0, 0.0, 4.0]))) == ()
    assert np.isnan(median_ratio(1.0, 0.0))


@pytest.mark.parametrize(
    ("rounds", "change"),
    [
        (CALM, "within the noise"),
        ([1.015, 1.02, 1.03, 1.0, 1.01], "within the noise"),
        ([1.2, 1.21, 1.22, 1.19, 1.2], "worse"),
        ([0.8, 0.81, 0.82, 0.79, 0.8], "better"),
        ([0.9, 2.0, 1.4, 1.0, 2.5], "within the noise"),  # far, and just as spread
        ([1.5] * 4, "not repeated"),
    ],
)
def test_only_what_lies_outside_the_noise_of_both_has_a_verdict(
    rounds: list[float], change: str
) -> None:
    changed, _ = compare(timed(CALM), timed(rounds), TARGETS)
    assert {one.name: one.change for one in changed} == {
        "search: p50": change,
        "search: upsert": "not repeated",
        "search: search, p50, ratio": change,
        "search_over_chroma_p50": change,
        "search_recall": "not repeated",
        "quality: SciFact test: dense, nDCG@10": "not repeated",
        "quality: SciFact test: fused, nDCG@10": "not repeated",
        "quality: cranfield: fused, nDCG@10": "not repeated",
    }


def test_a_run_beside_its_own_repetition_is_quiet() -> None:
    random = np.random.default_rng(5)
    verdicts = [
        one.change
        for _ in range(100)
        for one in compare(
            timed(random.normal(1, 0.1, 7).tolist()),
            timed(random.normal(1, 0.1, 7).tolist()),
            TARGETS,
        )[0]
    ]
    assert sum(one in ("better", "worse") for one in verdicts) <= 3  # of 300 with rounds


def test_more_is_better_of_rates_and_qualities_and_less_of_times_and_sizes() -> None:
    assert {better_of(one) for one in ("", "/s", "tokens/s", "MB/s")} == {"higher"}
    assert {better_of(one) for one in ("ms", "s", "bytes", "MiB")} == {"lower"}


def test_of_two_machines_only_ratios_are_compared() -> None:
    other = replace(MACHINE, cpu="CPU Y")
    changed, said = compare(timed(CALM), timed([9.0] * 5, machine=other), TARGETS)
    names = ["search: search, p50, ratio", "search_over_chroma_p50"]
    assert [one.name for one in changed] == names
    assert "CPU Y differ" in said[0]


def test_the_command_tells_programs_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calm = str(_written(tmp_path / "calm.json", timed(CALM)))
    slow = str(_written(tmp_path / "slow.json", timed([2.0] * 5)))
    quick = str(_written(tmp_path / "quick.json", timed(CALM, quick=True)))
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    older = tmp_path / "older.json"
    older.write_text('{"schema_version": 1}')
    assert main(["compare", calm, calm]) == 0
    assert main(["compare", slow, calm]) == 0
    capsys.readouterr()
    assert main(["compare", calm, slow]) == 1
    assert "worse            search: p50: 1 -> 2 (+100.0%)" in capsys.readouterr().out
    for other, word in (
        (quick, "sizes differ"),
        (str(broken), "broken.json is no report"),
        (str(tmp_path / "none.json"), "none.json cannot be read"),
        (str(older), "older.json has version 1, not 2: run the suites again"),
    ):
        assert main(["compare", calm, other]) == 2
        assert word in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "3", '{"schema_version": 2}', '{"a": 1}', "\x00"])
def test_whatever_is_no_report_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "odd.json"
    file.write_text(text)
    with pytest.raises(NoReport, match=r"odd\.json is no report"):
        read_report(file)
