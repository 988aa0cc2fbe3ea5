"""Documents in: sent one after the other, and their jobs watched to their end in the same order.

Nodes take jobs in the order in which they came, so one watch at a time sees all of them end; a
watch for each document took a third of a small machine from the embedding. What the others do
meanwhile is read twice a second, from one list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from ragmesh import AsyncClient, IngestJob

IN_FLIGHT_MAX = 64
"""Documents that are sent and not finished: enough that no ingest worker of a node waits for us,
and few enough that Ctrl-C leaves little behind."""
LOOK_S = 0.5
"""Between two looks at what the jobs in flight do."""
WAIT_S = 7 * 86_400.0
"""How long one job is watched: as long as it takes."""

Result: TypeAlias = Literal["ingested", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Item:
    """Something to ingest: `label` for people; `send` stores it and returns its job, or says how it
    went where there is none. It may raise what the client raises, and OSError."""

    label: str
    send: Callable[[AsyncClient], Awaitable[IngestJob | Outcome]]
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went; `reason` is empty where it is ingested."""

    label: str
    result: Result
    document: str = ""
    passages: int = 0
    reason: str = ""
    message: str = ""
    size_bytes: int = 0


class Told:
    """Whom an ingestion tells how it goes. This one keeps the outcomes, in the order in which they
    came; others show them."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def moved(self, item: Item, job: IngestJob) -> None:
        """A job that is in flight has come further."""

    def ended(self, outcome: Outcome) -> None:
        """Nothing more will happen to an item."""
        self.outcomes.append(outcome)


class Ingestion:
    """Items on their way into one collection, or into any where `collection` is empty."""

    def __init__(self, client: AsyncClient, told: Told, *, collection: str = "") -> None:
        self._client = client
        self._told = told
        self._collection = collection
        self.in_flight: dict[str, Item] = {}
        """What was sent and has not ended, by the name of its job."""

    async def run(self, items: Iterable[Item], *, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        """Ingest everything.

        An item that is refused or cannot be read is an outcome. Raises the client's error where
        the mesh is gone, or the collection does not exist or takes no documents. Items are asked
        for in a thread, one at a time, as they are needed.
        """
        sent: asyncio.Queue[tuple[Item, IngestJob] | None] = asyncio.Queue(in_flight_max)
        tasks = [
            asyncio.create_task(self._send_all(iter(items), sent)),
            asyncio.create_task(self._watch_all(sent)),
        ]
        looking = asyncio.create_task(self._look()) if self._collection else None
        try:
            await asyncio.gather(*tasks)
        finally:
            every = [*tasks, looking] if looking else tasks
            for task in every:
                task.cancel()
            await asyncio.gather(*every, return_exceptions=True)

    async def _send_all(
        self, items: Iterator[Item], sent: asyncio.Queue[tuple[Item, IngestJob] | None]
    ) -> None:
        while (item := await asyncio.to_thread(next, items, None)) is not None:
            stored = await _sent(self._client, item)
            if isinstance(stored, Outcome):
                self._told.ended(stored)
            else:
                self.in_flight[stored.name] = item
                await sent.put((item, stored))
        await sent.put(None)

    async def _watch_all(self, sent: asyncio.Queue[tuple[Item, IngestJob] | None]) -> None:
        while (one := await sent.get()) is not None:
            item, job = one
            outcome = await self._finished(item, job)
            self.in_flight.pop(job.name, None)
            self._told.ended(outcome)

    async def _finished(self, item: Item, job: IngestJob) -> Outcome:
        import ragmesh

        try:
            done = await self._client.wait_for_ingest_job(
                job.name, on_progress=lambda now: self._told.moved(item, now), timeout_s=WAIT_S
            )
        except (ragmesh.Unavailable, ragmesh.CollectionNotFound, ragmesh.Internal):
            raise
        except ragmesh.RagmeshError as error:
            return _failed(item, error.reason, error.message, job.document)
        return Outcome(
            item.label,
            "ingested",
            done.document,
            done.passages_total,
            size_bytes=item.size_bytes,
        )

    async def _look(self) -> None:
        """Tells what running jobs do, until it is cancelled. What goes wrong here is no matter:
        whoever waits for a job hears of it."""
        import ragmesh

        while True:
            await asyncio.sleep(LOOK_S)
            if not self.in_flight:
                continue
            running = self._client.list_ingest_jobs(
                collection=self._collection, state="running", page_size=IN_FLIGHT_MAX
            )
            try:
                async for page in running.pages():
                    for job in page.items:
                        if item := self.in_flight.get(job.name):
                            self._told.moved(item, job)
                    break
            except ragmesh.RagmeshError:
                continue


async def _sent(client: AsyncClient, item: Item) -> IngestJob | Outcome:
    """The job that was made, or how it went without one."""
    import ragmesh

    try:
        return await _send(client, item)
    except (ragmesh.DocumentExists, ragmesh.UnsupportedMediaType) as error:
        return Outcome(item.label, "skipped", reason=error.reason, message=error.message)
    except (ragmesh.Unavailable, ragmesh.CollectionNotFound, ragmesh.Internal):
        raise
    except ragmesh.NoEmbeddingModel:  # as it would be of every other item
        raise
    except ragmesh.RagmeshError as error:
        return _failed(item, error.reason, error.message)
    except OSError as error:
        return _failed(item, "UNREADABLE", error.strerror or str(error))


async def _send(client: AsyncClient, item: Item) -> IngestJob | Outcome:
    """Store it; a queue that is full is waited for, because jobs of ours leave it."""
    import ragmesh

    while True:
        try:
            return await item.send(client)
        except ragmesh.QueueFull as error:
            await asyncio.sleep(error.retry_after_s or 1.0)


def _failed(item: Item, reason: str, message: str, document: str = "") -> Outcome:
    return Outcome(item.label, "failed", document, 0, reason, message, item.size_bytes)
