"""Summaries of sessions: what a model made of a branch's beginning, beside its messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.store.sessions import Session
from services.store.store import Tx

SUMMARIES_MAX = 1_000
"""Kept of one session and model: the oldest go first. Nothing is lost that could not be written
again."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What was said on a branch up to `message_index`, in short."""

    message_index: int
    text: str


async def find_summary(
    tx: Tx, session: Session, model: str, indexes: Sequence[int]
) -> Summary | None:
    """The one that covers most among those that end with one of `indexes`, messages of a branch."""
    return await tx.one(
        Summary,
        "SELECT message_index, text FROM session_summaries WHERE tenant = %s "
        "AND session_uid = %s AND model = %s AND message_index = ANY(%s) "
        "ORDER BY message_index DESC LIMIT 1",
        (tx.tenant, session.uid, model, list(indexes)),
    )


async def keep_summary(tx: Tx, session: Session, model: str, summary: Summary) -> None:
    """Keeps a summary, unless there is one, or the session is gone."""
    key = {
        "tenant": tx.tenant,
        "uid": session.uid,
        "model": model,
        "index": summary.message_index,
        "text": summary.text,
        "kept": SUMMARIES_MAX,
    }
    await tx.run(
        "INSERT INTO session_summaries (tenant, session_uid, message_index, model, text) "
        "SELECT tenant, uid, %(index)s, %(model)s, %(text)s FROM sessions "
        "WHERE tenant = %(tenant)s AND uid = %(uid)s FOR KEY SHARE ON CONFLICT DO NOTHING",
        key,
    )
    await tx.run(
        "DELETE FROM session_summaries WHERE tenant = %(tenant)s AND session_uid = %(uid)s "
        "AND model = %(model)s AND message_index < (SELECT message_index FROM session_summaries "
        "  WHERE tenant = %(tenant)s AND session_uid = %(uid)s AND model = %(model)s "
        "  ORDER BY message_index DESC OFFSET %(kept)s - 1 LIMIT 1)",
        key,
    )
