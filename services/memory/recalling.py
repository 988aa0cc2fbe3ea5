"""Recall: candidates from the index, what they say from the rows, their order from the engine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from engine.memory.ranking import Candidate, Ranked, SessionScore, Weights, rank, rank_sessions
from services.memory import siblings
from services.memory.indexing import indexed_text
from services.memory.siblings import Hit, Wanted
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.store import memories
from services.store.memories import Memory
from services.store.store import Store, Tx

CANDIDATES = 30
"""Looked at for a recall, and three times as many as are wanted if that is more."""

SESSION_CANDIDATES = 200
"""Looked at where sessions are ranked, by all that is in them."""


@dataclass(frozen=True, slots=True)
class Recall:
    """What is asked: memories of `subject` about `query` that hold at `at`; `now` says that no time
    was named."""

    subject: str
    query: str
    kinds: Sequence[str]
    at: datetime
    now: bool
    limit: int
    sessions_limit: int
    min_watermark: str
    weights: Weights


@dataclass(frozen=True, slots=True)
class Recalled:
    """The best memories and sessions, the rows of the memories by id, and where the time went."""

    ranked: Sequence[Ranked]
    rows: Mapping[str, Memory]
    sessions: Sequence[SessionScore]
    watermark: str
    search_ms: float
    rank_ms: float


async def recall(store: Store, mesh: Mesh, asked: Recall, call: Call) -> Recalled:
    """Memories that hold, the best first. What the index has and the rows have no more, or not
    yet, is left out."""
    begin_s = time.perf_counter()
    candidates = SESSION_CANDIDATES if asked.sessions_limit else CANDIDATES
    hits, watermark = await siblings.search(
        mesh,
        memories.COLLECTION,
        Wanted(
            subject=asked.subject,
            query=asked.query,
            kinds=asked.kinds,
            at=asked.at,
            now=asked.now,
            limit=max(candidates, 3 * asked.limit),
            min_watermark=asked.min_watermark,
        ),
        call,
    )
    searched_s = time.perf_counter()
    ranked: list[Ranked] = []
    rows: dict[str, Memory] = {}
    if hits:
        async with store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            ranked, rows = await _ranked(tx, asked, hits)
    sessions = (
        rank_sessions(asked.query, ranked)[: asked.sessions_limit] if asked.sessions_limit else ()
    )
    done_s = time.perf_counter()
    return Recalled(
        ranked[: asked.limit],
        rows,
        sessions,
        watermark,
        (searched_s - begin_s) * 1000,
        (done_s - searched_s) * 1000,
    )


async def _ranked(
    tx: Tx, asked: Recall, hits: Sequence[Hit]
) -> tuple[list[Ranked], dict[str, Memory]]:
    """The candidates that hold, the best first, and their rows. One statement reads them all: whole
    rows of a few cost less than another way to PostgreSQL and back."""
    found = await memories.memories_of(tx, [hit.id for hit in hits])
    rows = {row.id: row for row in found if _holds(row, asked)}
    ranked = rank(
        [
            Candidate(
                id=hit.id,
                meaning=hit.meaning,
                words=hit.words,
                importance=rows[hit.id].importance,
                learned_at=rows[hit.id].learned_at,
                text=indexed_text(rows[hit.id]) if asked.sessions_limit else "",
                session=rows[hit.id].session,
            )
            for hit in hits
            if hit.id in rows
        ],
        asked.at,
        asked.weights,
    )
    return ranked, rows


def _holds(row: Memory, asked: Recall) -> bool:
    """Whether a memory is to be recalled: it is the subject's, holds at the time, was not merged,
    and is not to be forgotten by now."""
    return (
        row.subject == asked.subject
        and not row.merged_into
        and (not asked.kinds or row.kind in asked.kinds)
        and row.valid_from <= asked.at
        and (row.valid_to is None or asked.at < row.valid_to)
        and (row.expire_time is None or asked.at < row.expire_time)
    )
