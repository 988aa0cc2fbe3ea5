"""The live queue before a model: everybody gets their own answer, or their own error."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DeadlineExceeded, ModelUnavailable, NodeDraining, QueueFull
from engine.schedule import POLICIES, Lane, Limits, PolicyName
from engine.simulate import Fleet, Request, linear, simulate
from services.mesh.model_queue import ModelQueue
from services.rpc.call import Call

Run = Callable[[Sequence[int]], Sequence[int]]

ALL_AT_ONCE = Limits(batch_padded_tokens_max=10_000, batch_s_max=10.0)


def squares(works: Sequence[int]) -> list[int]:
    """A model whose answers are known."""
    return [work * work for work in works]


def call(lane: Lane = "interactive", within_s: float | None = None) -> Call:
    """A caller's."""
    deadline_s = None if within_s is None else time.monotonic() + within_s
    return Call("default", "test", deadline_s=deadline_s, lane=lane)


@asynccontextmanager
async def queue(
    run: Run,
    limits: Limits = ALL_AT_ONCE,
    *,
    name: str = "tested",
    tokens_max: int = 10**6,
    policy: PolicyName = "lanes",
) -> AsyncIterator[ModelQueue[int, int]]:
    """A queue that works."""
    made = ModelQueue[int, int](name, run, limits, tokens_max, policy)
    made.start()
    try:
        yield made
    finally:
        await made.close()


class Gate:
    """A model that waits to be let go on, so that a queue builds up behind its first batch."""

    def __init__(self, run: Run = squares) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []
        self._run = run

    def __call__(self, works: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(works))
        self.entered.set()
        assert self.opened.wait(10)
        return self._run(works)

    async def hold(self, model: ModelQueue[int, int]) -> asyncio.Task[object]:
        """Occupies the worker until it is opened."""
        held = asyncio.create_task(model.submit([0], [1], call()))
        await asyncio.to_thread(self.entered.wait, 10)
        return held


def metric(name: str, **labels: str) -> float:
    """A metric of this process."""
    return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0.0


async def test_results_come_in_the_order_asked_with_what_their_batch_was() -> None:
    async with queue(squares) as model:
        done = await model.submit([5, 3, 4], [10, 30, 20], call())
    assert [each.result for each in done] == [25, 9, 16]
    by_batch = {each.batch: each for each in done}.values()
    assert sum(each.batch_texts for each in by_batch) == 3
    assert sum(each.batch_tokens for each in by_batch) == 60
    assert all(each.batch_padded_tokens >= each.batch_tokens for each in by_batch)
    assert all(each.queue_wait_ms >= 0 and each.inference_ms >= 0 for each in done)


async def test_a_poisonous_text_fails_alone_with_its_own_error() -> None:
    def run(works: Sequence[int]) -> Sequence[int]:
        for work in works:
            if work in (13, 40):
                raise ValueError(f"{work} is poison")
        return squares(works)

    gate = Gate(run)
    async with queue(gate) as model:
        held = await gate.hold(model)
        asked = [asyncio.create_task(model.submit([n], [10], call())) for n in range(64)]
        await asyncio.sleep(0)
        gate.opened.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        await held
    assert len(gate.batches[1]) == 64, "they were in one batch"
    assert len(gate.batches) < 2 + 2 * 2 * 7, "found by halves"
    for number, answer in enumerate(answers):
        if number in (13, 40):
            assert isinstance(answer, ValueError) and str(number) in str(answer)
        else:
            assert isinstance(answer, list) and answer[0].result == number * number


async def test_a_thread_that_dies_is_replaced_and_its_batch_tried_again() -> None:
    threads, batches = [], []

    def run(works: Sequence[int]) -> Sequence[int]:
        threads.append(threading.get_ident())
        batches.append(list(works))
        if len(threads) == 1:
            raise SystemExit("the first thread dies")
        return squares(works)

    async with queue(run) as model:
        done = await model.submit([2, 3], [10, 10], call())
        later = await model.submit([4], [10], call())
    assert [each.result for each in (*done, *later)] == [4, 9, 16]
    assert batches == [[2, 3], [2, 3], [4]]
    assert threads[0] != threads[1] == threads[2]


