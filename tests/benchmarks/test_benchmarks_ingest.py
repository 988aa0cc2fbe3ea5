"""The suite `ingest` times files that both sides read, and runs without the peer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench import Bench, Options
from benchmarks.peers import environment
from benchmarks.peers.environment import find
from benchmarks.peers.process import running
from benchmarks.peers.reading import answering
from benchmarks.suites.ingest import ingest, parsing
from benchmarks.suites.ingest.parsing import Reading, comparisons, corpus, rate, read


def test_a_quick_run_without_the_peer_measures_ours_and_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAGMESH_DATA", raising=False)
    monkeypatch.setattr(
        parsing, "find", lambda name: environment.read(find(name).file, tmp_path / "none")
    )
    with Bench(Options(quick=True, parts=("parsing",)), lambda said: None) as bench:
        report = ingest(bench)
    assert "benchmarks.peers prepare markitdown" in report.setting["not run"]
    rates = {one.name: one.value for one in report.figures}
    assert {"parsing md", "parsing html", "parsing pdf"} <= set(rates)
    assert all(np.isfinite(value) and value > 0 for value in rates.values())
    assert rates["files read"] == report.setting["files"]


def test_only_files_that_both_read_are_compared() -> None:
    paths = [Path("a.md"), Path("b.md"), Path("c.pdf")]
    ours = [Reading(path, 1_000_000, 0.5) for path in paths]
    theirs = [
        Reading(path, 1_000_000, seconds)
        for path, seconds in zip(paths, (1.0, None, None), strict=True)
    ]
    (only,) = comparisons(ours, theirs)
    assert (only.name, only.ours.value, only.peer.value) == ("md, 1 files", 2.0, 1.0)
    assert np.isnan(rate([]))


def test_a_file_that_a_side_cannot_read_is_none_and_the_next_is_read(tmp_path: Path) -> None:
    def reader(path: str) -> str:
        return Path(path).read_text()

    (tmp_path / "there").write_text("words")
    answer = answering(reader)(
        {"files": [str(tmp_path / "absent"), str(tmp_path / "there")], "passes": 2}
    )
    assert answer["seconds"][0] is None and answer["seconds"][1] > 0
    assert answer["chars"] == [0, 5]


def test_our_side_reads_the_files_of_the_demo() -> None:
    files = corpus("")
    with running(find("ours")) as side:
        assert all(one.seconds is not None for one in read(side, files, 1))


def test_every_file_of_a_corpus_has_a_row_and_every_passage_quotes_exactly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "parser-docs" / "hostile"
    folder.mkdir(parents=True)
    (folder / "good.md").write_text("# A heading\n\n" + "A sentence of words. " * 200)
    (folder / "bad.pdf").write_bytes(b"%PDF-1.4 and no more")
    monkeypatch.setenv("RAGMESH_DATA", str(tmp_path))
    with Bench(Options(quick=True, parts=("corpus",)), lambda said: None) as bench:
        report = ingest(bench)
    rows = {one.name: (one.value, one.note) for one in report.figures}
    assert rows["hostile/good.md"][0] > 4_000
    assert rows["hostile/bad.pdf"][1].startswith("refused: the PDF is broken")
    assert (rows["files parsed"][0], rows["files refused"][0]) == (1, 1)
    assert rows["passages"][0] > 1
    targets = {target.name: target for target in report.targets}
    assert targets["corpus_exact_quotes_share"].value == 1.0
    assert 0 < targets["corpus_slowest_hostile_s"].value < 10


def test_a_part_that_is_none_is_refused_by_name() -> None:
    with (
        Bench(Options(parts=("corpse",)), lambda said: None) as bench,
        pytest.raises(AssertionError, match="no part 'corpse', only parsing, corpus"),
    ):
        ingest(bench)


def test_a_quick_run_of_the_largest_files_cuts_them_in_sections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAGMESH_DATA", raising=False)
    with Bench(Options(quick=True, parts=("large",)), lambda said: None) as bench:
        report = ingest(bench)
    by_name = {one.name: one for one in report.figures}
    assert by_name["long.txt: text"].value == pytest.approx(4.0, rel=0.1)
    assert int(by_name["long.txt"].note.split()[0]) > 3
    assert {target.name for target in report.targets} == {
        "ingest_large_text_mb",
        "ingest_large_pdf_mb",
    }
    assert all(0 < target.value < 600 for target in report.targets)
