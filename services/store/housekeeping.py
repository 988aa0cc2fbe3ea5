"""Removes what has had its time, on every node that has a store, a bounded piece at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from engine.errors import RagmeshError
from services.store import cleanup, memories
from services.store.budgets import purge_reservations
from services.store.sessions import purge_sessions
from services.store.store import Store, Tx

_LOG = logging.getLogger(__name__)

ROUND_S = 60.0
"""Between two rounds."""
PAUSE_S = 0.05
"""Between two pieces, so that clean-up never takes PostgreSQL from the callers."""
ROUNDS_PER_TRIM = 60
"""Logs are trimmed once an hour."""
LOG_KEPT_S = 24 * 3600.0
"""An index that was away for longer starts anew instead of following the log."""

_PURGES = (
    cleanup.purge_points,
    cleanup.purge_requests,
    cleanup.purge_jobs,
    cleanup.purge_segments,
    cleanup.purge_snapshots,
    cleanup.purge_builds,
    purge_reservations,
    memories.purge_memories,
    purge_sessions,
)


async def keep_house(store: Store) -> None:
    """Runs until cancelled."""
    rounds = 0
    while True:
        try:
            for purge in _PURGES:
                await _until_done(store, purge)
            if rounds % ROUNDS_PER_TRIM == 0:
                await _trim_logs(store)
        except RagmeshError as error:
            _LOG.info("clean-up goes on later: %s", error.message)
        except Exception:
            _LOG.exception("clean-up failed and is tried again later")
        rounds += 1
        await asyncio.sleep(ROUND_S)


async def _until_done(store: Store, purge: Callable[[Tx], Awaitable[int]]) -> None:
    while True:
        async with store.system() as tx:
            removed = await purge(tx)
        if not removed:
            return
        await asyncio.sleep(PAUSE_S)


async def _trim_logs(store: Store) -> None:
    async with store.system() as tx:
        floors = await tx.rows(
            "SELECT tenant, collection_uid, max(seq) FROM commits "
            "WHERE commit_time < now() - make_interval(secs => %s) GROUP BY 1, 2",
            (LOG_KEPT_S,),
        )
    for tenant, collection_uid, floor in floors:
        async with store.system() as tx:
            await cleanup.trim_log(tx, tenant, collection_uid, floor)
        await asyncio.sleep(PAUSE_S)
