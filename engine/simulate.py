"""Replays a trace of requests against a scheduling policy, on any number of workers.

Time is computed, so an hour of load takes seconds, and the same inputs give the same answer. Each
worker is one model on one node: it has its own `Scheduler`, the one that the live queue drives,
and takes for a batch what `service_s` says. Nothing is refused: there is no admission here.

Example:

    trace = [Request(0.05 * n, (20,)) for n in range(100)]
    outcome = simulate(trace, Fleet(service_s=linear(0.001, 0.0001)))
    outcome.latency_s("interactive", 0.99)
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, count
from math import ceil, inf, isnan, nan
from typing import Literal

from engine.schedule import POLICIES, Batch, Item, Lane, Limits, Policy, Scheduler

Dispatch = Literal["least_loaded", "round_robin"]
State = Literal["done", "expired", "never"]


@dataclass(frozen=True, slots=True)
class Request:
    """Texts of these tokens that one caller sends together and waits for.

    It comes at `at_s`; where `after` is the number of another request of the trace, so long after
    that one has left: a caller who waits for answers. `within_s` is its deadline, counted from its
    arrival.
    """

    at_s: float
    tokens: tuple[int, ...]
    lane: Lane = "interactive"
    within_s: float | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Outage:
    """A worker is gone for a while, with what it ran and what waited for it; callers try again at
    once elsewhere, or when there is a worker again."""

    worker: int
    dies_s: float
    back_s: float = inf


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who serves. A request goes to one worker: to that with the fewest padded tokens waiting, or
    to each in turn. `service_s` gives the seconds of a batch; see `linear`."""

    service_s: Callable[[Batch], float]
    policy: Policy = POLICIES["lanes"]
    limits: Limits = field(default_factory=Limits)
    workers: int = 1
    dispatch: Dispatch = "least_loaded"
    outages: Sequence[Outage] = ()


@dataclass(frozen=True, slots=True)
class Served:
    """What became of one request; times are nan where it never came so far. It starts with the
    first of its texts that does, and is finished with the last."""

    arrived_s: float = nan
    started_s: float = nan
    finished_s: float = nan
    worker: int = -1
    retries: int = 0
    state: State = "never"


@dataclass(frozen=True, slots=True)
class Ran:
    """One batch that was run to its end. Its items' ids number the texts of the whole trace."""

    worker: int
    started_s: float
    finished_s: float
    batch: Batch


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation gave; `served` is parallel to the trace."""

    trace: Sequence[Request]
    served: Sequence[Served]
    ran: Sequence[Ran]

    @property
    def padding_share(self) -> float:
        """Padding by all tokens that were run, 0 to 1."""
        padded = sum(ran.batch.padded_tokens for ran in self.ran)
        return 1 - sum(ran.batch.tokens for ran in self.ran) / padded if padded else 0.0

    def latency_s(self, lane: Lane, share: float) -> float:
        """The time from arrival to answer that this share of the lane's answered requests kept,
        such as 0.99; nan without any."""
        found = sorted(
            served.finished_s - served.arrived_s
            for request, served in zip(self.trace, self.served, strict=True)
            if served.state == "done" and request.lane == lane
        )
        return found[max(0, ceil(share * len(found)) - 1)] if found else nan

    def texts_per_s(self, lane: Lane, *, until_s: float = inf) -> float:
        """Texts of a lane that were run, a second, from 0 to `until_s` or the last run's end."""
        return self._per_s(lane, until_s, lambda batch: len(batch.items))

    def tokens_per_s(self, lane: Lane, *, until_s: float = inf) -> float:
        """The same of tokens, without padding."""
        return self._per_s(lane, until_s, lambda batch: batch.tokens)

    def _per_s(self, lane: Lane, until_s: float, of: Callable[[Batch], int]) -> float:
        ran = [r for r in self.ran if r.finished_s <= until_s]
        ends_s = min(until_s, max((r.finished_s for r in ran), default=0.0))
        total = sum(of(r.batch) for r in ran if r.batch.items[0].lane == lane)
        return total / ends_s if total else 0.0


def linear(overhead_s: float, token_s: float) -> Callable[[Batch], float]:
    """A service time: `overhead_s` for a run and `token_s` for each padded token."""
    return lambda batch: overhead_s + token_s * batch.padded_tokens


def simulate(trace: Sequence[Request], fleet: Fleet) -> Outcome:
    """Runs the trace to its end: until every request is answered or expired, or none can be any
    more, because all workers are gone for good."""
    return _Simulation(trace, fleet).run()


class _Worker:
    """One worker, until it dies, and the requests that it has not answered."""

    def __init__(self, number: int, fleet: Fleet, now_s: float) -> None:
        self.number = number
        self.scheduler = Scheduler(fleet.policy, fleet.limits, now_s)
        self.alive = True
        self.runs = False
        self.requests: dict[int, None] = {}


