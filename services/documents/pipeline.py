"""The workers of a node that ingest documents: from stored bytes to searchable passages.

Jobs are rows; workers on any node take them by a lease and extend it while they work (`stages`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque

from engine.errors import CollectionNotFound, RagmeshError
from services.config import DocumentSettings
from services.documents.files import Files
from services.documents.making import Progress
from services.documents.originals import Originals
from services.documents.outcome import LOST, end, give_back
from services.documents.parser import Parsers
from services.documents.stages import Stages
from services.ending import ended
from services.mesh.mesh import Mesh
from services.rpc import metrics
from services.store import jobs
from services.store.jobs import IngestJob
from services.store.points import Commit
from services.store.store import Store

_LOG = logging.getLogger(__name__)

LEASE_S = 10.0
POLL_S = 0.5
"""How often an idle worker looks for jobs that other nodes queued, or whose lease ran out."""
BEAT_S = 1.0
"""How often a job's row is written: who cancels it is not kept waiting for long. Where somebody
watches it here, it is written when it moves."""
LOOK_S = 0.25
RAMP_S = 2.0
"""For so long a node that lives and has no job that ends waits before it takes one more."""
CLAIM_MAX = 4
"""Jobs that are taken at once, by workers that have none."""


class Pipeline:
    """The ingest workers of one node."""

    def __init__(
        self, settings: DocumentSettings, store: Store, mesh: Mesh, owner: str, files: Files
    ) -> None:
        self._store = store
        self._stages = Stages(store, mesh, Originals(settings, files))
        self._owner = owner
        self._nudged = asyncio.Event()
        self._looking = asyncio.Lock()
        self._claimed: deque[IngestJob] = deque()
        self._idle = 0
        # A node that may have been killed by a document begins with one, and takes one more for
        # each that ends, or where none does in RAMP_S: few others are in its hands when it dies.
        self._running, self._allowed = 0, 1
        self._room = asyncio.Event()
        self._watched: dict[str, asyncio.Event] = {}
        self._parsers = Parsers(settings)
        self._count = settings.workers
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts the workers."""
        self._workers = [
            asyncio.create_task(self._work(), name="ingest") for _ in range(self._count)
        ]

    def nudge(self) -> None:
        """Says that a job was queued."""
        self._nudged.set()

    async def moved(self, job_id: str, timeout_s: float) -> None:
        """Waits until a job of this node has moved, or `timeout_s`: jobs of other nodes move
        unseen, so look again then."""
        event = self._watched.setdefault(job_id, asyncio.Event())
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return
        finally:
            if self._watched.get(job_id) is event:
                del self._watched[job_id]

    def _tell(self, job_id: str) -> None:
        event = self._watched.pop(job_id, None)
        if event is not None:
            event.set()

    async def stop(self) -> None:
        """Stops the workers; what they had is queued again for other nodes."""
        await ended(self._workers)
        self._workers = []
        while self._claimed:
            await give_back(self._store, self._claimed.popleft(), delay_s=0.0)
        await self._parsers.close()

    async def _work(self) -> None:
        while True:
            self._idle += 1
            try:
                # One worker of the node looks for jobs at a time.
                async with self._looking:
                    await self._until_allowed()
                    job = self._claimed.popleft() if self._claimed else await self._next()
                    self._running += 1
            finally:
                self._idle -= 1
            try:
                await self._run(job)
            finally:
                self._running -= 1
                self._allowed = min(self._allowed + 1, self._count)
                self._room.set()

    async def _until_allowed(self) -> None:
        while self._running >= self._allowed:
            self._room.clear()
            try:
                async with asyncio.timeout(RAMP_S):
                    await self._room.wait()
            except TimeoutError:
                self._allowed = min(self._allowed + 1, self._count)

    async def _next(self) -> IngestJob:
        """The next job, as soon as there is one; others that were taken with it are `_claimed`, by
        workers who wait."""
        while True:
            # What is queued from now on is seen by the look, or ends the wait after it.
            self._nudged.clear()
            most = min(self._idle, CLAIM_MAX, self._allowed - self._running)
            try:
                async with self._store.system() as tx:
                    claimed = await jobs.claim_jobs(tx, self._owner, lease_s=LEASE_S, limit=most)
                if claimed:
                    self._claimed.extend(claimed[1:])
                    return claimed[0]
            except RagmeshError as error:
                _LOG.warning("no jobs can be taken now: %s", error.message)
            except Exception:
                # Whatever it was, without this task the node would never take a job again.
                _LOG.exception("no jobs can be taken now")
                await asyncio.sleep(LEASE_S / 4)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._nudged.wait()

    async def _run(self, job: IngestJob) -> None:
        """Works on one job with a heartbeat beside it; whatever happens, the job's row says it."""
        metrics.INGEST_RUNNING.inc()
        progress = Progress()
        work = asyncio.create_task(self._ingest(job, progress))
        beat = asyncio.create_task(self._beat(job, progress, work))
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait([work])
            await give_back(self._store, job, delay_s=0.0)
            raise
        finally:
            beat.cancel()
            metrics.INGEST_RUNNING.dec()
        error = None if work.cancelled() else work.exception()
        if work.cancelled() or isinstance(error, LOST):
            _LOG.info("job was cancelled or taken over", extra={"job": job.id})
            # Or another index took over just now: where the collection is gone, so is the job.
            if isinstance(error, CollectionNotFound):
                await give_back(self._store, job, delay_s=0.0)
        elif error is None:
            metrics.INGEST_JOBS.labels("succeeded").inc()
        else:
            await end(self._store, job, error)
        self._tell(job.id)

    async def _beat(self, job: IngestJob, progress: Progress, work: asyncio.Task[Commit]) -> None:
        """Extends the lease; ends the work if the job is not ours any more."""
        seen: tuple[object, ...] = ("parse", 0, 0)  # what a job that was just taken says anyway
        quiet_s = 0.0
        while True:
            now = (progress.stage, progress.done, progress.total)
            moved = now != seen and job.id in self._watched
            if moved or quiet_s >= BEAT_S:
                seen, quiet_s = now, 0.0
                try:
                    async with self._store.transaction(job.tenant) as tx:
                        ours = await jobs.advance_job(
                            tx,
                            job,
                            progress.stage,
                            done=progress.done,
                            total=progress.total,
                            lease_s=LEASE_S,
                        )
                except RagmeshError:
                    ours = True  # PostgreSQL is away: the lease decides when it is back
                if not ours and not work.done():
                    work.cancel()
                    return
                self._tell(job.id)
            await asyncio.sleep(LOOK_S)
            quiet_s += LOOK_S

    async def _ingest(self, job: IngestJob, progress: Progress) -> Commit:
        return await self._stages.ingest(job, self._parsers, progress)
