"""Large and many: a million vectors, bursts and steady writes, deletes, thousands of collections,
restarts and kills. Every part has a mesh of its own, whose node hosts retrieval alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import grpc
from ragmesh import RagmeshError

from benchmarks.bench import Bench
from benchmarks.report import SuiteReport, Target, joined
from benchmarks.suites.scale import deletes, many, million, restarts, writes

Part = Callable[[Bench], SuiteReport]
PARTS: Mapping[str, Part] = {
    "writes": writes.run,
    "deletes": deletes.run,
    "many": many.run,
    "restarts": restarts.run,
    "million": million.run,
}


def scale(bench: Bench) -> SuiteReport:
    """The parts that were asked for, or all. One that fails is a missed target, and the others
    run all the same. Raises AssertionError for an unknown part."""
    wanted = bench.options.parts or tuple(PARTS)
    unknown = sorted(set(wanted) - set(PARTS))
    if unknown:
        raise AssertionError(f"scale has no part {unknown[0]!r}, only {', '.join(PARTS)}")
    found: list[SuiteReport] = []
    for name in wanted:
        bench.say(f"scale: {name}")
        try:
            found.append(PARTS[name](bench))
            found.append(SuiteReport("scale", {}, targets=[Target(f"scale_{name}_ran", 1)]))
        except (RagmeshError, grpc.RpcError, RuntimeError, AssertionError, OSError) as error:
            bench.say(f"scale: {name} failed: {type(error).__name__}: {error}")
            found.append(
                SuiteReport(
                    suite="scale",
                    setting={f"{name} failed": f"{type(error).__name__}: {error}"},
                    targets=[Target(f"scale_{name}_ran", 0)],
                )
            )
    return joined("scale", found)
