"""The queue before one model: owns the time and the thread around `engine/schedule`.

Callers of all services meet here. Texts wait as items with a cost in tokens; whenever the worker
is free, the scheduler says which of them form the next batch, and a thread runs it with the GIL
released. A caller that goes away takes its items out. What would make the queue longer than its
bound, or cannot be done before its deadline, is refused before it is queued.

A run that never returns cannot be stopped: Python has no way to end a thread. Its callers, and
those who wait behind it, leave at their deadlines; the queue fills to its bound and refuses, and
`ragmesh_model_queue_tokens_waiting` stays high. The repair is to end the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar, get_args

from engine.errors import DeadlineExceeded, ModelUnavailable, NodeDraining, QueueFull
from engine.schedule import POLICIES, Batch, Item, Lane, Limits, Load, PolicyName, Scheduler
from services.rpc import metrics
from services.rpc.call import Call

_LOG = logging.getLogger(__name__)

Work = TypeVar("Work")
Result = TypeVar("Result")

_LANES: tuple[Lane, ...] = get_args(Lane)


@dataclass(frozen=True, slots=True)
class Done(Generic[Result]):
    """What came of one item: the milliseconds it waited and its batch took, the number of the
    batch, its texts, their tokens, and these with padding."""

    result: Result
    queue_wait_ms: float
    inference_ms: float
    batch: int
    batch_texts: int
    batch_tokens: int
    batch_padded_tokens: int


@dataclass(slots=True)
class _Waiting(Generic[Work, Result]):
    item: Item
    work: Work
    future: asyncio.Future[Done[Result]] = field(repr=False)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class ModelQueue(Generic[Work, Result]):
    """One queue and one worker for one model.

    `run` turns a batch of works into results of the same order, on a thread of its own.
    `tokens_waiting_max` bounds the queue. Each item is its caller's alone: where a batch fails, it
    is run again in halves, and only what fails by itself fails.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[Work]], Sequence[Result]],
        limits: Limits,
        tokens_waiting_max: int,
        policy: PolicyName = "lanes",
    ) -> None:
        self._name = name
        self._run = run
        self._tokens_waiting_max = tokens_waiting_max
        self._scheduler = Scheduler(POLICIES[policy], limits, time.monotonic())
        # Kept, because `labels` takes a lock and 5 µs each time.
        self._texts_gauges = {lane: metrics.QUEUE_WAITING.labels(name, lane) for lane in _LANES}
        self._tokens_gauge = metrics.QUEUE_TOKENS_WAITING.labels(name)
        self._waiting: dict[int, _Waiting[Work, Result]] = {}
        self._next_id = 0
        self._batches = 0
        self._wake = asyncio.Event()
        self._thread = self._new_thread()
        self._worker: asyncio.Task[None] | None = None

    @property
    def load(self) -> Load:
        """How busy the model is."""
        return self._scheduler.load

    def start(self) -> None:
        """Starts the worker on the running event loop."""
        self._worker = asyncio.create_task(self._work(), name=f"model queue {self._name}")

    async def close(self) -> None:
        """Stops the worker; whoever has no result yet fails with NodeDraining. A run in progress
        is waited for."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for waiting in self._take(list(self._waiting)):
            waiting.fail(_draining())
        await asyncio.to_thread(self._thread.shutdown)

    async def submit(
        self, works: Sequence[Work], tokens: Sequence[int], call: Call
    ) -> list[Done[Result]]:
        """Queues works, each with its cost in tokens, and returns their results in order.

        Raises QueueFull with a time computed from the queue, DeadlineExceeded, or what the model
        raised. If the caller is cancelled, its items leave the queue.
        """
        now_s = time.monotonic()
        loop = asyncio.get_running_loop()
        mine: list[_Waiting[Work, Result]] = []
        for work, cost in zip(works, tokens, strict=True):
            item = Item(self._next_id, cost, call.lane, now_s, call.deadline_s)
            self._next_id += 1
            mine.append(_Waiting(item, work, loop.create_future()))
        items = [waiting.item for waiting in mine]
        self._admit(items, now_s)
        self._waiting.update((waiting.item.id, waiting) for waiting in mine)
        self._scheduler.add(items, now_s)
        self._show()
        self._wake.set()
        try:
            return list(await asyncio.gather(*(w.future for w in mine)))
        finally:
            self._count("cancelled", len(self._take(item.id for item in items)))
            for waiting in mine:
                waiting.future.cancel()

    def _admit(self, items: Sequence[Item], now_s: float) -> None:
        """Raises what speaks against queueing these items of one request."""
        waiting, bound = self._scheduler.tokens_waiting, self._tokens_waiting_max
        asked = sum(item.tokens for item in items)
        if waiting and waiting + asked > bound:
            self._count("full", len(items))
            raise QueueFull(
                f"{waiting:,} tokens wait for {self._name}; at most {bound:,} may. Try again "
                "later, or send less at once.",
                metadata={"tokens_waiting": waiting, "tokens_waiting_max": bound},
                retry_after_s=max(0.05, self._scheduler.room_s(asked, bound, now_s)),
            )
        late_s = self._scheduler.late_s(items, now_s)
        if late_s is not None and items[0].deadline_s is not None:
            self._count("late", len(items))
            estimate_ms = round(late_s * 1000)
            remaining_ms = max(0, round((items[0].deadline_s - now_s) * 1000))
            raise DeadlineExceeded(
                f"{self._name} would need about {estimate_ms:,} ms for this and what comes before "
                f"it, but the deadline is in {remaining_ms:,} ms. Allow more time, or send less "
                "at once.",
                metadata={"estimate_ms": estimate_ms, "remaining_ms": remaining_ms},
            )

    def _take(self, ids: Iterable[int]) -> list[_Waiting[Work, Result]]:
        """Takes items out of the queue; those that are not in it any more are passed over."""
        removed = self._scheduler.remove(ids)
        if removed:
            self._show()
        return [self._waiting.pop(item.id) for item in removed]

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            now_s = time.monotonic()
            batch = self._scheduler.next(now_s)
            for item in batch.expired:
                self._expire(self._waiting.pop(item.id))
            self._show()
            if batch.items:
                await self._run_batch(batch, now_s)
            else:
                # Without a time to wait until, nothing waits; with one, whoever comes ends it.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_after(batch.wait_until_s)):
                        await self._wake.wait()

    def _expire(self, waiting: _Waiting[Work, Result]) -> None:
        self._count("expired", 1)
        waiting.fail(DeadlineExceeded(f"The deadline passed while waiting for {self._name}."))

    async def _run_batch(self, batch: Batch, now_s: float) -> None:
        """Answers everybody in the batch. What fails together is run again in halves."""
        taken = [self._waiting.pop(item.id) for item in batch.items]
        for waiting in taken:
            metrics.QUEUE_WAIT_SECONDS.labels(self._name, waiting.item.lane).observe(
                now_s - waiting.item.arrived_s
            )
        parts = [taken]
        try:
            while parts:
                part = [waiting for waiting in parts.pop() if not waiting.future.done()]
                if part and not await self._answer(part, now_s):
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
        finally:
            self._scheduler.ended(time.monotonic())
            for waiting in taken:  # only if the queue was closed in the middle
                waiting.fail(_draining())

    async def _answer(self, part: list[_Waiting[Work, Result]], now_s: float) -> bool:
        """Runs one batch and says whether it is dealt with: results are given, or a failure that
        is not worth another try."""
        begin_s = time.perf_counter()
        results = await self._attempt([waiting.work for waiting in part])
        elapsed_s = time.perf_counter() - begin_s
        if isinstance(results, Exception):
            if len(part) > 1:
                return False
            self._count("failed", 1)
            part[0].fail(results)
            return True
        if len(results) != len(part):
            self._count("failed", len(part))
            for waiting in part:
                waiting.fail(
                    RuntimeError(f"{self._name} gave {len(results)} results for {len(part)} texts")
                )
            return True
        self._batches += 1
        ran = Batch(tuple(waiting.item for waiting in part))
        self._scheduler.measured(ran.padded_tokens, elapsed_s)
        self._observe(ran)
        for waiting, result in zip(part, results, strict=True):
            if not waiting.future.done():
                done = Done(
                    result,
                    queue_wait_ms=(now_s - waiting.item.arrived_s) * 1000,
                    inference_ms=elapsed_s * 1000,
                    batch=self._batches,
                    batch_texts=len(part),
                    batch_tokens=ran.tokens,
                    batch_padded_tokens=ran.padded_tokens,
                )
                waiting.future.set_result(done)
        return True

    async def _attempt(self, works: Sequence[Work]) -> Sequence[Result] | Exception:
        """The results of one run, or what it raised. A thread that dies of it, or cannot be had,
        is replaced, and the run tried once more."""
        died: BaseException
        for _ in range(2):
            loop = asyncio.get_running_loop()
            try:
                outcome = await loop.run_in_executor(self._thread, _guarded, self._run, works)
            except (BrokenExecutor, RuntimeError) as error:
                died = error
            else:
                if not isinstance(outcome, _Died):
                    return outcome
                died = outcome.error
            _LOG.error("the thread of %s died: %r; it is replaced", self._name, died)
            self._thread.shutdown(wait=False)
            self._thread = self._new_thread()
        return ModelUnavailable(f"The thread that runs {self._name} died twice of one batch.")

    def _new_thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix=f"model-{self._name}")

    def _observe(self, ran: Batch) -> None:
        metrics.BATCH_TEXTS.labels(self._name).observe(len(ran.items))
        metrics.BATCH_TOKENS.labels(self._name, "text").inc(ran.tokens)
        metrics.BATCH_TOKENS.labels(self._name, "padding").inc(ran.padded_tokens - ran.tokens)
        metrics.MODEL_TOKENS_PER_SECOND.labels(self._name).set(self.load.tokens_per_s)

    def _show(self) -> None:
        for lane, gauge in self._texts_gauges.items():
            gauge.set(self._scheduler.texts_waiting(lane))
        self._tokens_gauge.set(self.load.tokens_waiting)

    def _count(self, reason: str, texts: int) -> None:
        if texts:
            metrics.QUEUE_UNANSWERED.labels(self._name, reason).inc(texts)


@dataclass(frozen=True, slots=True)
class _Died:
    """What ended a thread, such as SystemExit. As a value: raised, it would end the event loop."""

    error: BaseException


def _guarded(
    run: Callable[[Sequence[Work]], Sequence[Result]], works: Sequence[Work]
) -> Sequence[Result] | Exception | _Died:
    try:
        return run(works)
    except StopIteration as error:  # which a future cannot hold
        return RuntimeError(repr(error))
    except Exception as error:
        return error
    except BaseException as error:
        return _Died(error)


def _draining() -> NodeDraining:
    return NodeDraining("This node stops. Try another one.")


def _after(until_s: float | None) -> float | None:
    """Seconds from now, for a time out; None stays none."""
    return None if until_s is None else until_s - time.monotonic()
