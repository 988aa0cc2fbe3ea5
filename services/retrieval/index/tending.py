"""When an open index is sealed, merged and written down: beside its searches and its writes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from engine.errors import RagmeshError
from services.retrieval.index.followed import Followed
from services.retrieval.index.loading import Loader
from services.retrieval.index.upkeep import PAUSE_S, Upkeep
from services.rpc.machine import give_back

_LOG = logging.getLogger(__name__)

QUIET_S = 1.0
"""How long nobody may have written before more is sealed and merged than must be."""

ADOPTION_WAIT_S = 30.0
"""How long a node waits to see what it published in its own index."""


class Tender:
    """Starts what seals, merges and writes down; `nudge` has the log looked at."""

    def __init__(self, loader: Loader, upkeep: Upkeep, nudge: Callable[[], None]) -> None:
        self._loader = loader
        self._upkeep = upkeep
        self._nudge = nudge

    def tend(self, followed: Followed) -> None:
        """Sets to work what seals, merges and writes down, if there is anything to do."""
        index, now_s = followed.index, time.monotonic()
        if index is None or now_s < followed.upkeep_due_s:
            return
        quiet = now_s - followed.moved_s >= QUIET_S
        if _idle(followed.sealing) and index.seal_work(quiet=quiet) is not None:
            followed.sealing = self._start(followed, self._upkeep.seal, quiet=quiet)
        if _idle(followed.merging) and index.merge_work(quiet=quiet) is not None:
            followed.merging = self._start(followed, self._upkeep.merge, quiet=quiet)
        idle = quiet and _idle(followed.sealing) and _idle(followed.merging)
        if idle and followed.remembered != index.segments:
            # Others built them, or a compaction did: the files that they replaced can go.
            followed.sealing = asyncio.create_task(
                self.remember(followed), name=f"manifest {followed.collection.id}"
            )

    async def remember(self, followed: Followed) -> None:
        """Writes down where the index stands, for this node's next life."""
        index = followed.index
        if index is None or not (index.segments or followed.remembered):
            return
        try:
            await self._loader.remember(followed.collection, index)
            followed.remembered = index.segments
            await asyncio.get_running_loop().run_in_executor(None, give_back)
        except OSError as error:
            _LOG.warning("%s is not remembered: %s", followed.collection.id, error)
            followed.upkeep_due_s = time.monotonic() + PAUSE_S

    def _start(
        self, followed: Followed, work: Callable[..., Awaitable[int | None]], *, quiet: bool
    ) -> asyncio.Task[None]:
        async def run() -> None:
            assert followed.index is not None
            try:
                seq = await work(followed.collection, followed.index, quiet=quiet)
            except (RagmeshError, OSError) as error:
                _LOG.warning("nothing sealed of %s: %s", followed.collection.id, error)
                seq = None
            except Exception:
                _LOG.exception("sealing %s failed", followed.collection.id)
                seq = None
            if seq is None:
                followed.upkeep_due_s = time.monotonic() + PAUSE_S
                return
            self._nudge()
            give_up_s = time.monotonic() + ADOPTION_WAIT_S
            while followed.index is not None and followed.index.view.watermark < seq:
                if not await followed.moves(give_up_s):
                    return
            await self.remember(followed)

        return asyncio.create_task(run(), name=f"segments {followed.collection.id}")


def _idle(task: asyncio.Task[None] | None) -> bool:
    return task is None or task.done()
