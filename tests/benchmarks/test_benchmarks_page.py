"""The report that people read: every target is a row, and what a peer does better is said."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.page import page, write_page
from benchmarks.plots import exponent
from benchmarks.svg import COLORS, DARK, PAPER, Bars, Chart, Line, draw, draw_bars
from benchmarks.targets import read_targets
from tests.benchmarks.reports import TARGETS, timed

SVG = "{http://www.w3.org/2000/svg}"


def _page(*rounds: float, quick: bool = False) -> str:
    return page(timed(list(rounds), quick=quick), TARGETS, ["recall", "quality"])


def test_every_target_is_a_row_met_missed_with_its_cause_or_not_measured() -> None:
    text = _page(1.0, 1.0, 1.2)
    rows = {
        line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| `")
    }
    assert rows.keys() == {f"`{name}`" for name in TARGETS.bounds}
    assert "| 0.5 (0.5 to 0.55) | <=0.25 | **missed** |" in rows["`search_over_chroma_p50`"]
    assert "half of it is an empty call." in rows["`search_over_chroma_p50`"]
    assert "| 0.995 | >=0.99 | met |" in rows["`search_recall`"]
    for name in ("`restart_s`", "`writes_per_s`"):
        assert "| - |" in rows[name] and "| not measured |" in rows[name]
    assert "4 targets: 1 met, 1 missed, 2 not measured." in text


def test_a_missed_target_without_a_cause_says_so() -> None:
    text = page(timed([9.0, 9.0]), type(TARGETS)(TARGETS.bounds, {}), [])
    assert "no cause is known yet" in text


def test_the_headline_is_of_ratios_and_comparisons_that_a_peer_wins_are_listed() -> None:
    assert "| Search, p50, to Chroma | 0.5 (0.5 to 0.55) | <=0.25 | **missed** |" in _page(
        1.0, 1.0, 1.2
    )
    assert "In no comparison of this run." in _page(1.0, 1.0)
    assert "| search | search, p50 | Chroma | 2 (2 to 2) |" in _page(4.0, 4.0)


def test_what_was_not_run_is_said_in_plain_words() -> None:
    text = _page(1.0)
    assert "- tei: not run" in text
    assert "- search: qdrant is not installed" in text
    assert "Not measured in this run." in text  # the plots that were not drawn


def test_a_quick_run_judges_nothing() -> None:
    text = _page(9.0, 9.0, quick=True)
    assert "**missed**" not in text
    assert "sizes are too small" in text


def test_the_command_writes_a_page_and_plots_that_it_links(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "found.json"
    results.write_text(json.dumps(timed([1.0, 2.0, 3.0]).to_json(TARGETS)))
    out = tmp_path / "new" / "REPORT.md"
    assert main(["report", str(results), "--out", str(out)]) == 0
    text = out.read_text()
    linked = re.findall(r"\]\((plots/\w+\.svg)\)", text)
    assert linked == [f"plots/{name}.svg" for name in ("recall", "load", "growth", "quality")]
    for name in linked:
        assert ElementTree.parse(out.parent / name).getroot().tag == f"{SVG}svg"
    assert f"{len(read_targets().bounds)} targets: " in text
    assert "memory, MiB: grows as size^1.00" in (out.parent / "plots/growth.svg").read_text()
    assert "ragmesh &lt;p99&gt;" in (out.parent / "plots/load.svg").read_text()
    assert str(out) in capsys.readouterr().out
    results.write_text("no")
    assert main(["report", str(results), "--out", str(out)]) == 2
    assert "is no report" in capsys.readouterr().err


def test_a_run_without_curves_has_a_page_without_plots(tmp_path: Path) -> None:
    report = timed([1.0])
    bare = type(report)(report.machine, report.quick, report.started_at)
    assert write_page(bare, TARGETS, tmp_path / "R.md") == [tmp_path / "R.md"]


def _luminance(color: str) -> float:
    """Relative luminance of sRGB, WCAG 2.2."""
    parts = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("page_color", [PAPER, DARK])
def test_plots_read_well_on_light_and_dark_pages(page_color: str) -> None:
    for color in COLORS:
        low, high = sorted((_luminance(color), _luminance(page_color)))
        assert (high + 0.05) / (low + 0.05) >= 3, color
    drawn = draw(Chart("t", "x", "y", [Line("a", [(1, 1)])]))
    assert "prefers-color-scheme: dark" in drawn
    assert 'fill="#fff' not in drawn


@pytest.mark.parametrize("log", [False, True])
def test_points_stand_inside_the_plot_wherever_they_lie(log: bool) -> None:
    points = [(1e-3, 5.0), (7.0, 5.0), (1e6, 5.0), (0.0, 1.0), (float("nan"), 1.0)]
    root = ElementTree.fromstring(
        draw(Chart("t", "x", "y", [Line("a", points)], x_log=log, y_log=log))
    )
    (line,) = root.iter(f"{SVG}polyline")
    places = [tuple(map(float, one.split(","))) for one in line.attrib["points"].split()]
    assert len(places) == (3 if log else 4)
    assert all(72 <= x <= 704 and 40 <= y <= 344 for x, y in places)


def test_bars_begin_at_zero_and_a_missing_value_has_none() -> None:
    bars = Bars("t", "nDCG", ["a", "b"], [("one", [0.5, None]), ("two", [1.0, -0.25])])
    root = ElementTree.fromstring(draw_bars(bars))
    plain = [one for one in root.iter(f"{SVG}rect") if float(one.attrib["width"]) > 8]
    heights = [float(one.attrib["height"]) for one in plain]
    assert len(heights) == 3
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.01)
    assert heights[2] == pytest.approx(heights[0] / 2, rel=0.01)


def test_an_empty_plot_is_refused() -> None:
    with pytest.raises(ValueError, match="the plot 't' has no point"):
        draw(Chart("t", "x", "y", [Line("a", [(0, 1)])], x_log=True))
    with pytest.raises(ValueError, match="the plot 't' has no bar"):
        draw_bars(Bars("t", "y", ["a"], [("one", [None])]))


def test_the_exponent_of_growth_is_fitted_on_logarithms() -> None:
    assert exponent([(n, 3 * n**1.5) for n in (10, 100, 1_000)]) == pytest.approx(1.5)
    assert exponent([(n, 7) for n in (10, 100)]) == pytest.approx(0)
    assert exponent([(10, 3), (10, 4), (0, 1)]) != exponent([(10, 3)])  # both are not a number
