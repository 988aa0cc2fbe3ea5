"""Budgets and what is reserved of them.

What is true after each commit: a budget's `reserved` is the sum of its reservations, and `spent`
plus `reserved` pass a limit only where an endpoint counted more than the most that was reserved, or
the limit was lowered. Rows of budgets are locked in the order of their sessions.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from engine.errors import BudgetNotFound, InvalidField, LimitReached
from engine.spending.grants import Grant, Room
from services.store.store import Tx

BUDGETS_MAX = 100_000
"""Of a tenant."""

_SET_LOCK = 0x627564  # "bud"


@dataclass(frozen=True, slots=True)
class Budget:
    """A row. `session` is an id, empty for the whole tenant's budget; limits of 0 bound nothing."""

    id: str
    uid: uuid.UUID
    session: str
    limit_nanos: int
    limit_tokens: int
    spent_nanos: int
    spent_tokens: int
    reserved_nanos: int
    reserved_tokens: int
    create_time: datetime
    update_time: datetime

    def room(self) -> Room:
        """What it has, as grants are decided from."""
        return Room(
            f"budgets/{self.id}",
            *(self.limit_nanos, self.limit_tokens),
            *(self.spent_nanos, self.spent_tokens),
            *(self.reserved_nanos, self.reserved_tokens),
        )


_COLUMNS = (
    "id, uid, session, limit_nanos, limit_tokens, spent_nanos, spent_tokens, reserved_nanos, "
    "reserved_tokens, create_time, update_time"
)
_SET = f"""
INSERT INTO budgets (tenant, id, uid, session, limit_nanos, limit_tokens)
SELECT %(tenant)s, %(id)s, %(uid)s, %(session)s, %(nanos)s, %(tokens)s
ON CONFLICT (tenant, id) DO UPDATE SET limit_nanos = excluded.limit_nanos,
    limit_tokens = excluded.limit_tokens, update_time = clock_timestamp(),
    spent_nanos = CASE WHEN %(reset)s THEN 0 ELSE budgets.spent_nanos END,
    spent_tokens = CASE WHEN %(reset)s THEN 0 ELSE budgets.spent_tokens END
WHERE budgets.session = excluded.session
RETURNING {_COLUMNS}
"""
_HOLD = """
WITH held AS (
    UPDATE budgets SET reserved_nanos = reserved_nanos + %(nanos)s,
        reserved_tokens = reserved_tokens + %(tokens)s
    WHERE tenant = %(tenant)s AND uid = ANY(%(budgets)s)
    RETURNING uid
)
INSERT INTO budget_reservations (tenant, uid, budget_uid, nanos, tokens, expire_time)
SELECT %(tenant)s, %(uid)s, held.uid, %(nanos)s, %(tokens)s,
    clock_timestamp() + make_interval(secs => %(seconds)s)
FROM held
"""
_SETTLE = """
WITH gone AS (
    DELETE FROM budget_reservations WHERE tenant = %(tenant)s AND uid = %(uid)s
    RETURNING budget_uid, nanos, tokens
)
UPDATE budgets b SET spent_nanos = b.spent_nanos + %(nanos)s,
    spent_tokens = b.spent_tokens + %(tokens)s,
    reserved_nanos = b.reserved_nanos - gone.nanos,
    reserved_tokens = b.reserved_tokens - gone.tokens
FROM gone WHERE b.tenant = %(tenant)s AND b.uid = gone.budget_uid
"""
_EXPIRE = """
WITH gone AS (
    DELETE FROM budget_reservations WHERE (tenant, uid, budget_uid) IN (
        SELECT tenant, uid, budget_uid FROM budget_reservations
        WHERE expire_time < clock_timestamp() AND %(tenant)s IN (tenant, '*')
        ORDER BY tenant, uid, budget_uid LIMIT %(rows)s FOR UPDATE SKIP LOCKED)
    RETURNING tenant, budget_uid, nanos, tokens
), sums AS (
    SELECT tenant, budget_uid, sum(nanos)::bigint AS nanos, sum(tokens)::bigint AS tokens
    FROM gone GROUP BY 1, 2
), settled AS (
    UPDATE budgets b SET spent_nanos = b.spent_nanos + s.nanos,
        spent_tokens = b.spent_tokens + s.tokens,
        reserved_nanos = b.reserved_nanos - s.nanos,
        reserved_tokens = b.reserved_tokens - s.tokens
    FROM sums s WHERE b.tenant = s.tenant AND b.uid = s.budget_uid
)
SELECT count(*) FROM gone
"""


