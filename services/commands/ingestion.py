"""Documents in: each sent, and its job watched to its end, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from ragmesh import AsyncClient, IngestJob, StoredDocument

IN_FLIGHT_MAX = 8
"""Enough that no ingest worker of a node waits for us; each costs the server a watch."""

Result: TypeAlias = Literal["ingested", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Item:
    """Something to ingest: `label` for people, `send` stores it."""

    label: str
    send: Callable[[AsyncClient], Awaitable[StoredDocument]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went; `reason` is empty where it is ingested."""

    label: str
    result: Result
    document: str = ""
    passages: int = 0
    reason: str = ""
    message: str = ""


async def ingest_all(
    client: AsyncClient,
    items: Iterable[Item],
    *,
    on_progress: Callable[[Item, IngestJob], None] = lambda item, job: None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    in_flight_max: int = IN_FLIGHT_MAX,
) -> Sequence[Outcome]:
    """Ingest everything; the outcomes in the order in which they came.

    A document that is refused or cannot be read is an outcome. Raises the client's error where
    the mesh is gone or the collection does not exist.
    """
    outcomes: list[Outcome] = []
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            outcome = await _ingest(client, item, on_progress)
            outcomes.append(outcome)
            on_outcome(outcome)

    workers = [asyncio.create_task(work()) for _ in range(in_flight_max)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return outcomes


async def _ingest(
    client: AsyncClient, item: Item, on_progress: Callable[[Item, IngestJob], None]
) -> Outcome:
    import ragmesh

    try:
        stored = await _send(client, item)
        job = await client.wait_for_ingest_job(
            stored.ingest_job.name, on_progress=lambda job: on_progress(item, job)
        )
    except (ragmesh.DocumentExists, ragmesh.UnsupportedMediaType) as error:
        return Outcome(item.label, "skipped", reason=error.reason, message=error.message)
    except (ragmesh.Unavailable, ragmesh.CollectionNotFound, ragmesh.Internal):
        raise
    except ragmesh.RagmeshError as error:
        return Outcome(item.label, "failed", reason=error.reason, message=error.message)
    except OSError as error:
        message = f"{error.filename or item.label}: {error.strerror or error}"
        return Outcome(item.label, "failed", reason="UNREADABLE", message=message)
    return Outcome(item.label, "ingested", job.document, job.passages_total)


async def _send(client: AsyncClient, item: Item) -> StoredDocument:
    """Store it; a queue that is full is waited for, because jobs of ours leave it."""
    import ragmesh

    while True:
        try:
            return await item.send(client)
        except ragmesh.QueueFull as error:
            await asyncio.sleep(error.retry_after_s or 1.0)
