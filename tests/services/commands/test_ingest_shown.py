"""What an ingestion tells while it goes on: never more than there is, in one picture that fits."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragmesh import IngestJob
from rich.console import Console

from services.commands.ingest_recorded import Recording
from services.commands.ingest_shown import (
    REASONS_KEPT_MAX,
    UNCHANGED,
    Lines,
    Pace,
    Picture,
    Tally,
    common_folder,
    duration,
)
from services.commands.ingestion import Item, Outcome


def job(stage: Any, done: int = 0, total: int = 0) -> IngestJob:
    times = (None, None, None)
    return IngestJob("ingestJobs/j", "d", "running", stage, done, total, None, 1, *times, "")


def item(label: str) -> Item:
    async def send(client: Any) -> IngestJob:
        raise AssertionError("not sent here")

    return Item(label, send)


COUNTS = st.integers(0, 10**6)


@given(st.floats(0.001, 10**6), COUNTS, COUNTS, COUNTS, COUNTS)
def test_the_time_that_is_left_follows_from_what_is_done(
    elapsed_s: float, files: int, files_left: int, size_bytes: int, bytes_left: int
) -> None:
    pace = Pace(elapsed_s, files, files_left, size_bytes, bytes_left)
    if not files_left:
        assert pace.left_s == 0
    elif pace.left_s is None:
        assert not files, "after the first file it is known"
    else:
        assert pace.left_s > 0
        slower = Pace(2 * elapsed_s, files, files_left, size_bytes, bytes_left)
        assert slower.left_s == pytest.approx(2 * pace.left_s)


def test_times_are_said_in_the_units_that_matter() -> None:
    said = {3.4: "3 s", 59.6: "1 min 0 s", 250: "4 min 10 s", 7_500: "2 h 5 min"}
    assert {seconds: duration(seconds) for seconds in said} == said


@given(st.lists(st.sampled_from(["ingested", "skipped", "failed"]), max_size=30))
def test_what_is_left_never_is_less_than_nothing(results: list[Any]) -> None:
    tally = Tally(len(results), 10 * len(results))
    for number, result in enumerate(results):
        tally.moved(item(str(number)), job("embed", 3, 9))
        tally.ended(Outcome(str(number), result, passages=9, size_bytes=10))
        assert tally.pace.files + tally.pace.files_left <= len(results)
    assert tally.pace.files_left == tally.pace.bytes_left == 0
    assert tally.pace.files == len(results) - results.count("skipped")
    assert len(tally.outcomes) == len(results) - results.count("ingested")


def test_memory_does_not_grow_with_what_fails() -> None:
    tally = Tally()
    for number in range(3 * REASONS_KEPT_MAX):
        tally.ended(Outcome(str(number), "failed", reason="X"))
        tally.ended(Outcome(str(number), "skipped", reason=UNCHANGED))
    assert len(tally.outcomes) == REASONS_KEPT_MAX
    assert tally.counts["failed"] == tally.counts["unchanged"] == 3 * REASONS_KEPT_MAX


def test_programs_get_a_line_for_each_stage_and_each_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = Lines(1, 10)
    for stage, done in (("parse", 0), ("embed", 0), ("embed", 4), ("publish", 9)):
        told.moved(item("a"), job(stage, done, 9))
    told.ended(Outcome("a", "ingested", "d", 9))
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one.get("stage", one["event"]) for one in said] == ["parse", "embed", "publish", "file"]
    assert said[-1]["file"] == "a" and said[-1]["passages"] == 9


def test_the_picture_shows_files_at_work_with_their_stages() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    picture = Picture(40, 400, console=console)
    try:
        for number in range(20):
            picture.moved(item(f"folder/file {number}.pdf"), job("embed", 3, 9))
        picture.moved(item("x" * 200), job("parse"))
        picture.ended(Outcome("folder/file 3.pdf", "ingested", "d", 9, size_bytes=10))
        picture.moved(item("\x1b[31m" + "y" * 200 + "[red]"), job("parse"))
        paper = io.StringIO()
        Console(file=paper, width=100, color_system=None).print(picture.drawn())
        shown = paper.getvalue()
    finally:
        picture.close()
    assert "1 of 40" in shown and "file 4.pdf" in shown and "file 3.pdf" not in shown
    assert "embed" in shown and "3 of 9 passages" in shown and "parse" in shown
    assert "files/s" in shown and "left" in shown
    assert all(len(line) <= 100 for line in shown.splitlines())
    assert len(shown.splitlines()) <= 9


def test_a_drawn_picture_shows_the_middle_and_fetches_nothing(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    picture = Picture(4, 40, console=console)
    for number in range(4):
        for other in range(number, 4):
            picture.moved(item(f"file {other}"), job("embed", 3, 9))
        picture.ended(Outcome(f"file {number}", "ingested", "d", 9, size_bytes=10))
    picture.close()
    recording = Recording("ragmesh ingest <folder>")
    recording.show(picture.middle)
    recording.save(tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text("utf-8")
    shown = re.sub("<[^>]*>", "", drawn).replace("&#160;", " ")
    assert "$ ragmesh ingest &lt;folder&gt;" in shown
    assert "2 of 4" in shown and "file 2" in shown and "file 0" not in shown
    assert "url(" not in drawn.replace("url(#", "")


def test_the_folder_that_all_files_share_is_not_said_of_each() -> None:
    assert common_folder(["/a/b/c.txt", "/a/b/d/e.pdf"]) == "/a/b/"
    assert common_folder(["/a/bc.txt", "/a/bd.txt"]) == "/a/"
    assert common_folder(["/a/b.txt", "c.txt"]) == common_folder(["/a/b.txt"]) == ""
