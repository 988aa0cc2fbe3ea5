"""One collection as a node follows it, and what its callers are told when it is behind."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from dataclasses import dataclass, field

from engine.errors import DeadlineExceeded, IndexUnavailable, RagmeshError
from engine.index.collection import CollectionIndex
from services.retrieval.index.own_writes import OwnWrites
from services.store.changes import Head
from services.store.collections import Collection

RETRY_S = 1.0
"""How long after a failure that nobody expected an index is tried again."""


@dataclass(slots=True)
class Followed:
    """One collection's index and where its log stands. `index` is None until it is loaded.

    `used_s`, `moved_s` and `upkeep_due_s` are readings of `time.monotonic`: of the last use, the
    last change, and when segments are looked at again. `remembered` names the segments of the
    manifest that this node has on disk. `resets` counts how often lost segments were given up.
    `own` are commits of this node that the index has not applied, `writing` counts those under way.
    `strayed` says that the log seems to be another than the index was made from, `beyond_seq` where
    the index stood at the last look if the log's head was below. `adopt_due_s` is when segments
    that could not be fetched are tried again.
    """

    collection: Collection
    head_seq: int = 0
    index: CollectionIndex | None = None
    change_id: uuid.UUID | None = None
    error: RagmeshError | None = None
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    used_s: float = field(default_factory=time.monotonic)
    moved_s: float = 0.0
    upkeep_due_s: float = 0.0
    waiting: int = 0
    resets: int = 0
    remembered: tuple[str, ...] = ()
    own: OwnWrites = field(default_factory=OwnWrites)
    writing: int = 0
    strayed: bool = False
    adopt_due_s: float = math.inf
    beyond_seq: int = 0
    work: asyncio.Task[None] | None = None
    sealing: asyncio.Task[None] | None = None
    merging: asyncio.Task[None] | None = None

    def compare(self, head: Head) -> None:
        """Finds out whether the log that the index follows was replaced. A head below the index is
        looked at twice: the index may have moved on while it was read."""
        if self.index is None:
            return
        view = self.index.view
        at = view.watermark
        if head.seq == at:
            self.strayed |= str(head.change_id) != view.change_id
        elif head.seq < at:
            self.strayed |= self.beyond_seq == at
        self.beyond_seq = at if head.seq < at else 0

    def adopts(self) -> bool:
        """Whether it is time to try again to fetch segments."""
        return time.monotonic() >= self.adopt_due_s

    def notify(self) -> None:
        """Wakes who waits for the index to move."""
        self.moved.set()
        self.moved = asyncio.Event()

    async def moves(self, give_up_s: float) -> bool:
        """Waits until the index moves or fails; False at `give_up_s` of `time.monotonic`."""
        moved = self.moved
        self.waiting += 1
        try:
            now_s = asyncio.get_running_loop().time()
            async with asyncio.timeout_at(now_s + give_up_s - time.monotonic()):
                await moved.wait()
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1
        return True

    def tasks(self) -> list[asyncio.Task[None]]:
        """What goes on for this collection."""
        tasks = (self.work, self.sealing, self.merging)
        return [task for task in tasks if task is not None and not task.done()]


def not_built(followed: Followed) -> IndexUnavailable:
    """For who waits for an index whose last try failed in a way that nobody expected."""
    return IndexUnavailable(
        f"The index of {followed.collection.id} could not be brought up to date; the node's log "
        "says why. It is tried again.",
        retry_after_s=RETRY_S,
    )


def not_reached(followed: Followed, min_seq: int) -> DeadlineExceeded:
    """For who waited for a watermark until the deadline."""
    at = "is being built" if followed.index is None else f"is at {followed.index.view.watermark}"
    return DeadlineExceeded(
        f"The index of {followed.collection.id} {at} and did not reach watermark {min_seq} in "
        "time. Give the call more time, or ask without min_watermark.",
        metadata={"min_watermark": min_seq},
    )
