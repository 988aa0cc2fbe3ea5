"""Bounds stand in one file, with who asks for them; suites measure, one judge holds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.report import Target
from benchmarks.targets import Bound, read_targets
from tests.benchmarks.reports import TARGETS

SUITES = Path(__file__).parents[2] / "benchmarks" / "suites"


def _measured() -> Iterator[tuple[str, ast.Call, re.Pattern[str]]]:
    """Every target that a suite makes: where, and the names that it may have."""
    for file in sorted(SUITES.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Target":
                where = f"{file.relative_to(SUITES)}:{node.lineno}"
                yield where, node, re.compile(_names(node.args[0] if node.args else None))


def _names(name: ast.expr | None) -> str:
    if isinstance(name, ast.Constant):
        return re.escape(str(name.value))
    assert isinstance(name, ast.JoinedStr), "a target's name is written where it is measured"
    return "".join(
        re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+"
        for part in name.values
    )


def test_no_suite_has_a_bound_of_its_own() -> None:
    found = [
        f"{where}: {ast.unparse(node)}"
        for where, node, _ in _measured()
        if len(node.args) != 2 or node.keywords
    ]
    assert not found, f"move the bound to benchmarks/targets.toml, with its source: {found}"


def test_every_figure_that_a_suite_holds_up_has_a_bound_and_every_bound_has_a_figure() -> None:
    bounds = read_targets().bounds
    patterns = [(where, names) for where, _, names in _measured()]
    unbound = [where for where, names in patterns if not any(map(names.fullmatch, bounds))]
    assert not unbound, f"no bound in benchmarks/targets.toml: {unbound}"
    unmeasured = [
        name for name in bounds if not any(names.fullmatch(name) for _, names in patterns)
    ]
    assert not unmeasured, f"no suite measures what is bound: {unmeasured}"


def test_every_bound_says_who_asks_for_it() -> None:
    targets = read_targets()
    kinds = ("budget: ", "issue of ", "our own: ")
    assert not [one.name for one in targets.bounds.values() if not one.source.startswith(kinds)]
    assert any(one.headline for one in targets.bounds.values())
    assert set(targets.causes) <= set(targets.bounds)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(0.25, "met"), (0.2, "met"), (0.2500001, "missed"), (float("nan"), "unmeasured")],
)
def test_a_figure_is_met_missed_or_not_measured(value: float, verdict: str) -> None:
    (one,) = TARGETS.judge([Target("search_over_chroma_p50", value)])
    assert one.verdict == verdict
    (recall,) = TARGETS.judge([Target("search_recall", 0.98)])
    assert recall.verdict == "missed"


def test_a_quick_run_is_not_judged_and_an_unknown_figure_does_not_end_a_run() -> None:
    (one,) = TARGETS.judge([Target("search_recall", 0.5), Target("new", 1)], quick=True)
    assert one.verdict == "unjudged"


def test_a_suite_from_elsewhere_may_bring_its_bound() -> None:
    (one,) = TARGETS.judge([Target("theirs_ms", 3, "<=", 2)])
    assert (one.verdict, one.bound) == ("missed", Bound("theirs_ms", "<=", 2, "the suite itself"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[bounds.a_ms]\nat_most = 1\nsource = ""', "'a_ms' does not say where it comes from"),
        ("[bounds.a_ms]\nat_most = 1", "'a_ms' does not say where it comes from"),
        ('[bounds.a_ms]\nsource = "b"', "'a_ms' needs one of at_most and at_least"),
        ('[bounds.a_ms]\nat_most = 1\nat_least = 1\nsource = "b"', "needs one of"),
        ('[bounds.a_ms]\nat_msot = 1\nsource = "b"', "'a_ms' has 'at_msot'"),
        ('[causes]\na_ms = "b"', "a cause is given for 'a_ms', which has no bound"),
    ],
)
def test_a_malformed_bound_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "targets.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(said)):
        read_targets(file)
