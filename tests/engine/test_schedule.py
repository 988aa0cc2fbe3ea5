"""The next batch: within budget, urgent first, nobody starved, nothing lost."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidField
from engine.schedule import PADDING_SLACK_TOKENS, Batch, Item, Lane, Limits, next_batch

NOW_S = 100.0

limits_strategy = st.builds(
    Limits,
    batch_padded_tokens_max=st.integers(1, 2000),
    batch_items_max=st.integers(1, 40),
    padding_ratio_max=st.floats(1, 8),
    interactive_age_s_max=st.floats(0, 2),
    bulk_age_s_max=st.floats(0, 5),
)


@st.composite
def waiting_strategy(draw: st.DrawFn) -> list[Item]:
    lanes: st.SearchStrategy[Lane] = st.sampled_from(["interactive", "bulk"])
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(1, 512),
                lanes,
                st.floats(NOW_S - 10, NOW_S),
                st.none() | st.floats(NOW_S - 5, NOW_S + 5),
            ),
            max_size=60,
        )
    )
    return [Item(index, *row) for index, row in enumerate(rows)]


def _next(waiting: Sequence[Item], limits: Limits, bulk_served_s: float = NOW_S) -> Batch:
    return next_batch(waiting, limits, NOW_S, bulk_served_s=bulk_served_s)


@given(waiting_strategy(), limits_strategy, st.floats(NOW_S - 10, NOW_S))
def test_a_batch_keeps_every_bound(
    waiting: list[Item], limits: Limits, bulk_served_s: float
) -> None:
    batch = _next(waiting, limits, bulk_served_s)
    assert len(batch.items) <= limits.batch_items_max
    assert batch.padded_tokens <= limits.batch_padded_tokens_max or len(batch.items) == 1
    assert len({item.lane for item in batch.items}) <= 1
    if batch.items:
        lengths = [item.tokens for item in batch.items]
        bound = min(lengths) * limits.padding_ratio_max + PADDING_SLACK_TOKENS
        assert max(lengths) <= bound


@given(waiting_strategy(), limits_strategy)
def test_every_item_leaves_exactly_once(waiting: list[Item], limits: Limits) -> None:
    left, gone = list(waiting), []
    while left:
        batch = _next(left, limits)
        taken = [*batch.items, *batch.expired]
        assert taken, "a queue that is not empty must give something"
        gone += taken
        left = [item for item in left if item not in taken]
    assert sorted(item.id for item in gone) == [item.id for item in waiting]


@given(waiting_strategy(), limits_strategy)
def test_what_is_past_its_deadline_is_set_apart_and_never_run(
    waiting: list[Item], limits: Limits
) -> None:
    batch = _next(waiting, limits)
    past = {i.id for i in waiting if i.deadline_s is not None and i.deadline_s <= NOW_S}
    assert {item.id for item in batch.expired} == past
    assert not past & {item.id for item in batch.items}
    assert bool(batch.items) == (len(past) < len(waiting))


@given(waiting_strategy(), limits_strategy, st.floats(NOW_S - 10, NOW_S), st.randoms())
def test_the_batch_does_not_depend_on_the_order_of_the_queue(
    waiting: list[Item], limits: Limits, bulk_served_s: float, random: st.DataObject
) -> None:
    shuffled = list(waiting)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert _next(shuffled, limits, bulk_served_s).items == (
        _next(waiting, limits, bulk_served_s).items
    )


@given(waiting_strategy(), limits_strategy, st.floats(NOW_S - 10, NOW_S))
def test_interactive_goes_first_unless_bulk_has_waited_its_time(
    waiting: list[Item], limits: Limits, bulk_served_s: float
) -> None:
    batch = _next(waiting, limits, bulk_served_s)
    live = [i for i in waiting if i not in batch.expired]
    bulk = [i for i in live if i.lane == "bulk"]
    if batch.items and any(i.lane == "interactive" for i in live):
        since_s = max(bulk_served_s, min((i.arrived_s for i in bulk), default=math.inf))
        owed = bool(bulk) and NOW_S - since_s >= limits.bulk_age_s_max
        assert batch.items[0].lane == ("bulk" if owed else "interactive")


@given(waiting_strategy(), limits_strategy)
def test_the_most_urgent_of_the_lane_is_in_the_batch(waiting: list[Item], limits: Limits) -> None:
    batch = _next(waiting, limits)
    if not batch.items:
        return
    lane = batch.items[0].lane
    age_s = limits.bulk_age_s_max if lane == "bulk" else limits.interactive_age_s_max

    def urgency_s(item: Item) -> float:
        return min(item.arrived_s + age_s, item.deadline_s or math.inf)

    mine = [i for i in waiting if i.lane == lane and i not in batch.expired]
    assert min(map(urgency_s, batch.items)) == min(map(urgency_s, mine))


@given(
    st.integers(1, 400), st.sampled_from(["interactive", "bulk"]), st.integers(1, 6), st.integers()
)
def test_nobody_starves_under_a_flood_of_others(
    tokens: int, lane: Lane, per_step: int, seed: int
) -> None:
    """Ever new items of both lanes, all more similar to each other than to ours, all with nearer
    deadlines, and more than the model can take: ours still leaves within a few batches."""
    limits = Limits(batch_padded_tokens_max=256, batch_items_max=4, bulk_age_s_max=1.0)
    ours = Item(0, tokens, lane, arrived_s=0.0)
    waiting, next_id, bulk_served_s = [ours], 1, 0.0
    for step in range(40):
        now_s = step * 0.25
        for _ in range(4 + per_step):
            for other in ("interactive", "bulk"):
                length = 12 + (next_id * 7 + seed) % 5
                deadline_s = now_s + 3.0
                waiting.append(Item(next_id, length, other, now_s, deadline_s))
                next_id += 1
        batch = next_batch(waiting, limits, now_s, bulk_served_s=bulk_served_s)
        if ours in batch.items:
            return
        if any(item.lane == "bulk" for item in batch.items):
            bulk_served_s = now_s
        waiting = [i for i in waiting if i not in batch.items and i not in batch.expired]
    raise AssertionError(f"{ours} starved")


def test_a_backlog_of_bulk_does_not_hold_up_queries() -> None:
    """Old as a whole, it still gets one batch a second and no more while queries wait."""
    limits = Limits(batch_items_max=8, bulk_age_s_max=1.0)
    bulk = [Item(i, 200, "bulk", arrived_s=0.0) for i in range(500)]
    lanes = []
    bulk_served_s, next_id = 0.0, 1000
    for step in range(40):
        now_s = 50 + step * 0.1
        query = Item(next_id, 12, "interactive", now_s)
        next_id += 1
        batch = next_batch([*bulk, query], limits, now_s, bulk_served_s=bulk_served_s)
        lanes.append(batch.items[0].lane)
        if batch.items[0].lane == "bulk":
            bulk_served_s = now_s
            bulk = [i for i in bulk if i not in batch.items]
    assert lanes.count("bulk") == 4


def test_similar_lengths_go_together() -> None:
    waiting = [Item(i, 10 if i % 2 else 250, "bulk", float(i)) for i in range(20)]
    batch = _next(waiting, Limits(batch_padded_tokens_max=2500))
    assert {item.tokens for item in batch.items} == {250}
    assert len(batch.items) == 10


def test_an_item_over_the_budget_goes_alone() -> None:
    waiting = [Item(0, 900, "bulk", 0.0), Item(1, 900, "bulk", 1.0)]
    assert _next(waiting, Limits(batch_padded_tokens_max=500)).items == (waiting[0],)


def test_an_empty_queue_gives_an_empty_batch() -> None:
    batch = _next([], Limits())
    assert batch == Batch((), ()) and batch.padded_tokens == 0


def test_thousands_of_waiting_items_are_no_burden() -> None:
    waiting = [Item(i, 2 + i * 37 % 255, "bulk", i * 0.01, NOW_S + i) for i in range(5000)]
    times_s = []
    for _ in range(5):
        started = time.perf_counter()
        _next(waiting, Limits())
        times_s.append(time.perf_counter() - started)
    assert min(times_s) < 0.05  # measured: 0.006


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_padded_tokens_max", 0),
        ("batch_items_max", 0),
        ("padding_ratio_max", 0.5),
        ("padding_ratio_max", math.nan),
        ("interactive_age_s_max", -1.0),
        ("bulk_age_s_max", -0.1),
    ],
)
def test_limits_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidField) as caught:
        Limits(**{name: value})  # type: ignore[arg-type]
    assert caught.value.field == name