async def test_a_text_that_kills_every_thread_is_refused_and_the_others_answered() -> None:
    def run(works: Sequence[int]) -> Sequence[int]:
        if 7 in works:
            raise SystemExit
        return squares(works)

    async with queue(run) as model:
        asked = [model.submit([n], [10], call()) for n in (6, 7, 8)]
        six, seven, eight = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(seven, ModelUnavailable)
    assert isinstance(six, list) and isinstance(eight, list)
    assert (six[0].result, eight[0].result) == (36, 64)


@pytest.mark.parametrize("run", [lambda works: [1] * (len(works) + 1), lambda works: []])
async def test_a_model_that_gives_too_many_or_too_few_results_is_an_error(run: Run) -> None:
    async with queue(run) as model:
        for _ in range(2):
            async with asyncio.timeout(30):
                with pytest.raises(RuntimeError, match="results for 3 texts"):
                    await model.submit([1, 2, 3], [10, 10, 10], call())


async def test_a_full_queue_says_when_there_will_be_room() -> None:
    run_s = 0.05

    def run(works: Sequence[int]) -> Sequence[int]:
        time.sleep(run_s)
        return squares(works)

    async with queue(run, Limits(100, padding_tokens=0), tokens_max=500) as model:
        for _ in range(6):
            await model.submit([1], [100], call())
        running = asyncio.create_task(model.submit([1], [100], call()))
        await asyncio.sleep(run_s / 5)
        waiting = [asyncio.create_task(model.submit([n], [100], call())) for n in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull) as full:
            await model.submit([9], [100], call())
        before_s, after_s = time.monotonic(), full.value.retry_after_s or 0
        assert run_s <= after_s <= 10 * run_s
        await asyncio.sleep(after_s * 2)
        assert (await model.submit([9], [100], call()))[0].result == 81
        assert time.monotonic() - before_s < 30
        await asyncio.gather(running, *waiting)


async def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    def run(works: Sequence[int]) -> Sequence[int]:
        time.sleep(0.02)
        return squares(works)

    late = {"model": "late", "reason": "late"}
    async with queue(run, Limits(100, padding_tokens=0), name="late") as model:
        for _ in range(6):
            await model.submit([1], [100], call())
        begin_s = time.monotonic()
        with pytest.raises(DeadlineExceeded) as refused:
            await model.submit(range(200), [100] * 200, call(within_s=2.0))
        assert time.monotonic() - begin_s < 1.5
        assert 2_400 < int(refused.value.metadata["estimate_ms"]) < 40_000
        assert 0 < int(refused.value.metadata["remaining_ms"]) <= 2_000
        assert metric("ragmesh_model_queue_unanswered_total", **late) == 200
        assert len(await model.submit(range(5), [100] * 5, call(within_s=20.0))) == 5


async def test_ten_thousand_cancels_leave_an_empty_queue_and_right_answers() -> None:
    gate = Gate()
    async with queue(gate, Limits(), name="storm", tokens_max=10**8) as model:
        held = await gate.hold(model)
        storm = [
            asyncio.create_task(
                model.submit([n], [2 + n % 250], call("bulk" if n % 3 else "interactive"))
            )
            for n in range(10_000)
        ]
        await asyncio.sleep(0)
        assert model.load.texts_waiting == 10_000
        begin_s = time.perf_counter()
        for task in storm:
            task.cancel()
        await asyncio.gather(*storm, return_exceptions=True)
        assert time.perf_counter() - begin_s < 5.0  # measured: 0.5
        assert model.load.texts_waiting == 0
        later = [asyncio.create_task(model.submit([n], [20], call())) for n in range(50)]
        gate.opened.set()
        answers = await asyncio.gather(*later)
        await held
    assert [answer[0].result for answer in answers] == [n * n for n in range(50)]
    assert metric("ragmesh_model_queue_tokens_waiting", model="storm") == 0
    assert metric("ragmesh_model_queue_waiting", model="storm", lane="bulk") == 0
    cancelled = {"model": "storm", "reason": "cancelled"}
    assert metric("ragmesh_model_queue_unanswered_total", **cancelled) == 10_000


