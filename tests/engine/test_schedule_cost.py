"""What runs cost is learned from what they took, and what it says of a deadline is honest."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.schedule import POLICIES, Cost, Item, Lane, Limits, Scheduler

INT8_ON_TWO_CORES = (0.0012, 1 / 10_000)
"""Fixed cost and seconds a token, about as all-MiniLM-L6-v2 runs."""


def seen(overhead_s: float, token_s: float, sizes: list[int], noise: float = 0.0) -> Cost:
    """The cost learned from runs of these sizes."""
    cost, chance = Cost(), random.Random(7)
    for padded in sizes:
        cost = cost.seen(padded, (overhead_s + token_s * padded) * (1 + noise * chance.random()))
    return cost


@given(st.floats(0, 0.02), st.floats(1e-6, 1e-3))
def test_the_line_is_found_from_runs_of_different_sizes(overhead_s: float, token_s: float) -> None:
    cost = seen(overhead_s, token_s, [20, 500, 120, 260, 40, 480, 30, 512] * 10)
    for padded in (20, 250, 1500):
        assert cost.seconds(padded) == pytest.approx(overhead_s + token_s * padded, rel=0.1)


def test_runs_of_one_size_do_not_unlearn_the_fixed_cost() -> None:
    varied = seen(*INT8_ON_TWO_CORES, [20, 500, 120, 260] * 10)
    same = varied
    for _ in range(500):
        same = same.seen(500, varied.seconds(500))
    assert same.overhead_s == pytest.approx(varied.overhead_s, rel=0.2)


def test_one_disturbed_run_changes_little_and_a_slower_machine_is_followed() -> None:
    cost = seen(*INT8_ON_TWO_CORES, [20, 500, 120, 260] * 10, noise=0.2)
    usual_s = cost.seconds(300)
    assert cost.seen(300, 60.0).seconds(300) < 1.3 * usual_s
    for padded in [20, 500, 120, 260] * 10:
        cost = cost.seen(padded, 4 * usual_s * padded / 300)
    assert cost.seconds(300) == pytest.approx(4 * usual_s, rel=0.35)


def test_a_time_is_turned_into_the_tokens_that_take_it() -> None:
    cost = seen(*INT8_ON_TWO_CORES, [20, 500, 120, 260] * 10)
    assert cost.seconds(cost.tokens_within(0.05)) == pytest.approx(0.05, rel=0.01)
    assert cost.tokens_within(0.0) == 0


def _scheduler(limits: Limits, runs: int = 40) -> Scheduler:
    """One that has seen runs of 10,000 tokens a second."""
    scheduler = Scheduler(POLICIES["lanes"], limits, 0.0)
    for padded in ([20, 500, 120, 260] * 10)[:runs]:
        scheduler.measured(padded, 0.0012 + padded / 10_000)
    return scheduler


def _items(
    count: int, tokens: int, lane: Lane, arrived_s: float, deadline_s: float | None, first_id: int
) -> list[Item]:
    return [Item(first_id + n, tokens, lane, arrived_s, deadline_s) for n in range(count)]


def test_only_what_is_hopelessly_late_is_said_to_be_late() -> None:
    """A second of work waits: a deadline after half of the estimate may still be met, by riding
    along in somebody else's batch or on a machine that was disturbed."""
    scheduler = _scheduler(Limits())
    scheduler.add(_items(100, 100, "bulk", 0.0, None, 0), 0.0)
    for deadline_s, late in ((5.0, False), (0.7, False), (0.3, True), (0.01, True)):
        asked = _items(1, 100, "bulk", 20.0, 20.0 + deadline_s, 1000)
        assert (scheduler.late_s(asked, 20.0) is not None) == late


def test_work_that_a_deadline_overtakes_does_not_count_against_it() -> None:
    scheduler = _scheduler(Limits(bulk_age_s_max=1.0))
    scheduler.add(_items(1000, 100, "bulk", 0.0, None, 0), 0.0)
    soon = _items(1, 100, "bulk", 0.0, 0.1, 1000)
    assert scheduler.late_s(soon, 0.0) is None


def test_the_other_lane_and_a_missing_deadline_count_for_nothing() -> None:
    scheduler = _scheduler(Limits())
    scheduler.add(_items(1000, 100, "bulk", 0.0, None, 0), 0.0)
    assert scheduler.late_s(_items(1, 20, "interactive", 20.0, 20.05, 1000), 20.0) is None
    assert scheduler.late_s(_items(1000, 200, "bulk", 20.0, None, 1000), 20.0) is None


def test_a_request_too_large_for_its_deadline_is_late_on_an_idle_model() -> None:
    late_s = _scheduler(Limits()).late_s(_items(200, 100, "interactive", 0.0, 0.5, 0), 0.0)
    assert late_s == pytest.approx(2.0, rel=0.1)


def test_nothing_is_late_before_runs_were_measured() -> None:
    scheduler = _scheduler(Limits(), runs=3)
    scheduler.add(_items(1000, 100, "bulk", 0.0, None, 0), 0.0)
    assert scheduler.late_s(_items(500, 256, "bulk", 20.0, 20.1, 2000), 20.0) is None


def test_the_time_to_come_back_is_the_time_until_there_is_room() -> None:
    scheduler = _scheduler(Limits())
    scheduler.add(_items(100, 100, "bulk", 0.0, None, 0), 0.0)
    whole_s = scheduler.room_s(20_000, 10_000, 0.0)
    assert whole_s == pytest.approx(1.0, rel=0.1), "never fits: it is taken when the queue is empty"
    assert scheduler.room_s(2_000, 10_000, 0.0) == pytest.approx(0.2, rel=0.1)
    batch = scheduler.next(0.0)
    run_s = 0.0012 + batch.padded_tokens / 10_000
    assert scheduler.room_s(batch.tokens, 10_000, 0.0) == pytest.approx(run_s, rel=0.1)
    assert scheduler.room_s(batch.tokens, 10_000, run_s) < 0.005


def test_the_load_counts_what_runs_until_it_ends() -> None:
    scheduler = _scheduler(Limits())
    scheduler.add(_items(4, 100, "bulk", 0.0, None, 0), 0.0)
    assert scheduler.load.tokens_waiting == 400 and scheduler.load.texts_waiting == 4
    batch = scheduler.next(0.0)
    assert scheduler.load.tokens_waiting == 400 and scheduler.load.texts_waiting < 4
    scheduler.ended(0.1)
    assert scheduler.load.tokens_waiting == 400 - batch.tokens
    assert scheduler.load.tokens_per_s == pytest.approx(9_500, rel=0.1)
