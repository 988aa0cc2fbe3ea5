"""A circuit breaker as a value: whether something that fails is asked at all.

Closed, it lets everything through and counts failures in a row. With `failures_max` of them it
opens and lets nothing through for `open_s`. Then one call is let through as a probe, and what
becomes of it closes the breaker or opens it again. The clock is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """`failures_max` failures in a row, 1 or more, open it for `open_s` seconds."""

    failures_max: int
    open_s: float


@dataclass(frozen=True, slots=True)
class Breaker:
    """`open_until_s` is on the caller's clock, None while it is closed. `probing` says that a
    probe is under way."""

    failures: int = 0
    open_until_s: float | None = None
    probing: bool = False


CLOSED = Breaker()


def admit(breaker: Breaker, now_s: float) -> tuple[bool, Breaker]:
    """Whether a call may go through, and the breaker after it did."""
    if breaker.open_until_s is None:
        return True, breaker
    if now_s < breaker.open_until_s or breaker.probing:
        return False, breaker
    return True, replace(breaker, probing=True)


def wait_s(breaker: Breaker, now_s: float) -> float:
    """Seconds until it lets a call through, if nothing happens; 0 for now. While a probe is under
    way, nobody knows: a second."""
    if breaker.open_until_s is None:
        return 0.0
    return max(breaker.open_until_s - now_s, 1.0 if breaker.probing else 0.0)


def after_success(breaker: Breaker) -> Breaker:
    """The breaker when a call went well, whichever it was."""
    return CLOSED


def after_failure(breaker: Breaker, policy: BreakerPolicy, now_s: float) -> Breaker:
    """The breaker when a call failed. One that began before the breaker opened says nothing new,
    unless a probe is under way, whose failure it is taken for."""
    if breaker.open_until_s is not None and not breaker.probing:
        return breaker
    failures = breaker.failures + 1
    if breaker.probing or failures >= policy.failures_max:
        return Breaker(failures, now_s + policy.open_s)
    return replace(breaker, failures=failures)


def after_silence(breaker: Breaker) -> Breaker:
    """The breaker when a call ended without saying anything of whom it called, such as one whose
    caller left: the next one is the probe."""
    return replace(breaker, probing=False)
