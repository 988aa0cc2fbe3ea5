"""The next batch: within budget, urgent first, nobody starved, nothing lost."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidField
from engine.schedule import (
    POLICIES,
    Batch,
    Cost,
    Item,
    Lane,
    Limits,
    Moment,
    Pace,
    Policy,
    PolicyName,
    Waiting,
    in_batches,
)

NOW_S = 100.0
LANES, FIFO = POLICIES["lanes"], POLICIES["fifo"]

limits_strategy = st.builds(
    Limits,
    batch_padded_tokens_max=st.integers(1, 2000),
    batch_items_max=st.integers(1, 40),
    batch_s_max=st.floats(0, 1),
    padding_tokens=st.integers(0, 64),
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


@st.composite
def cost_strategy(draw: st.DrawFn) -> Cost:
    """Of a machine of any speed, seen through up to ten runs; none seen is a cost as well."""
    overhead_s, token_s = draw(st.floats(0, 0.02)), draw(st.floats(1e-6, 1e-3))
    cost = Cost()
    for padded in draw(st.lists(st.integers(1, 2000), max_size=10)):
        cost = cost.seen(padded, overhead_s + token_s * padded)
    return cost


moment_strategy = st.builds(
    Moment,
    now_s=st.just(NOW_S),
    bulk_served_s=st.floats(NOW_S - 10, NOW_S),
    cost=cost_strategy(),
    pace=st.builds(
        Pace,
        ended_s=st.floats(NOW_S - 0.01, NOW_S),
        answered=st.integers(0, 64),
        came=st.integers(0, 64),
        usual_share=st.floats(0, 1),
        usual_last_s=st.floats(0, 0.005),
    ),
)

NOW = Moment(NOW_S, bulk_served_s=NOW_S)


def _next(waiting: Sequence[Item], limits: Limits, moment: Moment = NOW) -> Batch:
    return LANES(Waiting(limits, waiting), limits, moment)


@given(waiting_strategy(), limits_strategy, moment_strategy)
def test_a_batch_keeps_every_bound(waiting: list[Item], limits: Limits, moment: Moment) -> None:
    batch = _next(waiting, limits, moment)
    cost, several = moment.cost, len(batch.items) > 1
    assert len(batch.items) <= limits.batch_items_max
    assert len({item.lane for item in batch.items}) <= 1
    assert not several or batch.padded_tokens <= limits.batch_padded_tokens_max
    if several and cost.runs:
        least_s = max(limits.batch_s_max, 5 * cost.overhead_s)
        assert cost.seconds(batch.padded_tokens) <= least_s + 1e-9
    alone = cost.overhead_s / cost.token_s if cost.measured else 0
    allowed = max(limits.padding_tokens, alone) * (len(batch.items) - 1)
    assert batch.padded_tokens - batch.tokens <= max(0, allowed) + 1e-6


@given(waiting_strategy(), limits_strategy, st.sampled_from(list(POLICIES)))
def test_every_item_leaves_exactly_once(
    waiting: list[Item], limits: Limits, name: PolicyName
) -> None:
    queue, gone = Waiting(limits, waiting), []
    while len(queue):
        batch = POLICIES[name](queue, limits, NOW)
        taken = [*batch.items, *batch.expired]
        assert taken, "a queue that is not empty must give something"
        assert [queue.remove(item.id) for item in taken] == taken
        gone += taken
    assert sorted(item.id for item in gone) == [item.id for item in waiting]


@given(waiting_strategy(), limits_strategy, moment_strategy)
def test_what_is_past_its_deadline_is_set_apart_and_never_run(
    waiting: list[Item], limits: Limits, moment: Moment
) -> None:
    batch = _next(waiting, limits, moment)
    past = {i.id for i in waiting if i.deadline_s is not None and i.deadline_s <= NOW_S}
    assert {item.id for item in batch.expired} == past
    assert not past & {item.id for item in batch.items}
    live = len(past) < len(waiting)
    assert (bool(batch.items) or batch.wait_until_s is not None) == live


@given(waiting_strategy(), limits_strategy, moment_strategy, st.integers())
def test_the_batch_does_not_depend_on_the_order_of_the_queue(
    waiting: list[Item], limits: Limits, moment: Moment, seed: int
) -> None:
    shuffled = list(waiting)
    random.Random(seed).shuffle(shuffled)
    assert _next(shuffled, limits, moment) == _next(waiting, limits, moment)


@given(waiting_strategy(), limits_strategy, st.data())
def test_what_left_the_queue_leaves_no_trace(
    waiting: list[Item], limits: Limits, data: st.DataObject
) -> None:
    """A queue that items went through decides as one in which they never were, but for the age
    of its lanes, which must not begin anew with every item that leaves."""
    gone = data.draw(
        st.sets(st.sampled_from([i.id for i in waiting])) if waiting else st.just(set())
    )
    queue, left = Waiting(limits, waiting), [i for i in waiting if i.id not in gone]
    for item_id in gone:
        queue.remove(item_id)
    fresh = Waiting(limits, left)
    assert list(queue) == left
    for lane in ("interactive", "bulk"):
        assert (queue.count(lane), queue.tokens(lane)) == (fresh.count(lane), fresh.tokens(lane))
        assert queue.since_s(lane) <= fresh.since_s(lane)
        assert (queue.since_s(lane) == math.inf) == (queue.count(lane) == 0)
    patient = Moment(NOW_S, bulk_served_s=math.inf)
    assert LANES(queue, limits, patient) == LANES(fresh, limits, patient)


@given(waiting_strategy(), limits_strategy, st.floats(NOW_S - 10, NOW_S))
def test_interactive_goes_first_unless_bulk_has_waited_its_time(
    waiting: list[Item], limits: Limits, bulk_served_s: float
) -> None:
    batch = _next(waiting, limits, Moment(NOW_S, bulk_served_s))
    live = [i for i in waiting if i not in batch.expired]
    if batch.items and {i.lane for i in live} == {"interactive", "bulk"}:
        oldest_s = min(i.arrived_s for i in waiting if i.lane == "bulk")
        owed = NOW_S - max(bulk_served_s, oldest_s) >= limits.bulk_age_s_max
        assert batch.items[0].lane == ("bulk" if owed else "interactive")


@given(waiting_strategy(), limits_strategy)
def test_the_most_urgent_of_the_lane_is_in_the_batch(waiting: list[Item], limits: Limits) -> None:
    batch = _next(waiting, limits)
    if not batch.items:
        return
    lane = batch.items[0].lane
    age_s = limits.bulk_age_s_max if lane == "bulk" else limits.interactive_age_s_max

    def urgency_s(item: Item) -> float:
        deadline_s = math.inf if item.deadline_s is None else item.deadline_s
        return min(item.arrived_s + age_s, deadline_s)

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
    waiting, next_id, bulk_served_s = Waiting(limits, [ours]), 1, 0.0
    for step in range(40):
        now_s = step * 0.25
        for _ in range(4 + per_step):
            for other in ("interactive", "bulk"):
                length = 12 + (next_id * 7 + seed) % 5
                waiting.add(Item(next_id, length, other, now_s, now_s + 3.0))
                next_id += 1
        batch = LANES(waiting, limits, Moment(now_s, bulk_served_s))
        if ours in batch.items:
            return
        if any(item.lane == "bulk" for item in batch.items):
            bulk_served_s = now_s
        for item in (*batch.items, *batch.expired):
            waiting.remove(item.id)
    raise AssertionError(f"{ours} starved")


def test_a_backlog_of_bulk_does_not_hold_up_queries() -> None:
    """Old as a whole, it still gets one batch a second and no more while queries wait."""
    limits = Limits(batch_items_max=8, bulk_age_s_max=1.0)
    waiting = Waiting(limits, [Item(i, 200, "bulk", arrived_s=0.0) for i in range(500)])
    lanes = []
    bulk_served_s, next_id = 0.0, 1000
    for step in range(40):
        now_s = 50 + step * 0.1
        waiting.add(Item(next_id, 12, "interactive", now_s))
        next_id += 1
        batch = LANES(waiting, limits, Moment(now_s, bulk_served_s))
        lanes.append(batch.items[0].lane)
        if batch.items[0].lane == "bulk":
            bulk_served_s = now_s
        for item in batch.items:
            waiting.remove(item.id)
    assert lanes.count("bulk") == 4


def test_similar_lengths_go_together() -> None:
    waiting = [Item(i, 10 if i % 2 else 250, "bulk", float(i)) for i in range(20)]
    batch = _next(waiting, Limits(batch_padded_tokens_max=2500))
    assert {item.tokens for item in batch.items} == {250}
    assert len(batch.items) == 10


def test_one_longer_text_does_not_make_all_others_longer() -> None:
    waiting = [Item(i, 100, "bulk", float(i)) for i in range(8)]
    longer, shorter = Item(8, 110, "bulk", 8.0), Item(9, 90, "bulk", 9.0)
    limits = Limits(batch_padded_tokens_max=1_000, padding_tokens=16)
    batch = _next([*waiting, longer, shorter], limits)
    assert set(batch.items) == {*waiting, shorter}


def _accelerator() -> Cost:
    """5 ms for a run and next to nothing for a token."""
    cost = Cost()
    for padded in (20, 640, 320, 160) * 5:
        cost = cost.seen(padded, 0.005 + 2e-6 * padded)
    return cost


def test_a_free_worker_waits_for_those_who_come_back_until_they_are_there() -> None:
    """Thirty were answered 0.2 ms ago and usually come back within 1 ms; two wait already."""
    pace = Pace(NOW_S - 0.0002, answered=30, usual_share=1.0, usual_last_s=0.001)
    moment = Moment(NOW_S, NOW_S, _accelerator(), pace)
    two = [Item(i, 20, "interactive", NOW_S - 0.001) for i in range(2)]
    waits = _next(two, Limits(), moment)
    assert not waits.items and waits.wait_until_s == pytest.approx(NOW_S + 0.0013)
    back = replace(moment, pace=replace(pace, came=30))
    rest = [Item(i, 20, "interactive", NOW_S) for i in range(2, 32)]
    assert len(_next([*two, *rest], Limits(), back).items) == 32


@pytest.mark.parametrize(
    "why", ["cheap runs", "nobody comes", "too late", "another lane waits", "a deadline", "never"]
)
def test_a_free_worker_runs_at_once(why: str) -> None:
    """Everything else is as where it waits."""
    pace = Pace(NOW_S - 0.0002, answered=30, usual_share=1.0, usual_last_s=0.001)
    cost = _accelerator()
    limits = Limits(wait_s_max=0.0 if why == "never" else 0.005)
    two = [Item(i, 20, "interactive", NOW_S - 0.001) for i in range(2)]
    if why == "cheap runs":
        cost = Cost()
        for padded in (20, 640, 320, 160) * 5:
            cost = cost.seen(padded, 0.001 + 1e-4 * padded)
    elif why == "nobody comes":
        pace = replace(pace, usual_share=0.0)
    elif why == "too late":
        pace = replace(pace, ended_s=NOW_S - 0.002)
    elif why == "another lane waits":
        two.append(Item(2, 200, "bulk", NOW_S))
    elif why == "a deadline":
        two[0] = replace(two[0], deadline_s=NOW_S + 0.005)
    batch = _next(two, limits, Moment(NOW_S, NOW_S, cost, pace))
    assert [item.id for item in batch.items] == [0, 1]


@pytest.mark.parametrize("policy", [LANES, FIFO])
def test_an_item_over_the_budget_goes_alone(policy: Policy) -> None:
    limits = Limits(batch_padded_tokens_max=500)
    waiting = [Item(0, 900, "bulk", 0.0), Item(1, 900, "bulk", 1.0)]
    assert policy(Waiting(limits, waiting), limits, NOW).items == (waiting[0],)


@pytest.mark.parametrize("policy", [LANES, FIFO])
def test_an_empty_queue_gives_an_empty_batch(policy: Policy) -> None:
    batch = policy(Waiting(Limits()), Limits(), NOW)
    assert batch == Batch() and batch.padded_tokens == 0


def test_a_decision_over_ten_thousand_waiting_items_is_quick() -> None:
    limits = Limits()
    waiting = Waiting(
        limits, [Item(i, 2 + i * 37 % 255, "bulk", i * 0.01, NOW_S + i) for i in range(10_000)]
    )
    times_s = []
    for _ in range(20):
        started = time.perf_counter()
        batch = LANES(waiting, limits, NOW)
        for item in batch.items:
            waiting.remove(item.id)
        times_s.append(time.perf_counter() - started)
    assert min(times_s) < 0.005  # measured: 0.0001


@given(st.lists(st.integers(1, 512), max_size=80), limits_strategy)
def test_texts_that_are_all_there_are_batched_within_the_limits(
    tokens: list[int], limits: Limits
) -> None:
    batches = in_batches(tokens, limits)
    assert sorted(number for batch in batches for number in batch) == list(range(len(tokens)))
    for batch in batches:
        lengths = [tokens[number] for number in batch]
        assert len(batch) <= limits.batch_items_max
        assert len(batch) == 1 or max(lengths) * len(batch) <= limits.batch_padded_tokens_max
        assert max(lengths) - min(lengths) <= limits.padding_tokens


@given(waiting_strategy(), limits_strategy)
def test_fifo_takes_texts_as_they_came_and_stops_at_the_first_that_does_not_fit(
    waiting: list[Item], limits: Limits
) -> None:
    batch = FIFO(Waiting(limits, waiting), limits, NOW)
    taken = len(batch.items)
    assert list(batch.items) == waiting[:taken] and not batch.expired
    assert taken <= limits.batch_items_max
    if taken < min(len(waiting), limits.batch_items_max):
        longest = max(item.tokens for item in waiting[: taken + 1])
        assert longest * (taken + 1) > limits.batch_padded_tokens_max


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_padded_tokens_max", 0),
        ("batch_items_max", 0),
        ("batch_s_max", -0.1),
        ("padding_tokens", -1),
        ("padding_tokens", math.nan),
        ("interactive_age_s_max", -1.0),
        ("bulk_age_s_max", -0.1),
        ("wait_s_max", -0.1),
    ],
)
def test_limits_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidField) as caught:
        Limits(**{name: value})  # type: ignore[arg-type]
    assert caught.value.field == name
