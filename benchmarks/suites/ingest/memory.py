"""The memory of the service while thousands of documents go through it.

The documents are on a node of their own, so that what is measured is the service and its parsers,
and not the index, which is to grow.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import psutil

from benchmarks.bench import Bench
from benchmarks.mesh import running_mesh
from benchmarks.processes import rss_kib
from benchmarks.report import Figure, SuiteReport, Target
from benchmarks.suites.ingest.material import abstracts, ingest_files, written_as_markdown

DOCUMENTS = 5_000
QUICK_DOCUMENTS = 200
SETTLED_SHARE = 0.1
"""Of the samples, those from the start, while libraries are loaded, say nothing of growth."""
OTHERS = ("embedding", "retrieval", "generation", "chat")


def run(bench: Bench) -> SuiteReport:
    """Raises DataMissing without SciFact."""
    texts = abstracts(quick=bench.quick)[: QUICK_DOCUMENTS if bench.quick else DOCUMENTS]
    node: list[int] = []
    parsers: list[int] = []
    with (
        running_mesh(nodes=[("documents",), OTHERS]) as mesh,
        tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as folder,
    ):
        paths = written_as_markdown(texts, Path(folder))
        pid = mesh.node_pid()
        bench.say(f"ingesting {len(paths):,} files on a node of documents alone")

        def sample() -> None:
            node.append(rss_kib(pid))
            parsers.append(_parsers_kib(pid))

        gateway = mesh.addresses.rest.removeprefix("http://")
        ingested = ingest_files(gateway, "files", paths, while_running=sample)
    settled = node[int(SETTLED_SHARE * len(node)) :]
    return SuiteReport(
        suite="ingest",
        setting={"documents of the memory part": ingested.documents},
        figures=[
            Figure("memory of the service, least", min(settled) / 1024, "MiB", "after a tenth"),
            Figure("memory of the service, most", max(settled) / 1024, "MiB"),
            Figure("memory of its parsers, most", max(parsers) / 1024, "MiB", "two processes"),
            Figure("failed", ingested.failed, ""),
        ],
        targets=[
            Target(
                "ingest_memory_growth_mib",
                (max(settled) - min(settled)) / 1024,
            )
        ],
    )


def _parsers_kib(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            total += rss_kib(child.pid)
    return total
