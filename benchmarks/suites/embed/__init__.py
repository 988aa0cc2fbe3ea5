"""Embedding: throughput beside other libraries, one query, queries beside bulk work, many callers
beside one, and what each policy of the queue pads.

All sides are processes of their own with the same cores; what is compared runs in turns.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.report import SuiteReport
from benchmarks.suites.embed import callers, policies, queries, throughput
from benchmarks.suites.embed.material import read_material
from benchmarks.suites.embed.sides import Sides


def embed(bench: Bench) -> SuiteReport:
    """All parts, one after the other; the model is converted once, for all of them."""
    material = read_material()
    with tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as cache, ExitStack() as stack:
        sides = Sides(bench, Path(cache), stack)
        parts = [
            part(bench, sides, material)
            for part in (throughput.run, queries.run, callers.run, policies.run)
        ]
        setting = {name: value for part in parts for name, value in part.setting.items()}
        setting["packages"] = sides.versions
        if sides.missing:
            setting["not run"] = "; ".join(sides.missing)
    return SuiteReport(
        suite="embed",
        setting=setting,
        figures=[figure for part in parts for figure in part.figures],
        comparisons=[comparison for part in parts for comparison in part.comparisons],
        targets=[target for part in parts for target in part.targets],
    )