class _Simulation:
    """Events in the order of their time. Of one time, decisions come last: a request of many texts
    is whole before a batch is made of it."""

    def __init__(self, trace: Sequence[Request], fleet: Fleet) -> None:
        self._trace = trace
        self._fleet = fleet
        self._served = [Served() for _ in trace]
        self._ran: list[Ran] = []
        self._events: list[tuple[float, bool, int, Callable[[float], None]]] = []
        self._order = count()
        self._turn = count()
        self._workers = [_Worker(n, fleet, 0.0) for n in range(fleet.workers)]
        self._homeless: list[int] = []
        self._first_ids = [0, *accumulate(len(request.tokens) for request in trace)]
        self._missing = [len(request.tokens) for request in trace]
        self._followers: dict[int, list[int]] = {}
        for number, request in enumerate(trace):
            if request.after is None:
                self._at(request.at_s, partial(self._arrive, number))
            else:
                self._followers.setdefault(request.after, []).append(number)
        for outage in fleet.outages:
            self._at(outage.dies_s, partial(self._die, outage.worker))
            if outage.back_s < inf:
                self._at(outage.back_s, partial(self._return, outage.worker))

    def run(self) -> Outcome:
        while self._events:
            at_s, _, _, event = heapq.heappop(self._events)
            event(at_s)
        return Outcome(self._trace, self._served, self._ran)

    def _at(self, at_s: float, event: Callable[[float], None], *, decides: bool = False) -> None:
        heapq.heappush(self._events, (at_s, decides, next(self._order), event))

    def _arrive(self, number: int, now_s: float) -> None:
        self._served[number] = Served(arrived_s=now_s)
        self._send(number, now_s)

    def _send(self, number: int, now_s: float) -> None:
        """Gives a request, whole, to a worker."""
        alive = [worker for worker in self._workers if worker.alive]
        if not alive:
            self._homeless.append(number)
            return
        if self._fleet.dispatch == "round_robin":
            worker = alive[next(self._turn) % len(alive)]
        else:
            worker = min(alive, key=lambda w: w.scheduler.load.tokens_waiting)
        request, before = self._trace[number], self._served[number]
        deadline_s = None if request.within_s is None else before.arrived_s + request.within_s
        items = [
            Item(self._first_ids[number] + n, tokens, request.lane, now_s, deadline_s)
            for n, tokens in enumerate(request.tokens)
        ]
        self._missing[number] = len(items)
        self._served[number] = replace(before, worker=worker.number, started_s=nan)
        worker.requests[number] = None
        worker.scheduler.add(items, now_s)
        self._at(now_s, partial(self._decide, worker), decides=True)

    def _decide(self, worker: _Worker, now_s: float) -> None:
        if worker.runs or not worker.alive:
            return
        batch = worker.scheduler.next(now_s)
        for number in sorted({self._request_of(item) for item in batch.expired}):
            self._leave(worker, number, now_s, "expired")
        if batch.items:
            worker.runs = True
            ends_s = now_s + self._fleet.service_s(batch)
            self._at(ends_s, partial(self._end, worker, batch, now_s))
            for number in {self._request_of(item) for item in batch.items}:
                if isnan(self._served[number].started_s):
                    self._served[number] = replace(self._served[number], started_s=now_s)
        elif batch.wait_until_s is not None:
            self._at(batch.wait_until_s, partial(self._decide, worker), decides=True)

    def _end(self, worker: _Worker, batch: Batch, started_s: float, now_s: float) -> None:
        if not worker.alive:
            return
        worker.runs = False
        worker.scheduler.measured(batch.padded_tokens, now_s - started_s)
        worker.scheduler.ended(now_s)
        self._ran.append(Ran(worker.number, started_s, now_s, batch))
        for item in batch.items:
            number = self._request_of(item)
            self._missing[number] -= 1
            if not self._missing[number] and number in worker.requests:
                self._leave(worker, number, now_s, "done")
        self._at(now_s, partial(self._decide, worker), decides=True)

    def _leave(self, worker: _Worker, number: int, now_s: float, state: State) -> None:
        """A request is answered, or given up; what is left of it leaves the queue."""
        del worker.requests[number]
        worker.scheduler.remove(range(*self._first_ids[number : number + 2]))
        self._served[number] = replace(self._served[number], state=state, finished_s=now_s)
        for follower in self._followers.get(number, ()):
            self._at(now_s + self._trace[follower].at_s, partial(self._arrive, follower))

    def _request_of(self, item: Item) -> int:
        return bisect_right(self._first_ids, item.id) - 1

    def _die(self, number: int, now_s: float) -> None:
        lost = self._workers[number]
        lost.alive = False
        for request in lost.requests:
            before = self._served[request]
            self._served[request] = replace(before, retries=before.retries + 1)
            self._send(request, now_s)
        lost.requests.clear()

    def _return(self, number: int, now_s: float) -> None:
        if not self._workers[number].alive:
            self._workers[number] = _Worker(number, self._fleet, now_s)
        homeless, self._homeless = self._homeless, []
        for request in homeless:
            self._send(request, now_s)
