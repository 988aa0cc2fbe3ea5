"""What a collection, and a node, may be asked for: refused with the reason, never cut to fit.

A collection's own limits come first, then the node's; 0 stands for none. What bounds a request is
exact. What bounds what is stored is read from the index of this node as it is when the write is
about to be made: it is as late as the index is behind the log, and of writes that happen at once
each sees the state without the others. Memory is read from the node's figure, which is made anew
every two seconds.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.errors import Exhausted, IndexMemoryFull, LimitReached, QueueFull, RateLimited
from engine.index import view as views
from engine.index.conditions import Filter
from engine.index.filter_limits import conditions_of
from engine.index.view import View
from services.config import IndexSettings
from services.errors import row_of
from services.retrieval.index.indexes import Indexes
from services.retrieval.search.asking import Search
from services.rpc.call import Call
from services.rpc.machine import budget
from services.store.collections import Collection, CollectionLimits

Rate = Literal["searches_per_second", "writes_per_second"]

MEMORY_RETRY_S = 10.0
"""When to come back where memory is short: compaction gives back what deletes have freed."""

SEALING_RETRY_S = 2.0
"""When to come back where too much waits to be sealed."""

BUCKETS_MAX = 4_096
"""Rates that are remembered; one that is forgotten begins with a full burst."""


@dataclass(slots=True)
class Bucket:
    """Tokens that come back at a rate; `at_s` is when they were last counted. A request of many is
    served when the burst is there, and paid off afterwards."""

    tokens: float
    at_s: float

    def take(self, count: float, per_s: float, now_s: float) -> float:
        """Takes tokens; 0, or in how many seconds there will be enough."""
        burst = max(1.0, per_s)
        self.tokens = min(burst, self.tokens + (now_s - self.at_s) * per_s)
        self.at_s = now_s
        wanted = min(count, burst)
        if self.tokens >= wanted:
            self.tokens -= count
            return 0.0
        return (wanted - self.tokens) / per_s


class Limiter:
    """Holds requests to the limits of their collection and of this node."""

    def __init__(
        self,
        indexes: Indexes,
        settings: IndexSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._indexes = indexes
        self._node = settings.limits
        self._memory_bytes_max = budget(settings.memory_bytes_max)
        self._unsealed_rows_max = settings.unsealed_rows_max
        self._clock = clock
        self._buckets: OrderedDict[tuple[object, Rate], Bucket] = OrderedDict()

    def searches(self, collection: Collection, asked: Sequence[Search]) -> None:
        """Raises LimitReached or RateLimited for searches that are not to be done."""
        limit_max = collection.limit_max or self._node.limit_max
        ef_max = collection.ef_search_max or self._node.ef_search_max
        for index, one in enumerate(asked):
            query = one.staged.query
            path = f"searches[{index}]." if len(asked) > 1 else ""
            if limit_max and query.limit > limit_max:
                raise _beyond(collection, f"{path}limit", query.limit, "limit_max", limit_max)
            if ef_max and query.ef is not None and query.ef > ef_max:
                raise _beyond(collection, f"{path}ef_search", query.ef, "ef_search_max", ef_max)
            if query.filter is not None:
                self.filter(collection, query.filter, f"{path}filter")
        self._pass(collection, "searches_per_second", len(asked))

    def filter(self, collection: Collection, asked: Filter, field: str = "filter") -> None:
        """Raises LimitReached for a filter of too many conditions."""
        most = collection.filter_conditions_max or self._node.filter_conditions_max
        if most and (count := conditions_of(asked)) > most:
            raise _beyond(collection, field, count, "filter_conditions_max", most)

    def upsert(self, collection: Collection, count: int, payload_bytes: Iterable[int]) -> None:
        """Raises LimitReached or RateLimited for so many points, each with the bytes of its
        payload, that are not to be written, whatever there is."""
        points_max = collection.upsert_points_max or self._node.upsert_points_max
        if points_max and count > points_max:
            raise _beyond(collection, "points", count, "upsert_points_max", points_max)
        bytes_max = collection.payload_bytes_max or self._node.payload_bytes_max
        if bytes_max:
            for index, size in enumerate(payload_bytes):
                if size > bytes_max:
                    field = f"points[{index}].payload"
                    raise _beyond(collection, field, size, "payload_bytes_max", bytes_max)
        self._pass(collection, "writes_per_second")

    def delete(self, collection: Collection) -> None:
        """Raises RateLimited. Deletes have no other limit: they make room."""
        self._pass(collection, "writes_per_second")

    async def ready(self, collection: Collection, call: Call) -> None:
        """Has the index open where `room` needs it. Raises as `Indexes.view` does."""
        if self._stored_max(collection) != (0, 0):
            await self._indexes.view(collection, 0, call)

    def room(
        self, collection: Collection, ids: Iterable[str], size_bytes: Callable[[], int]
    ) -> None:
        """Raises LimitReached, IndexMemoryFull or QueueFull where there is no room for points with
        these ids, of `size_bytes` together, which is asked for where there is a bound."""
        taken, most = self._indexes.memory_bytes, self._memory_bytes_max
        if taken >= most:
            raise _memory_full(taken, 0, most)
        index = self._indexes.index(collection)
        if index is None:
            return
        self._unsealed(collection, index.view)
        self._stored(collection, index.view, ids, size_bytes)

    def brought(
        self, limits: CollectionLimits, points: int, size_bytes: int, memory_bytes: int
    ) -> None:
        """Raises LimitReached or IndexMemoryFull where no collection with these limits is made of
        so many points at once, whose index takes `size_bytes` on disk and in memory, of which
        searches need `memory_bytes`."""
        given = {"points_max": points, "bytes_max": size_bytes}
        for limit, value in given.items():
            bound = getattr(limits, limit) or getattr(self._node, limit)
            if bound and value > bound:
                raise LimitReached(
                    f"The snapshot holds {value:,} {limit.removesuffix('_max')}, and its "
                    f"collection may hold {bound:,} ({limit}). Nothing was made. Give a larger "
                    f"limits.{limit} with the request.",
                    field=f"limits.{limit}",
                    metadata={"value": value, "limit": limit, "bound": bound},
                )
        taken, most = self._indexes.memory_bytes, self._memory_bytes_max
        if taken + memory_bytes > most:
            raise _memory_full(taken, memory_bytes, most)

    def refusal_reason(self, collection: Collection) -> str:
        """With what `room` would refuse one more point; empty if it would not."""
        try:
            self.room(collection, ("",), lambda: 0)
        except Exhausted as error:
            return row_of(error).reason
        return ""

    def _unsealed(self, collection: Collection, view: View) -> None:
        waiting = sum(one.live_count for one in view.segments if one.sealed is None)
        if waiting >= self._unsealed_rows_max:
            raise QueueFull(
                f"{waiting:,} points of collection {collection.id!r} wait to be sealed, and at "
                f"most {self._unsealed_rows_max:,} may. Write more slowly, or raise "
                "index.unsealed_rows_max.",
                metadata={"waiting": waiting, "waiting_max": self._unsealed_rows_max},
                retry_after_s=SEALING_RETRY_S,
            )

    def _stored(
        self, collection: Collection, view: View, ids: Iterable[str], size_bytes: Callable[[], int]
    ) -> None:
        points_max, bytes_max = self._stored_max(collection)
        if points_max:
            unique = set(ids)
            # Looked up only where it may be too much: most writes are far from the bound.
            if view.points + len(unique) > points_max:
                after = view.points + sum(view.find(id) is None for id in unique)
                if after > points_max:
                    raise _beyond(collection, "points", after, "points_max", points_max)
        if bytes_max:
            stats = views.stats(view)
            after = stats.heap_bytes + stats.mapped_bytes + size_bytes()
            if after > bytes_max:
                raise _beyond(collection, "points", after, "bytes_max", bytes_max)

    def _stored_max(self, collection: Collection) -> tuple[int, int]:
        if collection.hidden:
            # What it mirrors was let in already, by limits that it does not have.
            return 0, 0
        points_max = collection.points_max or self._node.points_max
        return points_max, collection.bytes_max or self._node.bytes_max

    def _pass(self, collection: Collection, rate: Rate, count: int = 1) -> None:
        per_s: float = getattr(collection, rate) or getattr(self._node, rate)
        if not per_s:
            return
        now_s, key = self._clock(), (collection.uid, rate)
        bucket = self._buckets.pop(key, None) or Bucket(max(1.0, per_s), now_s)
        self._buckets[key] = bucket
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        wait_s = bucket.take(count, per_s, now_s)
        if wait_s:
            what = "searches" if rate == "searches_per_second" else "writes"
            raise RateLimited(
                f"Collection {collection.id!r} takes {per_s:g} {what} a second on a node. Come "
                f"back in {wait_s:.3f} s, or raise limits.{rate}.",
                metadata={"collection": collection.id, "limit": rate, "bound": per_s},
                retry_after_s=wait_s,
            )


_STEPS = {
    "limit_max": "Ask for fewer hits",
    "ef_search_max": "Ask for fewer candidates",
    "upsert_points_max": "Split the request",
    "payload_bytes_max": "Keep large things elsewhere, and a reference here",
    "filter_conditions_max": "Ask with fewer conditions",
    "points_max": "Delete points",
    "bytes_max": "Delete points",
}


def _memory_full(taken: int, wanted: int, most: int) -> IndexMemoryFull:
    more = f", and {wanted:,} more are asked for" if wanted else ""
    return IndexMemoryFull(
        f"The indexes of this node take {taken:,} bytes, and may take {most:,}{more}. Delete "
        "points, raise index.memory_bytes_max, or add nodes; deletes and searches still pass.",
        metadata={"memory_bytes": taken, "memory_bytes_max": most, "wanted_bytes": wanted},
        retry_after_s=MEMORY_RETRY_S,
    )


def _beyond(collection: Collection, field: str, value: int, limit: str, bound: int) -> LimitReached:
    return LimitReached(
        f"{field}: {value:,} is beyond what collection {collection.id!r} allows, {limit} "
        f"{bound:,}. {_STEPS[limit]}, or raise limits.{limit}.",
        field=field,
        metadata={"collection": collection.id, "value": value, "limit": limit, "bound": bound},
    )