async def set_budget(
    tx: Tx, budget_id: str, session: str, limit_nanos: int, limit_tokens: int, *, reset: bool
) -> Budget:
    """Make a budget, or change the limits of the one of this id. Raises InvalidField where the
    session has another budget, or the budget another session, and LimitReached."""
    # One at a time: a session never gets two.
    await tx.rows("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_SET_LOCK, tx.tenant))
    other = await tx.row(
        "SELECT id FROM budgets WHERE tenant = %s AND session = %s AND id <> %s",
        (tx.tenant, session, budget_id),
    )
    if other is not None:
        raise _taken(session, str(other[0]))
    count = await tx.row(
        "SELECT count(*) FROM budgets WHERE tenant = %s AND id <> %s", (tx.tenant, budget_id)
    )
    if count is not None and count[0] >= BUDGETS_MAX:
        raise LimitReached(
            f"The tenant has {BUDGETS_MAX:,} budgets, which is the most. Delete some.",
            metadata={"budgets_max": BUDGETS_MAX},
        )
    made = await tx.one(
        Budget,
        _SET,
        {
            "tenant": tx.tenant,
            "id": budget_id,
            "uid": uuid.uuid4(),
            "session": session,
            "nanos": limit_nanos,
            "tokens": limit_tokens,
            "reset": reset,
        },
    )
    if made is None:
        raise InvalidField(
            f"budgets/{budget_id} is of another session, and stays so. Choose another id.",
            field="budget.session",
            metadata={"budget": f"budgets/{budget_id}"},
        )
    return made


async def get_budget(tx: Tx, budget_id: str) -> Budget:
    """Raises BudgetNotFound."""
    found = await tx.one(
        Budget,
        f"SELECT {_COLUMNS} FROM budgets WHERE tenant = %s AND id = %s",
        (tx.tenant, budget_id),
    )
    if found is None:
        raise _not_found(budget_id)
    return found


async def list_budgets(tx: Tx, *, after: str = "", limit: int = 1000) -> list[Budget]:
    """By id, those that come after `after`."""
    return await tx.all(
        Budget,
        f"SELECT {_COLUMNS} FROM budgets WHERE tenant = %s AND id > %s ORDER BY id LIMIT %s",
        (tx.tenant, after, limit),
    )


async def delete_budget(tx: Tx, budget_id: str) -> None:
    """Raises BudgetNotFound. Its reservations find no budget when they are settled."""
    if not await tx.run(
        "DELETE FROM budgets WHERE tenant = %s AND id = %s", (tx.tenant, budget_id)
    ):
        raise _not_found(budget_id)


async def reserve(
    tx: Tx,
    session: str,
    decide: Callable[[Sequence[Room]], Grant],
    *,
    uid: uuid.UUID,
    lifetime_s: float,
) -> Grant | None:
    """Hold what `decide` grants in the tenant's budget and the session's, all at once or, where it
    raises, nothing. None where no budget applies. Others wait meanwhile, so nothing is granted
    twice."""
    held = await tx.all(
        Budget,
        f"SELECT {_COLUMNS} FROM budgets WHERE tenant = %s AND session = ANY(%s) "
        "ORDER BY session FOR UPDATE",
        (tx.tenant, ["", session]),
    )
    if not held:
        return None
    granted = decide([budget.room() for budget in held])
    await tx.run(
        _HOLD,
        {
            "tenant": tx.tenant,
            "uid": uid,
            "budgets": [budget.uid for budget in held],
            "nanos": granted.nanos,
            "tokens": granted.tokens,
            "seconds": lifetime_s,
        },
    )
    return granted


async def settle(tx: Tx, uid: uuid.UUID, *, nanos: int, tokens: int) -> None:
    """Exchange a reservation for what was used. Settled again, or after it expired, it changes
    nothing."""
    await tx.rows(
        "SELECT 1 FROM budgets WHERE tenant = %s AND uid IN (SELECT budget_uid "
        "FROM budget_reservations WHERE tenant = %s AND uid = %s) ORDER BY session FOR UPDATE",
        (tx.tenant, tx.tenant, uid),
    )
    await tx.run(_SETTLE, {"tenant": tx.tenant, "uid": uid, "nanos": nanos, "tokens": tokens})


async def purge_reservations(tx: Tx, *, rows_max: int = 1000) -> int:
    """Settle reservations whose time is over, as if all had been used: whoever held them died, and
    nobody knows what the endpoint wrote. How many there were; in a tenant's transaction, of that
    tenant alone."""
    await tx.rows(
        "SELECT 1 FROM budgets WHERE uid IN (SELECT budget_uid FROM budget_reservations "
        "WHERE expire_time < clock_timestamp() AND %(tenant)s IN (tenant, '*')) "
        "ORDER BY tenant, session FOR UPDATE",
        {"tenant": tx.tenant},
    )
    row = await tx.row(_EXPIRE, {"tenant": tx.tenant, "rows": rows_max})
    return int(row[0]) if row else 0


def _taken(session: str, other: str) -> InvalidField:
    whose = f"sessions/{session} has" if session else "The tenant has"
    return InvalidField(
        f"{whose} the budget budgets/{other}, and can have one. Set that one, or delete it first.",
        field="budget.session",
        metadata={"budget": f"budgets/{other}"},
    )


def _not_found(budget_id: str) -> BudgetNotFound:
    return BudgetNotFound(
        f"There is no budget budgets/{budget_id}; ListBudgets names those there are.",
        field="name",
        metadata={"budget": f"budgets/{budget_id}"},
    )
