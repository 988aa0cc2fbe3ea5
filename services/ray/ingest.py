"""A collection's waiting documents ingested by a Ray Data job, beside the nodes' own workers.

The stages are those of a node (`services/documents/stages.py`), and so are their rows: what is
parsed and embedded is kept as it is made, under a hash of what it was made from. Readers parse,
embedders chunk, embed by the embedding service in their own process, on a GPU where they have one,
and publish through the one write path. Each claims the jobs it is given for the whole job's owner,
whose leases the driver extends; so a task that Ray runs again goes on where the first one was, and
what a job that died had is taken by nodes, or by the next job.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ray.exceptions import RayError

from engine.errors import ModelUnavailable, RagmeshError
from services.app import Node
from services.config import Settings
from services.documents.files import Files
from services.documents.making import Progress
from services.documents.originals import Originals
from services.documents.outcome import LOST, end
from services.documents.parser import Parsers
from services.documents.stages import Stages
from services.objects.opening import open_objects
from services.ray.job import TENANT, connected, failed, open_store, require_data
from services.store import collections, jobs
from services.store.jobs import IngestJob
from services.store.store import Store

T = TypeVar("T")

BLOCK_JOBS = 16
"""Documents of a block: what goes from a reader to an embedder at once."""
LEASE_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What actors have to know."""

    settings: Settings
    owner: str


@dataclass(frozen=True, slots=True)
class Ingested:
    """What a job did: documents published, and those that it left, because they failed, were
    cancelled, are tried again later or were taken by a node."""

    published: int = 0
    left: int = 0


def ingest(
    settings: Settings,
    collection_id: str,
    address: str,
    *,
    readers_max: int,
    embedders_max: int,
    cpus: float = 1.0,
    gpus: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, documents: None,
) -> Ingested:
    """Ingest what waits in a collection on the cluster at `address`, with at most so many readers
    and embedders, of so many `cpus` and `gpus` each. Blocks; `progress` hears of documents done,
    and of all.

    Raises CollectionNotFound, and ServiceUnavailable where Ray fails: nothing is lost.
    """
    require_data()
    waiting = asyncio.run(_waiting(settings, collection_id))
    if not waiting:
        return Ingested()
    plan = Plan(settings, f"ray/{uuid.uuid4().hex}")
    over = threading.Event()
    beat = threading.Thread(target=_beat, args=(plan, over), daemon=True)
    beat.start()
    done = Ingested()
    try:
        with connected(address):
            for published in _run(plan, waiting, readers_max, embedders_max, cpus, gpus):
                done = Ingested(done.published + published, done.left + (not published))
                progress(done.published + done.left, len(waiting))
    except RayError as error:
        raise failed(error, "ingest the documents") from error
    finally:
        over.set()
        beat.join()
        with contextlib.suppress(RagmeshError):
            asyncio.run(_release(plan))
    return done


def _run(
    plan: Plan,
    waiting: Sequence[str],
    readers_max: int,
    embedders_max: int,
    cpus: float,
    gpus: float,
) -> Iterator[bool]:
    """Whether each document was published, as they are done."""
    from ray.data import ActorPoolStrategy, DataContext, from_items

    DataContext.get_current().enable_progress_bars = False
    blocks = -(-len(waiting) // BLOCK_JOBS)

    def pool(most: int) -> ActorPoolStrategy:
        return ActorPoolStrategy(min_size=1, max_size=max(1, min(most, blocks)))

    data = (
        from_items([{"job": job} for job in waiting], override_num_blocks=blocks)
        .map_batches(
            _Reader,
            batch_size=BLOCK_JOBS,
            compute=pool(readers_max),
            num_cpus=cpus,
            fn_constructor_args=(plan,),
        )
        .map_batches(
            _Embedder,
            batch_size=BLOCK_JOBS,
            compute=pool(embedders_max),
            num_cpus=cpus,
            num_gpus=gpus or None,
            fn_constructor_args=(plan,),
        )
    )
    for row in data.iter_rows():
        yield bool(row["published"])


class _Actor:
    """A worker's parts, on an event loop of its own."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._open(plan.settings))

    async def _open(self, settings: Settings) -> None:
        node = settings.node.model_copy(
            update={"services": ("embedding",), "listen": "127.0.0.1:0", "metrics_listen": ""}
        )
        # It hosts the service for this process alone: nothing listens, and no registry is asked.
        bare = settings.store.model_copy(update={"redis_url": type(settings.store.redis_url)("")})
        self._store: Store = await open_store(settings)
        self._node = Node(settings.model_copy(update={"node": node, "store": bare}))
        files = Files(self._store, open_objects(settings, "files"))
        self._parsers = Parsers(settings.documents)
        originals = Originals(settings.documents, files)
        self._stages = Stages(self._store, self._node.mesh, originals)

    async def _held(self, job_id: str) -> IngestJob | None:
        async with self._store.transaction(TENANT) as tx:
            return await jobs.claim_job(tx, job_id, self._plan.owner, lease_s=LEASE_S)

    async def _all(
        self, job_ids: Sequence[str], work: Callable[[IngestJob], Coroutine[Any, Any, Any]]
    ) -> list[bool]:
        """Whether the work was done of each job that is to be had."""
        return await asyncio.gather(*(self._one(job_id, work) for job_id in job_ids))

    async def _one(
        self, job_id: str, work: Callable[[IngestJob], Coroutine[Any, Any, Any]]
    ) -> bool:
        job = await self._held(job_id)
        if job is None:
            return False
        try:
            await work(job)
        except ModelUnavailable:
            raise  # Ray tries it again, elsewhere
        except LOST:
            return False
        except Exception as error:
            await end(self._store, job, error)
            return False
        return True


class _Reader(_Actor):
    """Parses files, and stores their texts."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """The jobs that are parsed; what becomes of the others is in their rows."""
        given = [str(job) for job in batch["job"]]
        done = self._loop.run_until_complete(self._all(given, self._read))
        return {"job": given, "parsed": done}

    async def _read(self, job: IngestJob) -> None:
        await self._stages.parse(job, self._parsers)


class _Embedder(_Actor):
    """Chunks, embeds and publishes."""

    async def _open(self, settings: Settings) -> None:
        await super()._open(settings)
        await self._node.open()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Whether each document was published."""
        given = [
            str(job) for job, parsed in zip(batch["job"], batch["parsed"], strict=True) if parsed
        ]
        done = self._loop.run_until_complete(self._all(given, self._embed))
        failed_before = [False] * (len(batch["job"]) - len(given))
        return {"published": [*done, *failed_before]}

    async def _embed(self, job: IngestJob) -> None:
        await self._stages.ingest(job, self._parsers, Progress())


async def _waiting(settings: Settings, collection_id: str) -> list[str]:
    store = await open_store(settings)
    try:
        async with store.transaction(TENANT) as tx:
            collection = await collections.get_collection(tx, collection_id)
            return await jobs.waiting_ids(tx, collection.home_uid)
    finally:
        await store.close()


async def _release(plan: Plan) -> None:
    store = await open_store(plan.settings)
    try:
        async with store.system() as tx:
            await jobs.release_jobs(tx, plan.owner)
    finally:
        await store.close()


def _beat(plan: Plan, over: threading.Event) -> None:
    """Extends the leases until the job is over."""

    async def extend() -> None:
        store = await open_store(plan.settings)
        try:
            async with store.system() as tx:
                await jobs.extend_leases(tx, plan.owner, lease_s=LEASE_S)
        finally:
            await store.close()

    while not over.wait(LEASE_S / 4):
        with contextlib.suppress(RagmeshError):
            asyncio.run(extend())