async def test_the_event_loop_stays_free_while_ten_thousand_texts_are_worked_off() -> None:
    async with queue(squares, Limits(batch_items_max=8), tokens_max=10**8) as model:
        asked = asyncio.create_task(
            model.submit(range(10_000), [2 + n % 250 for n in range(10_000)], call("bulk"))
        )
        gaps_s = []
        while not asked.done():
            begin_s = time.perf_counter()
            await asyncio.sleep(0.001)
            gaps_s.append(time.perf_counter() - begin_s - 0.001)
        assert [each.result for each in await asked] == [n * n for n in range(10_000)]
    gaps_s.sort()
    assert gaps_s[len(gaps_s) // 2] < 0.02  # measured: 0.001


async def test_callers_with_one_text_each_share_batches_where_runs_have_a_fixed_cost() -> None:
    """As on an accelerator: without the short wait they would run in two alternating groups."""
    callers, rounds = 32, 20

    async def texts_per_batch(wait_s_max: float) -> float:
        batches = []

        def run(works: Sequence[int]) -> Sequence[int]:
            batches.append(works)
            time.sleep(0.01)
            return works

        async def ask(model: ModelQueue[int, int]) -> None:
            for _ in range(rounds):
                await model.submit([1], [20], call())

        async with queue(run, Limits(16_384, wait_s_max=wait_s_max)) as model:
            first = asyncio.create_task(ask(model))
            await asyncio.sleep(0.005)
            await asyncio.gather(first, *(ask(model) for _ in range(callers - 1)))
        return callers * rounds / len(batches)

    never, waits = await texts_per_batch(0.0), await texts_per_batch(0.005)
    assert waits > 1.2 * never, (waits, never)  # measured: 28 and 15


async def test_the_metrics_say_what_runs_waits_and_is_refused() -> None:
    gate = Gate()
    async with queue(gate, name="shown", tokens_max=100) as model:
        held = await gate.hold(model)
        waiting = asyncio.create_task(model.submit([1, 2], [50, 50], call("bulk")))
        await asyncio.sleep(0)
        assert metric("ragmesh_model_queue_tokens_waiting", model="shown") == 101
        assert metric("ragmesh_model_queue_waiting", model="shown", lane="bulk") == 2
        with pytest.raises(QueueFull):
            await model.submit([3], [50], call())
        gate.opened.set()
        await asyncio.gather(held, waiting)
        assert model.load.tokens_waiting == 0
        full = {"model": "shown", "reason": "full"}
        assert metric("ragmesh_model_queue_unanswered_total", **full) == 1
        assert metric("ragmesh_model_batch_texts_count", model="shown") == 2
        assert metric("ragmesh_model_batch_texts_sum", model="shown") == 3
        assert metric("ragmesh_model_tokens_total", model="shown", kind="text") == 101
        assert metric("ragmesh_model_tokens_per_second", model="shown") > 0


async def test_who_waits_or_runs_when_the_queue_closes_is_told_to_go_elsewhere() -> None:
    gate = Gate()
    model = ModelQueue[int, int]("closed", gate, ALL_AT_ONCE, 10**6)
    model.start()
    held = await gate.hold(model)
    waiting = asyncio.create_task(model.submit([1], [10], call()))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.1, gate.opened.set)
    async with asyncio.timeout(30):
        await model.close()
        answers = await asyncio.gather(held, waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [NodeDraining, NodeDraining]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.sampled_from(["interactive", "bulk"])),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from(["lanes", "fifo"]),
)
def test_the_live_queue_forms_the_batches_that_the_simulator_forms(
    texts: list[tuple[int, Lane]], policy: PolicyName
) -> None:
    """All there at once, and with time counting for nothing: then the clocks cannot differ."""
    limits = Limits(600, 8, batch_s_max=1e6, padding_tokens=10**6, bulk_age_s_max=1e6, wait_s_max=0)
    ran: list[list[int]] = []

    def run(works: Sequence[int]) -> Sequence[int]:
        ran.append(list(works))
        return works

    async def live() -> None:
        async with queue(run, limits, policy=policy) as model:
            asked = [
                model.submit([number], [tokens], call(lane))
                for number, (tokens, lane) in enumerate(texts)
            ]
            await asyncio.gather(*asked)

    asyncio.run(live())
    trace = [Request(0.0, (tokens,), lane) for tokens, lane in texts]
    outcome = simulate(trace, Fleet(linear(0.001, 1e-4), POLICIES[policy], limits))
    assert ran == [[item.id for item in each.batch.items] for each in outcome.ran]
