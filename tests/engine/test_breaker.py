"""What a circuit breaker lets through: all while things go well, nothing while they do not, and one
to find out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.breaker import (
    CLOSED,
    Breaker,
    BreakerPolicy,
    admit,
    after_failure,
    after_silence,
    after_success,
    wait_s,
)

POLICY = BreakerPolicy(failures_max=3, open_s=10.0)


def broken(now_s: float = 0.0) -> Breaker:
    state = CLOSED
    for _ in range(POLICY.failures_max):
        state = after_failure(state, POLICY, now_s)
    return state


def test_it_opens_with_so_many_failures_in_a_row() -> None:
    state = CLOSED
    for _ in range(POLICY.failures_max - 1):
        state = after_failure(state, POLICY, 0.0)
        assert admit(state, 0.0)[0]
    assert not admit(after_failure(state, POLICY, 0.0), 0.0)[0]


def test_a_success_between_failures_counts_them_from_the_start() -> None:
    state = after_failure(after_failure(CLOSED, POLICY, 0.0), POLICY, 0.0)
    state = after_success(state)
    for _ in range(POLICY.failures_max - 1):
        state = after_failure(state, POLICY, 0.0)
    assert admit(state, 0.0)[0]


def test_after_its_time_one_probe_goes_through_and_no_other() -> None:
    state = broken()
    assert not admit(state, 9.99)[0]
    assert wait_s(state, 4.0) == 6.0
    admitted, state = admit(state, 10.0)
    assert admitted
    assert not admit(state, 10.0)[0]
    assert wait_s(state, 10.0) == 1.0


def test_what_becomes_of_the_probe_decides() -> None:
    probing = admit(broken(), 10.0)[1]
    assert after_success(probing) == CLOSED
    again = after_failure(probing, POLICY, 10.0)
    assert not admit(again, 19.9)[0]
    assert admit(again, 20.0)[0]


def test_a_probe_that_says_nothing_leaves_its_place_to_the_next() -> None:
    probing = admit(broken(), 10.0)[1]
    assert admit(after_silence(probing), 10.0)[0]


def test_late_failures_of_before_do_not_keep_it_open_for_longer() -> None:
    assert after_failure(broken(), POLICY, 9.0) == broken()


@given(st.lists(st.sampled_from(["ask", "fail", "succeed", "leave", "wait"]), max_size=60))
def test_whatever_happens_it_never_stays_shut(steps: list[str]) -> None:
    state, now_s = CLOSED, 0.0
    for step in steps:
        if step == "ask":
            state = admit(state, now_s)[1]
        elif step == "fail":
            state = after_failure(state, POLICY, now_s)
        elif step == "succeed":
            state = after_success(state)
        elif step == "leave":
            state = after_silence(state)
        else:
            now_s += 3.0
    # Whoever was admitted says sooner or later what became of it.
    assert admit(after_silence(state), now_s + POLICY.open_s)[0]
