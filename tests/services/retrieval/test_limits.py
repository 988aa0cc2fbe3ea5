"""What may be relied on of limits: what is beyond one is refused with it, and what makes room is
not."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Exhausted, IndexMemoryFull, LimitReached, QueueFull, RateLimited
from engine.index import CollectionIndex, Query
from engine.index import IndexSettings as EngineSettings
from engine.index.filter_limits import conditions_of
from engine.index.filters import And, Equals, Filter, Not, Or
from engine.index.stages import Staged
from engine.index.view import stats
from engine.types import Point
from services.config import IndexSettings, LimitSettings
from services.retrieval.index.indexes import Indexes
from services.retrieval.limits import Bucket, Limiter
from services.retrieval.search.asking import Search
from services.store.collections import Collection, CollectionLimits

NOW = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
ROWS = np.random.default_rng(2).standard_normal((20, 8)).astype(np.float32)
COLLECTION = Collection(
    tenant="default",
    id="papers",
    uid=uuid.uuid4(),
    home_uid=uuid.uuid4(),
    dimensions=8,
    beams=[0] * 5,
    system=False,
    create_time=NOW,
    update_time=NOW,
)


class Open:
    """Indexes of a node, with one collection."""

    def __init__(self) -> None:
        self.memory_bytes = 0
        self._index = CollectionIndex(EngineSettings(8))
        rows = (Point(f"p{n}", row) for n, row in enumerate(ROWS))
        self._index.apply(list(rows), [], 1, "a")

    def index(self, collection: Collection) -> CollectionIndex | None:
        return self._index if collection.uid == COLLECTION.uid else None


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def limiter(indexes: Open | None = None, clock: Clock | None = None, **settings: Any) -> Limiter:
    """Of a node with no limits but those given."""
    settings.setdefault("memory_bytes_max", 1 << 30)
    return Limiter(cast(Indexes, indexes or Open()), IndexSettings(**settings), clock or Clock())


def having(**limits: Any) -> Collection:
    """The collection with limits."""
    own: Collection = replace(COLLECTION, **limits)
    return own


def searched(**fields: Any) -> Search:
    return Search(Staged(Query(ROWS[0], **fields)))


def pass_all(made: Limiter, collection: Collection, limit: str, value: int) -> None:
    """Asks for `value` of what a limit bounds, and for nothing else."""
    match limit:
        case "limit_max":
            made.searches(collection, [searched(limit=value)])
        case "ef_search_max":
            made.searches(collection, [searched(ef=value)])
        case "filter_conditions_max":
            parts = tuple(Equals("a", n) for n in range(value - 1))
            made.filter(collection, And(parts))
        case "upsert_points_max":
            made.upsert(collection, value, [0] * value)
        case "payload_bytes_max":
            made.upsert(collection, 2, [0, value])
        case "points_max":
            held = len(ROWS)
            made.room(
                collection,
                [f"p{n}" for n in range(3)] + [f"new{n}" for n in range(value - held)],
                lambda: 0,
            )
        case "bytes_max":
            taken = stats(Open().index(COLLECTION).view)  # type: ignore[union-attr]
            made.room(collection, ["x"], lambda: value - taken.heap_bytes - taken.mapped_bytes)


BOUNDED = [
    ("limit_max", 20),
    ("ef_search_max", 50),
    ("filter_conditions_max", 4),
    ("upsert_points_max", 7),
    ("payload_bytes_max", 1_000),
    ("points_max", 25),
    ("bytes_max", 1_000_000),
]


@pytest.mark.parametrize(("limit", "bound"), BOUNDED)
def test_the_bound_passes_and_one_more_does_not(limit: str, bound: int) -> None:
    own = having(**{limit: bound})
    by_node = limiter(limits=LimitSettings(**{limit: bound}))
    for made, collection in ((limiter(), own), (by_node, COLLECTION)):
        pass_all(made, collection, limit, bound)
        with pytest.raises(LimitReached) as refused:
            pass_all(made, collection, limit, bound + 1)
        error = refused.value
        assert (error.metadata["limit"], error.metadata["bound"]) == (limit, str(bound))
        assert error.metadata["value"] == str(bound + 1)
        assert error.field and f"limits.{limit}" in error.message
    # What the collection says comes before what the node says.
    wider = having(**{limit: bound + 1})
    pass_all(by_node, wider, limit, bound + 1)


@pytest.mark.parametrize(("limit", "bound"), BOUNDED)
def test_without_limits_everything_passes(limit: str, bound: int) -> None:
    pass_all(limiter(), COLLECTION, limit, bound * 1_000)


def test_a_batch_names_the_search_at_fault() -> None:
    own = replace(COLLECTION, limit_max=10)
    with pytest.raises(LimitReached) as refused:
        limiter().searches(own, [searched(), searched(limit=11)])
    assert refused.value.field == "searches[1].limit"


def test_points_that_are_replaced_need_no_room() -> None:
    own = replace(COLLECTION, points_max=len(ROWS))
    ids = [f"p{n}" for n in range(len(ROWS))]
    limiter().room(own, [*ids, *ids], lambda: 0)
    with pytest.raises(LimitReached):
        limiter().room(own, [*ids, "new"], lambda: 0)


def test_memory_refuses_points_until_there_is_some_again() -> None:
    indexes = Open()
    made = limiter(indexes, memory_bytes_max=1_000)
    made.room(COLLECTION, ["x"], lambda: 1)
    indexes.memory_bytes = 1_000
    with pytest.raises(IndexMemoryFull) as refused:
        made.room(COLLECTION, ["x"], lambda: 1)
    assert refused.value.retry_after_s
    assert refused.value.metadata == {
        "memory_bytes": "1000",
        "memory_bytes_max": "1000",
        "wanted_bytes": "0",
    }
    made.delete(COLLECTION)
    made.searches(COLLECTION, [searched()])
    indexes.memory_bytes = 999
    made.room(COLLECTION, ["x"], lambda: 1)


def test_who_asks_beforehand_is_told_with_what_a_point_would_be_refused() -> None:
    indexes = Open()
    made = limiter(indexes, memory_bytes_max=1_000)
    assert made.refusal_reason(COLLECTION) == ""
    assert made.refusal_reason(having(points_max=len(ROWS) + 1)) == ""
    assert made.refusal_reason(having(points_max=len(ROWS))) == "LIMIT_REACHED"
    assert made.refusal_reason(having(bytes_max=1)) == "LIMIT_REACHED"
    indexes.memory_bytes = 1_000
    assert made.refusal_reason(COLLECTION) == "INDEX_MEMORY_FULL"


def test_the_budget_is_never_nothing_where_none_is_set() -> None:
    indexes = Open()
    indexes.memory_bytes = 1 << 20
    limiter(indexes, memory_bytes_max=0).room(COLLECTION, ["x"], lambda: 1)


def test_too_many_rows_that_wait_to_be_sealed_hold_writers_up() -> None:
    indexes = Open()
    made = limiter(indexes, unsealed_rows_max=1_000)
    made.room(COLLECTION, ["x"], lambda: 1)
    more = [Point(f"more{n}", ROWS[n % len(ROWS)]) for n in range(980)]
    index = indexes.index(COLLECTION)
    assert index is not None
    index.apply(more, [], 2, "b")
    with pytest.raises(QueueFull) as refused:
        made.room(COLLECTION, ["x"], lambda: 1)
    assert refused.value.retry_after_s
    made.room(replace(COLLECTION, uid=uuid.uuid4()), ["x"], lambda: 1)


@given(
    st.recursive(
        st.just(Equals("a", 1)),
        lambda parts: st.one_of(
            st.lists(parts, min_size=1, max_size=3).map(lambda given: And(tuple(given))),
            st.lists(parts, min_size=1, max_size=3).map(lambda given: Or(tuple(given))),
            parts.map(Not),
        ),
        max_leaves=12,
    )
)
def test_conditions_are_counted_as_the_language_counts_them(filter: Filter) -> None:
    assert conditions_of(filter) == repr(filter).count("(") - repr(filter).count("Not(") - (
        repr(filter).count("=(")
    )


@given(
    st.floats(0.1, 50),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 40)), min_size=1, max_size=60),
)
def test_a_rate_is_kept_over_any_time(per_s: float, asked: Sequence[tuple[float, int]]) -> None:
    bucket, now_s = Bucket(max(1.0, per_s), 0.0), 0.0
    passed = [(0.0, 0)]
    for pause_s, count in asked:
        now_s += pause_s
        wait_s = bucket.take(count, per_s, now_s)
        assert wait_s >= 0
        if not wait_s:
            passed.append((now_s, count))
            continue
        # Who comes when told to is served, who comes much earlier is not.
        assert Bucket(bucket.tokens, now_s).take(count, per_s, now_s + wait_s * 1.001 + 1e-9) == 0
        assert Bucket(bucket.tokens, now_s).take(count, per_s, now_s + wait_s * 0.9) > 0
    # Without the last, which may be as large as it likes, no more than the rate and a burst.
    total = sum(count for _, count in passed[:-1])
    assert total <= per_s * passed[-1][0] + max(1.0, per_s) + 1e-6


def test_a_rate_is_of_one_collection_and_one_kind() -> None:
    clock = Clock()
    made = limiter(clock=clock)
    own = replace(COLLECTION, searches_per_second=2.0, writes_per_second=1.0)
    for _ in range(2):
        made.searches(own, [searched()])
    with pytest.raises(RateLimited) as refused:
        made.searches(own, [searched()])
    assert refused.value.retry_after_s == pytest.approx(0.5)
    made.searches(replace(own, uid=uuid.uuid4()), [searched()])
    made.upsert(own, 1, [0])
    with pytest.raises(RateLimited):
        made.upsert(own, 1, [0])
    with pytest.raises(RateLimited):
        made.delete(own)
    clock.now_s += 0.5
    made.searches(own, [searched()])


def test_what_is_refused_for_another_reason_is_not_counted() -> None:
    made = limiter()
    own = replace(COLLECTION, searches_per_second=1.0, limit_max=5)
    for _ in range(5):
        with pytest.raises(LimitReached):
            made.searches(own, [searched(limit=6)])
    made.searches(own, [searched(limit=5)])


def test_every_limit_is_checked_here() -> None:
    rates = {"searches_per_second", "writes_per_second"}
    names = set(CollectionLimits.__dataclass_fields__)
    assert names == {limit for limit, _ in BOUNDED} | rates == set(LimitSettings.model_fields)
    assert issubclass(RateLimited, Exhausted)


@pytest.mark.parametrize(("limit", "bound"), [("points_max", 25), ("bytes_max", 1_000)])
def test_what_is_brought_at_once_is_held_to_the_limits_of_what_is_made(
    limit: str, bound: int
) -> None:
    def bring(made: Limiter, own: CollectionLimits, value: int) -> None:
        points, size_bytes = (value, 1) if limit == "points_max" else (1, value)
        made.brought(own, points, size_bytes, 1)

    own = CollectionLimits(**{limit: bound})
    node = limiter(limits=LimitSettings(**{limit: bound}))
    for made, limits in ((limiter(), own), (node, CollectionLimits())):
        bring(made, limits, bound)
        with pytest.raises(LimitReached) as caught:
            bring(made, limits, bound + 1)
        assert caught.value.metadata["limit"] == limit
        assert caught.value.metadata["bound"] == str(bound)
        assert caught.value.field == f"limits.{limit}"
    wider = CollectionLimits(**{limit: 10 * bound})
    bring(node, wider, 10 * bound)


def test_what_is_brought_must_fit_into_the_memory_that_is_left() -> None:
    indexes = Open()
    indexes.memory_bytes = 600
    made = limiter(indexes, memory_bytes_max=1_000)
    made.brought(CollectionLimits(), 1, 10_000, 400)
    with pytest.raises(IndexMemoryFull) as caught:
        made.brought(CollectionLimits(), 1, 10_000, 401)
    assert caught.value.metadata["wanted_bytes"] == "401" and caught.value.retry_after_s
