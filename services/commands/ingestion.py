"""Documents in: sent one after the other, and their jobs watched to their end in the same order.

Nodes take jobs in the order in which they came, so one watch at a time sees all of them end; a
watch for each document took a third of a small machine from the embedding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from ragmesh import AsyncClient, IngestJob, StoredDocument

IN_FLIGHT_MAX = 64
"""Documents that are sent and not finished: enough that no ingest worker of a node waits for us,
and few enough that Ctrl-C leaves little behind."""

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
    sent: asyncio.Queue[tuple[Item, StoredDocument] | None] = asyncio.Queue(in_flight_max)

    def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        on_outcome(outcome)

    async def send_all() -> None:
        for item in items:
            stored = await _sent(client, item)
            if isinstance(stored, Outcome):
                tell(stored)
            else:
                await sent.put((item, stored))
        await sent.put(None)

    async def watch_all() -> None:
        while (one := await sent.get()) is not None:
            item, stored = one
            tell(await _finished(client, item, stored, on_progress))

    tasks = [asyncio.create_task(send_all()), asyncio.create_task(watch_all())]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return outcomes


async def _sent(client: AsyncClient, item: Item) -> StoredDocument | Outcome:
    """The stored document, or why there is none."""
    import ragmesh

    try:
        return await _send(client, item)
    except (ragmesh.DocumentExists, ragmesh.UnsupportedMediaType) as error:
        return Outcome(item.label, "skipped", reason=error.reason, message=error.message)
    except (ragmesh.Unavailable, ragmesh.CollectionNotFound, ragmesh.Internal):
        raise
    except ragmesh.RagmeshError as error:
        return Outcome(item.label, "failed", reason=error.reason, message=error.message)
    except OSError as error:
        message = f"{error.filename or item.label}: {error.strerror or error}"
        return Outcome(item.label, "failed", reason="UNREADABLE", message=message)


async def _finished(
    client: AsyncClient,
    item: Item,
    stored: StoredDocument,
    on_progress: Callable[[Item, IngestJob], None],
) -> Outcome:
    """How the ingestion of a stored document ended."""
    import ragmesh

    try:
        job = await client.wait_for_ingest_job(
            stored.ingest_job.name, on_progress=lambda job: on_progress(item, job)
        )
    except (ragmesh.Unavailable, ragmesh.CollectionNotFound, ragmesh.Internal):
        raise
    except ragmesh.RagmeshError as error:
        return Outcome(item.label, "failed", reason=error.reason, message=error.message)
    return Outcome(item.label, "ingested", job.document, job.passages_total)


async def _send(client: AsyncClient, item: Item) -> StoredDocument:
    """Store it; a queue that is full is waited for, because jobs of ours leave it."""
    import ragmesh

    while True:
        try:
            return await item.send(client)
        except ragmesh.QueueFull as error:
            await asyncio.sleep(error.retry_after_s or 1.0)
