"""How one index is brought to the head of its log, and what happens where that fails."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from engine.errors import IndexUnavailable, RagmeshError
from engine.index.collection import CollectionIndex
from services.retrieval.index.followed import RETRY_S, Followed, not_built
from services.retrieval.index.loading import Advanced, Loader, SegmentLost, SettingsChanged
from services.retrieval.index.standing import Standing
from services.rpc import metrics
from services.store.changes import Gone
from services.store.collections import Collection

_LOG = logging.getLogger(__name__)

PAUSE_S = 0.1
"""After a failure that may well be over at the next try."""

SETTINGS_S = 0.01
"""How long settings that changed under a reading have to be read."""

GAP_S, GAP_LOOKS = 0.002, 5
"""How long an index waits for a commit of its own node before it reads the log: that takes about as
long."""

RESETS_MAX = 3
"""How often a node has the segments of a collection made anew while it is open. Nodes that do not
share their objects would otherwise do so to each other for ever."""

CATCH_UPS_MAX = 4
"""Collections that are read from PostgreSQL at once."""


class Catcher:
    """Loads and advances open indexes, some at once. `forget` drops a collection that is gone;
    `settings_changed` has the collections' own rows read again."""

    def __init__(
        self,
        loader: Loader,
        standing: Standing,
        forget: Callable[[Collection], None],
        settings_changed: Callable[[], None],
    ) -> None:
        self._loader = loader
        self._standing = standing
        self._forget = forget
        self._settings_changed = settings_changed
        self._slots = asyncio.Semaphore(CATCH_UPS_MAX)

    async def catch_up(self, followed: Followed) -> None:
        """Brings an index to the head as it is now; what fails is told to those who wait."""
        async with self._slots:
            try:
                await self._advance(followed)
                followed.error = None
                followed.moved_s = time.monotonic()
                followed.notify()
                if followed.index is not None:
                    self._standing.came(followed.collection.uid, followed.index.view.watermark)
            except SettingsChanged:
                self._settings_changed()
                await asyncio.sleep(SETTINGS_S)
            except SegmentLost as error:
                await self._lost(followed, error)
            except RagmeshError as error:
                await self._failed(followed, error, PAUSE_S)
            except Exception:
                _LOG.exception("index of %s failed", followed.collection.id)
                await self._failed(followed, not_built(followed), RETRY_S)

    async def _lost(self, followed: Followed, error: SegmentLost) -> None:
        """Has the rows sealed again. Whoever waits goes on waiting: the next try reads the log."""
        if followed.resets >= RESETS_MAX:
            await self._failed(followed, _lost_again(followed, error), RETRY_S)
            return
        _LOG.warning("%s: %s", followed.collection.id, error.message)
        followed.resets += 1
        try:
            await self._loader.reset(followed.collection, error.name)
        except RagmeshError as refused:
            await self._failed(followed, refused, PAUSE_S)

    async def _took_over(self, followed: Followed, index: CollectionIndex) -> bool:
        """Applies this node's own commits; whether the index stands at the head with them."""
        looks = 0
        while index.view.watermark < followed.head_seq:
            write = followed.own.take(index.view.watermark + 1, followed.change_id)
            if write is not None:
                await self._loader.apply(index, write)
                followed.change_id = write.change_id
                followed.moved_s = time.monotonic()
                followed.notify()
            elif looks < GAP_LOOKS and (followed.writing or len(followed.own)):
                # The commit before it is mostly this node's too, and about to be told.
                looks += 1
                await asyncio.sleep(GAP_S)
            else:
                return False
        return True

    async def _failed(self, followed: Followed, error: RagmeshError, pause_s: float) -> None:
        _LOG.warning("index of %s is not up to date: %s", followed.collection.id, error.message)
        followed.error = error
        followed.notify()
        await asyncio.sleep(pause_s)

    async def _advance(self, followed: Followed) -> None:
        collection, index, change_id = followed.collection, followed.index, followed.change_id
        same = index is not None and index.settings == self._loader.settings(collection)
        if index is not None and change_id is not None and same:
            by_log = followed.strayed or followed.adopts()
            if not by_log and await self._took_over(followed, index):
                return
            change_id = followed.change_id or change_id
            outcome = await self._loader.advance(collection, index, change_id)
            followed.strayed = False
            if isinstance(outcome, Advanced):
                followed.change_id = outcome.change_id
                followed.adopt_due_s = math.inf
                if outcome.refused is not None:
                    _LOG.warning(
                        "segments of %s are adopted later: %s", collection.id, outcome.refused
                    )
                    followed.adopt_due_s = time.monotonic() + RETRY_S
                return
            if isinstance(outcome, Gone):
                self._forget(collection)
                return
            _LOG.warning("index of %s is loaded anew: %s", collection.id, outcome.reason)
            metrics.INDEX_REBUILDS.inc()
        loaded = await self._loader.load(collection)
        if loaded is None:
            self._forget(collection)
        else:
            followed.index, followed.change_id = loaded
            followed.strayed, followed.adopt_due_s = False, math.inf


def _lost_again(followed: Followed, error: SegmentLost) -> IndexUnavailable:
    return IndexUnavailable(
        f"Segments of {followed.collection.id} were lost {RESETS_MAX} times: {error.message}. Do "
        "all nodes share the directory RAGMESH_OBJECTS__DIRECTORY?",
        metadata={"segment": error.name, "resets": RESETS_MAX},
        retry_after_s=RETRY_S,
    )
