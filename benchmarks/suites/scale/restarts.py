"""How soon a node answers rightly after it starts, and after it was killed with points that its
index had not saved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from benchmarks import requests
from benchmarks.bench import Bench
from benchmarks.data import Matrix
from benchmarks.report import Figure, SuiteReport, Target
from benchmarks.settled import until_settled
from benchmarks.stage import Stage, staged
from benchmarks.synthetic import Synthetic

COLLECTION = "restarted"
LACKING = (0, 5_000, 20_000)


@dataclass(frozen=True, slots=True)
class Killed:
    """`written` points just before the kill, of which `buffered` were in the buffer; `seconds`
    from the next process's start to its first right answer."""

    written: int
    buffered: int
    seconds: float


def run(bench: Bench) -> SuiteReport:
    """A planned restart, then kills with more and more in the buffer."""
    count, lacking = (2_000, (0, 500)) if bench.quick else (50_000, LACKING)
    made = Synthetic(count + sum(lacking), seed=5)
    points = np.concatenate([rows for _, rows in made.steps()])
    with staged() as stage:
        bench.say(f"writing {count:,} points")
        stage.client.create_collection(COLLECTION, dimensions=made.dimensions)
        _, watermark = stage.write(COLLECTION, points[:count])
        until_settled(stage.client, COLLECTION, stage.pid)
        bench.say("stopping the node and starting it again")
        restart_s = stage.restart_s(*_last(points, count - 1, watermark))
        killed, first = [], count
        for written in lacking:
            bench.say(f"killing the node after {written:,} more points")
            killed.append(_killed(stage, points, first, written, watermark))
            first += written
    return SuiteReport(
        suite="scale",
        setting={"restarts": f"{count:,} points; killed after {', '.join(map(str, lacking))} more"},
        figures=[
            Figure("restart", restart_s, "s", "process start to the first right answer"),
            *(
                Figure(
                    f"kill -9, {one.written:,} written since the index was at rest",
                    one.seconds,
                    "s",
                    f"process start to the first right answer; {one.buffered:,} in the buffer",
                )
                for one in killed
            ),
            Figure("replay", replay_us(killed), "µs a point", "slope over what the buffer held"),
        ],
        targets=[
            Target("scale_restart_s", restart_s),
            Target("scale_killed_restart_s", killed[0].seconds),
        ],
    )


def replay_us(killed: list[Killed]) -> float:
    """Microseconds that one more point in the buffer costs a restart; NaN where all held as
    many."""
    lacks = np.array([one.buffered for one in killed], np.float64)
    seconds = np.array([one.seconds for one in killed])
    if len(set(lacks.tolist())) < 2:
        return float("nan")
    slope, _ = np.polyfit(lacks, seconds, 1)
    return float(slope) * 1e6


def _killed(stage: Stage, points: Matrix, first: int, written: int, watermark: str) -> Killed:
    until_settled(stage.client, COLLECTION, stage.pid)
    if written:
        rows = points[first : first + written]
        _, watermark = stage.write(COLLECTION, rows, first_id=first)
        stage.client.count_points(COLLECTION, min_watermark=watermark, timeout_s=120)
    buffered = stage.client.get_collection_stats(COLLECTION).buffered_points
    seconds = stage.crash_s(*_last(points, first + written - 1, watermark))
    return Killed(written, buffered, seconds)


def _last(points: Matrix, row: int, watermark: str) -> tuple[pb.SearchCollectionRequest, list[str]]:
    """A search for a row that finds it where the index has come as far as its commit."""
    request = requests.search_request(COLLECTION, points[row], ids_only=True)
    request.limit = 1
    request.min_watermark = watermark
    return request, [str(row)]
