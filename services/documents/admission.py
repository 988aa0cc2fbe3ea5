"""Whether a tenant's queue takes another document."""

from __future__ import annotations

import time
from dataclasses import dataclass

from engine.errors import QueueFull
from services.store import jobs
from services.store.store import Tx

LOOK_S = 0.5
"""For so long a count is believed: to count 20,000 rows for each of 100 uploads a second would take
more of PostgreSQL than all else that they ask for."""
NEAR_FULL = 0.9
"""From this share of the queue on, every upload is counted."""
TENANTS_MAX = 10_000


@dataclass(slots=True)
class _Known:
    count: int
    until_s: float


class Admission:
    """Documents of each tenant that wait, as this node knows them."""

    def __init__(self, waiting_max: int) -> None:
        self._waiting_max = waiting_max
        self._known: dict[str, _Known] = {}

    async def require_room(self, tx: Tx) -> None:
        """Raises QueueFull where the transaction's tenant has as many documents waiting as may."""
        known = self._known.get(tx.tenant)
        if (
            known is None
            or time.monotonic() > known.until_s
            or known.count >= NEAR_FULL * self._waiting_max
        ):
            if len(self._known) >= TENANTS_MAX:
                self._known.clear()
            known = _Known(await jobs.count_waiting(tx), time.monotonic() + LOOK_S)
            self._known[tx.tenant] = known
        if known.count >= self._waiting_max:
            raise QueueFull(
                f"{known.count:,} documents wait to be ingested; at most "
                f"{self._waiting_max:,} may. Try again later.",
                metadata={"waiting": known.count, "waiting_max": self._waiting_max},
                retry_after_s=5.0,
            )
        known.count += 1
