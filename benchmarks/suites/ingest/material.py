"""What is ingested, and how: files sent by several callers at once, until all are searchable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragmesh import AsyncClient

from benchmarks.data import DataMissing, Text, demo_texts, scifact

CALLERS = 8
"""Files on their way at once, as `ragmesh ingest` sends them."""
DONE_S = 3_600.0
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of the files, and the seconds from the first to the last one searchable."""

    seconds: float
    documents: int
    passages: int
    failed: int


def abstracts(*, quick: bool) -> list[Text]:
    """SciFact's; in a quick run the demo's, if SciFact is not there. Raises DataMissing."""
    try:
        return scifact().documents
    except DataMissing:
        if not quick:
            raise
        return demo_texts()


def written_as_markdown(texts: Sequence[Text], folder: Path) -> list[Path]:
    """A file for each text: its title as a heading, then the text."""
    paths = []
    for text in texts:
        path = folder / f"{text.id}.md"
        path.write_text(f"# {text.title}\n\n{text.text}\n")
        paths.append(path)
    return paths


def ingest_files(
    address: str,
    collection: str,
    paths: Sequence[Path],
    *,
    while_running: Callable[[], None] = lambda: None,
) -> Ingested:
    """Sends the files into a new collection and waits. `while_running` is called now and then."""
    return asyncio.run(_ingest(address, collection, paths, while_running))


async def _ingest(
    address: str, collection: str, paths: Sequence[Path], while_running: Callable[[], None]
) -> Ingested:
    waiting = iter(paths)
    async with AsyncClient(address, lane="bulk", timeout_s=120) as client:
        await client.create_collection(collection)
        begin_s = time.perf_counter()

        async def send() -> None:
            for path in waiting:
                await client.upload_document(collection, path)

        async with asyncio.timeout(DONE_S), asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(send())
            group.create_task(_until_done(client, collection, len(paths), while_running))
        seconds = time.perf_counter() - begin_s
        documents = [one async for one in client.list_documents(collection, page_size=1_000)]
    active = [one for one in documents if one.state == "active"]
    return Ingested(
        seconds, len(documents), sum(one.passages for one in active), len(documents) - len(active)
    )


async def _until_done(
    client: AsyncClient, collection: str, count: int, while_running: Callable[[], None]
) -> None:
    """Until all were sent and no job is left."""
    while True:
        while_running()
        if not await _waiting(client, collection):
            jobs = client.list_ingest_jobs(collection=collection, page_size=1_000)
            if len([job async for job in jobs if job.done]) == count:
                return
        await asyncio.sleep(_LOOK_S)


async def _waiting(client: AsyncClient, collection: str) -> bool:
    for state in ("queued", "running"):
        found = client.list_ingest_jobs(collection=collection, state=state, page_size=1)
        async for _ in found:
            return True
    return False
