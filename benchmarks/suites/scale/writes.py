"""A burst of durable upserts, and minutes of steady ones, with searches meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks import requests
from benchmarks.bench import Bench
from benchmarks.pressure import Outcome, Pressure, put
from benchmarks.report import Figure, SuiteReport, Target, joined
from benchmarks.stage import (
    BATCH,
    WRITERS,
    Stage,
    evenly,
    last_watermark,
    prepared,
    searching,
    staged,
)
from benchmarks.synthetic import Synthetic

PAYLOAD_BYTES = 500
BURST = 100_000
STEADY_PER_S = 2_000
QUERIES = 400
_SEARCH_S = 3_600.0


def run(bench: Bench) -> SuiteReport:
    """Both, each on a collection of its own, in one mesh."""
    with staged() as stage:
        return joined("scale", [_burst(bench, stage), _steady(bench, stage)])


def _burst(bench: Bench, stage: Stage) -> SuiteReport:
    count = 5_000 if bench.quick else BURST
    made = Synthetic(count, seed=1)
    stage.client.create_collection("burst", dimensions=made.dimensions)
    bench.say(f"a burst of {count:,} upserts")
    with (
        prepared(_upserts("burst", made)) as file,
        searching(stage.address, "burst", made.queries(QUERIES), _SEARCH_S) as searches,
    ):
        written = put(stage.load(file)).check()
        acknowledged_s = time.perf_counter()
        found = stage.client.count_points(
            "burst", min_watermark=last_watermark(written), timeout_s=120
        ).count
        searchable_s = time.perf_counter() - acknowledged_s
        searched = searches.stop().check()
    if found != count:
        raise AssertionError(f"{count} points were written and {found} are there")
    rate = count / written.elapsed_s
    return SuiteReport(
        suite="scale",
        setting={
            "burst": f"{count:,} x {made.dimensions} with {PAYLOAD_BYTES} bytes of payload, "
            f"batches of {BATCH}, {WRITERS} in flight",
        },
        figures=[
            Figure("burst", rate, "points/s", f"{written.retried} refused and sent again"),
            Figure("burst: an upsert, p99", written.percentile_ms(99), "ms", f"{BATCH} points"),
            Figure("burst: searchable after the last reply", searchable_s, "s", "counted exactly"),
            *_searches("burst", searched),
        ],
        targets=[
            Target("scale_burst_points_per_s", rate),
            Target("scale_burst_searchable_s", searchable_s),
            Target("scale_burst_search_p99_ms", searched.percentile_ms(99)),
        ],
    )


def _steady(bench: Bench, stage: Stage) -> SuiteReport:
    seconds = 5.0 if bench.quick else bench.options.minutes * 60
    count = int(seconds * STEADY_PER_S) // BATCH * BATCH
    made = Synthetic(count, seed=2)
    stage.client.create_collection("steady", dimensions=made.dimensions)
    bench.say(f"preparing {count:,} upserts")
    with (
        prepared(_upserts("steady", made)) as file,
        searching(stage.address, "steady", made.queries(QUERIES), _SEARCH_S, seed=1) as searches,
    ):
        bench.say(f"{STEADY_PER_S:,} points/s for {seconds / 60:.1f} minutes")
        with Pressure(stage.load(file, arrivals_s=evenly(count // BATCH, seconds))) as writer:
            most = _watch(stage, writer)
            written = writer.wait().check()
        stats = stage.client.get_collection_stats("steady")
        searched = searches.stop().check()
    rate = written.ok * BATCH / max(seconds, written.elapsed_s)
    return SuiteReport(
        suite="scale",
        setting={"steady": f"{seconds / 60:.1f} minutes at {STEADY_PER_S:,} points/s"},
        figures=[
            Figure("steady", rate, "points/s", f"{count:,} points"),
            Figure(
                "steady: an upsert, p99", written.percentile_ms(99), "ms", "from when it is due"
            ),
            Figure("steady: segments at the end", float(stats.segments), "", f"at most {most[0]}"),
            Figure(
                "steady: buffered points at the end",
                float(stats.buffered_points),
                "",
                f"at most {most[1]:,}",
            ),
            Figure("steady: commits not applied at the end", float(stats.lag_commits), ""),
            *_searches("steady", searched),
        ],
        targets=[
            # As many as were due, less what arrives with the last batch.
            Target("scale_steady_points_per_s", rate),
            Target("scale_steady_segments", stats.segments),
            Target("scale_steady_buffered_points", stats.buffered_points),
            Target("scale_steady_search_p99_ms", searched.percentile_ms(99)),
        ],
    )


def _upserts(collection: str, made: Synthetic) -> Iterator[bytes]:
    for first, rows in made.steps():
        yield from requests.upserts(
            collection, rows, batch=BATCH, first_id=first, payload_bytes=PAYLOAD_BYTES
        )


def _watch(stage: Stage, writer: Pressure) -> tuple[int, int]:
    """The most segments and buffered points while it writes."""
    segments = buffered = 0
    while writer.running():
        stats = stage.client.get_collection_stats("steady")
        segments = max(segments, stats.segments)
        buffered = max(buffered, stats.buffered_points)
        time.sleep(1)
    return segments, buffered


def _searches(name: str, searched: Outcome) -> list[Figure]:
    note = f"of {searched.ok:,}, 40 Poisson searches/s"
    return [
        Figure(f"{name}: a search meanwhile, p50", searched.percentile_ms(50), "ms", note),
        Figure(f"{name}: … p99", searched.percentile_ms(99), "ms"),
        Figure(f"{name}: … the longest", searched.percentile_ms(100), "ms"),
    ]
