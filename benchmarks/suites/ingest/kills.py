"""A node that is killed again and again while documents come in: none is lost, doubled or half
there."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ragmesh import AsyncClient, RagmeshError, Unavailable

from benchmarks.bench import Bench
from benchmarks.mesh import RunningMesh, running_mesh
from benchmarks.report import Figure, SuiteReport, Target
from benchmarks.suites.ingest.material import abstracts, written_as_markdown

DOCUMENTS, KILLS = 300, 50
QUICK_DOCUMENTS, QUICK_KILLS = 30, 3
PAUSE_S = (0.1, 2.0)
"""Between a node that serves and its end."""
COLLECTION = "killed"
PATIENCE_S = 900.0
SEED = 11


def run(bench: Bench) -> SuiteReport:
    """Raises DataMissing without SciFact."""
    count, kills = (QUICK_DOCUMENTS, QUICK_KILLS) if bench.quick else (DOCUMENTS, KILLS)
    texts = abstracts(quick=bench.quick)[:count]
    with running_mesh() as mesh, tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as folder:
        paths = written_as_markdown(texts, Path(folder))
        bench.say(f"killing the node {kills} times while {count} documents come in")
        begin_s = time.perf_counter()
        found = asyncio.run(_ingest(mesh, paths, kills))
        seconds = time.perf_counter() - begin_s
    return SuiteReport(
        suite="ingest",
        setting={"documents of the kills part": count, "kills": kills, "seed": SEED},
        figures=[
            Figure("seconds with kills", seconds, "s"),
            Figure("times that a look saw a half document", found["half"], ""),
        ],
        targets=[
            Target("ingest_kills", found["kills"]),
            Target("ingest_kills_lost", found["lost"]),
            Target("ingest_kills_doubled", found["doubled"]),
            Target("ingest_kills_half_visible", found["half"]),
        ],
    )


async def _ingest(mesh: RunningMesh, paths: Sequence[Path], kills: int) -> Counter[str]:
    found: Counter[str] = Counter(kills=0, lost=0, doubled=0, half=0)
    async with (
        asyncio.timeout(PATIENCE_S),
        AsyncClient(mesh.addresses.nodes[0], lane="bulk", timeout_s=20) as client,
    ):
        await client.create_collection(COLLECTION)
        sending = asyncio.create_task(_send(client, paths, kills))
        random_ = random.Random(SEED)
        for _ in range(kills):
            await _serving(client)
            await asyncio.sleep(random_.uniform(*PAUSE_S))
            await asyncio.to_thread(mesh.kill_node)
            found["kills"] += 1
            await _serving(client)
            found["half"] += await _half_visible(client)
        await sending
        await _until_finished(client)
        await _check(client, paths, found)
    return found


async def _send(client: AsyncClient, paths: Sequence[Path], kills: int) -> None:
    """Every file once, each as often as it takes, spread over the time that the kills take."""
    for number, path in enumerate(paths):
        request_id = f"00000000-0000-4000-8000-{number:012x}"
        while True:
            try:
                await client.upload_document(
                    COLLECTION, path, document_id=f"d{number}", request_id=request_id
                )
                break
            except RagmeshError:
                await asyncio.sleep(0.2)
        await asyncio.sleep(1.5 * kills / len(paths))


async def _serving(client: AsyncClient) -> None:
    while True:
        try:
            await client.count_points(COLLECTION)
            return
        except RagmeshError:
            await asyncio.sleep(0.1)


async def _points(client: AsyncClient) -> Counter[str]:
    """Points of each document, and that no id comes twice."""
    ids = [(p.id, p.document) async for p in client.list_points(COLLECTION, page_size=1_000)]
    if len({one for one, _ in ids}) != len(ids):
        raise AssertionError("a point is listed twice")
    return Counter(document.rpartition("/")[2] for _, document in ids)


async def _half_visible(client: AsyncClient) -> int:
    """Documents of which some passages can be found and others not."""
    try:
        before = await _points(client)
        passages = {
            d.name.rpartition("/")[2]: d.passages
            async for d in client.list_documents(COLLECTION, page_size=1_000)
        }
    except Unavailable:
        return 0
    return sum(passages[document] != count for document, count in before.items())


async def _until_finished(client: AsyncClient) -> None:
    """Until no job is left."""
    while True:
        try:
            left = [
                job
                for state in ("queued", "running")
                async for job in client.list_ingest_jobs(collection=COLLECTION, state=state)
            ]
            if not left:
                return
        except RagmeshError:
            pass  # it comes back
        await asyncio.sleep(0.5)


async def _check(client: AsyncClient, paths: Sequence[Path], found: Counter[str]) -> None:
    documents = {
        d.name.rpartition("/")[2]: d
        async for d in client.list_documents(COLLECTION, page_size=1_000)
    }
    points = await _points(client)
    for number in range(len(paths)):
        document = documents.get(f"d{number}")
        if document is None or document.state != "active":
            found["lost"] += 1
        elif points[f"d{number}"] < document.passages:
            found["half"] += 1
        elif points[f"d{number}"] > document.passages:
            found["doubled"] += 1
    found["doubled"] += len(documents) - len(paths)
