"""Watches how much of the truth searches by graph find, and has them look wider where it is little.

A share of the searches that were answered is done again by scanning, one at a time, in a thread of
its own and at most a two-hundredth of the time: no answer waits for it, and what comes meanwhile is
left out. What a node saw is its own; the beams that follow are written to the collection's row,
which every node reads again within two seconds.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from engine.errors import RagmeshError
from engine.index.beams import EXACT, OWN, Band, Beams
from engine.index.recall import TRIALS_MIN, Interval, Window, measure, next_beam
from engine.index.search import Mode, Query
from engine.index.view import View
from services.ending import ended
from services.rpc import metrics
from services.store.collections import Collection, set_beams
from services.store.store import Store

_LOG = logging.getLogger(__name__)

BUSY_SHARE_MAX = 0.005
"""Of the time, as scans take cores and memory bandwidth from searches: so much less than a
hundredth that the p99 of searches does not show them, which over a million vectors take a second
each. Over 50,000 of 384 it is still a search a second, and the 200 trials that decide something
come within half a minute."""

COLLECTIONS_MAX = 256
"""Collections whose searches are remembered, those seen last: a MiB each at the most."""


@dataclass(frozen=True, slots=True)
class BandRecall:
    """What was seen of one band. `ef` is its beam at present, 0 for exact search."""

    band: Band
    seen: Interval
    searches: int
    ef: int


@dataclass(frozen=True, slots=True)
class _Sample:
    collection: Collection
    view: View
    query: Query


class RecallWatch:
    """Does searches again and draws the conclusions. `changed` is called when beams were written;
    `chance` draws from 0 to 1. `busy_share` is how much of the time it works at the most."""

    def __init__(
        self,
        store: Store,
        changed: Callable[[], None],
        chance: Callable[[], float] = random.random,
        busy_share: float = BUSY_SHARE_MAX,
    ) -> None:
        self._store = store
        self._changed = changed
        self._chance = chance
        self._pause_per_s = 1 / busy_share - 1
        self._waiting: asyncio.Queue[_Sample] = asyncio.Queue(1)
        self._pausing = False
        self._windows: OrderedDict[uuid.UUID, tuple[Window, ...]] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recall")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to do searches again."""
        self._task = asyncio.create_task(self._work(), name="recall")

    async def close(self) -> None:
        """Ends; what waits is dropped."""
        if self._task is not None:
            await ended([self._task])
        self._thread.shutdown(wait=True)

    def offer(self, collection: Collection, view: View, query: Query) -> None:
        """A search that was answered: with some luck it is done again. Those that say themselves
        how they are done are left out, and so are those by words."""
        share = collection.recall_sample_share
        if share <= 0 or query.vector is None or query.exact or query.ef is not None:
            return
        if query.mode in (Mode.LEXICAL, Mode.SPARSE) or self._chance() >= share:
            return
        # What waited through a pause would keep a view's memory and files, long replaced by then.
        if self._pausing or self._waiting.full():
            metrics.RECALL_DROPPED.inc()
        else:
            self._waiting.put_nowait(_Sample(collection, view, query))

    def seen(self, collection: Collection) -> list[BandRecall]:
        """What this node saw of the bands that had searches, with the beams that they have now."""
        windows = self._windows.get(collection.uid, ())
        beams = Beams.of(collection.beams)
        found = []
        for band, window in zip(Band, windows, strict=False):
            if window.searches:
                ef = effective_ef(collection, beams.efs[band])
                found.append(BandRecall(band, window.interval, window.searches, ef))
        return found

    async def _work(self) -> None:
        while True:
            sample = await self._waiting.get()
            begin_s = time.perf_counter()
            try:
                await self._measure(sample)
            except RagmeshError as error:
                _LOG.info("recall of %s is not known: %s", sample.collection.id, error.message)
            except Exception:
                _LOG.exception("recall of %s cannot be measured", sample.collection.id)
            del sample  # its view need not outlive the pause
            spent_s = time.perf_counter() - begin_s
            self._pausing = True
            await asyncio.sleep(spent_s * self._pause_per_s)
            self._pausing = False

    async def _measure(self, sample: _Sample) -> None:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._thread, measure, sample.view, sample.query)
        if found is None:
            return
        collection, band = sample.collection, found.band
        metrics.RECALL_WANTED.labels(band.name.lower()).inc(found.trial.wanted)
        metrics.RECALL_FOUND.labels(band.name.lower()).inc(found.trial.found)
        windows = self._windows.pop(collection.uid, None) or tuple(Window() for _ in Band)
        self._windows[collection.uid] = windows
        if len(self._windows) > COLLECTIONS_MAX:
            self._windows.popitem(last=False)
        beams = sample.query.beams
        window = windows[band].at(beams.efs[band])
        window.add(found.trial)
        seen = window.interval
        self._observe()
        then = next_beam(beams.efs[band], collection.hnsw_ef_search, seen, collection.recall_target)
        if then != beams.efs[band]:
            await self._change(collection, band, then, seen)
            # Whoever wrote it, what was seen is of a beam that is no more.
            window.at(then)

    async def _change(self, collection: Collection, band: Band, ef: int, seen: Interval) -> None:
        beams = Beams.of(collection.beams).with_band(band, ef)
        async with self._store.transaction(collection.tenant) as tx:
            written = await set_beams(tx, collection, beams.efs)
        if written:
            metrics.BEAMS_CHANGED.labels(band.name.lower()).inc()
            _LOG.info(
                "searches of %s, band %s, found %.3f (%.3f at least) of what there is, and have "
                "beam %d from now on",
                *(collection.id, band.name.lower(), seen.share, seen.low, ef),
            )
            self._changed()

    def _observe(self) -> None:
        for band in Band:
            lows = [
                interval.low
                for windows in self._windows.values()
                if (interval := windows[band].interval).trials >= TRIALS_MIN
            ]
            metrics.RECALL_LOW.labels(band.name.lower()).set(min(lows, default=1.0))


def effective_ef(collection: Collection, ef: int) -> int:
    """The candidates of a search whose band has this beam; 0 for exact search."""
    if ef == EXACT:
        return 0
    return collection.hnsw_ef_search if ef == OWN else max(ef, collection.hnsw_ef_search)
