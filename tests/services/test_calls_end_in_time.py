"""A handler that answers at once is done at once; one that waits has until the deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import CollectionNotFound, DeadlineExceeded
from services.rpc.call import Call
from services.rpc.chain import Chain, Gate
from services.rpc.methods import methods_of

METHOD = methods_of("retrieval")["SearchCollection"]
REQUEST = pb.SearchCollectionRequest()
Handler = Callable[[Any, Call], Awaitable[pb.SearchCollectionResponse]]


def answer(text: str = "done") -> pb.SearchCollectionResponse:
    return pb.SearchCollectionResponse(watermark=text)


async def unary(handler: Handler, within_s: float | None, gate: Gate | None = None) -> str:
    deadline_s = None if within_s is None else time.monotonic() + within_s
    chain = Chain(gate or Gate(10), {}, 1 << 20)
    response = await chain.unary(METHOD, handler, REQUEST, Call("t", "r", deadline_s))
    assert isinstance(response, pb.SearchCollectionResponse)
    return response.watermark


@pytest.mark.parametrize("within_s", [None, 30.0])
async def test_answers_come_whether_or_not_a_handler_waits(within_s: float | None) -> None:
    async def at_once(request: Any, call: Call) -> pb.SearchCollectionResponse:
        return answer()

    async def after_waits(request: Any, call: Call) -> pb.SearchCollectionResponse:
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        said = await loop.run_in_executor(None, lambda: "from a thread")
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 // 0)
        first, second = await asyncio.gather(asyncio.sleep(0.001, "a"), asyncio.sleep(0, "b"))
        async with asyncio.timeout(1):
            await asyncio.sleep(0.001)
        return answer(f"{said} {first}{second}")

    assert await unary(at_once, within_s) == "done"
    assert await unary(after_waits, within_s) == "from a thread ab"


@pytest.mark.parametrize("waits", [False, True])
async def test_what_a_handler_raises_is_raised(waits: bool) -> None:
    gate = Gate(1)

    async def fails(request: Any, call: Call) -> pb.SearchCollectionResponse:
        if waits:
            await asyncio.sleep(0.001)
        raise CollectionNotFound("none")

    async def times_out(request: Any, call: Call) -> pb.SearchCollectionResponse:
        if waits:
            await asyncio.sleep(0.001)
        raise TimeoutError

    for handler, error in ((fails, CollectionNotFound), (times_out, TimeoutError)):
        with pytest.raises(error):
            await unary(handler, 30.0, gate)
        assert gate.in_flight == 0


@pytest.mark.parametrize("busy_s", [0.0, 0.05])
async def test_a_handler_that_waits_too_long_is_cancelled_and_may_clean_up(busy_s: float) -> None:
    """Also where its beginning, which nothing can interrupt, took the time already."""
    seen = []

    async def slow(request: Any, call: Call) -> pb.SearchCollectionResponse:
        until_s = time.monotonic() + busy_s
        while time.monotonic() < until_s:
            pass
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)
            seen.append("cleaned up")
            raise
        return answer()

    begin_s = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await unary(slow, 0.03)
    assert seen == ["cleaned up"]
    assert time.monotonic() - begin_s < 10


async def test_a_caller_who_leaves_cancels_the_handler() -> None:
    gate, begun, seen = Gate(1), asyncio.Event(), []

    async def slow(request: Any, call: Call) -> pb.SearchCollectionResponse:
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return answer()

    task = asyncio.create_task(unary(slow, 30.0, gate))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]
    assert gate.in_flight == 0


async def test_events_of_a_stream_come_until_its_end_or_the_deadline() -> None:
    chain = Chain(Gate(1), {}, 1 << 20)

    async def events(request: Any, call: Call) -> AsyncIterator[pb.SearchCollectionResponse]:
        yield answer("at once")
        await asyncio.sleep(0.001)
        yield answer("later")
        if call.request_id == "long":
            await asyncio.sleep(30)

    async def seen(request_id: str, within_s: float) -> list[str]:
        call = Call("t", request_id, time.monotonic() + within_s)
        return [
            event.watermark  # type: ignore[attr-defined]
            async for event in chain.stream(METHOD, events, REQUEST, call)
        ]

    assert await seen("short", 30.0) == ["at once", "later"]
    with pytest.raises(DeadlineExceeded):
        await seen("long", 0.05)
    assert chain.gate.in_flight == 0


def test_each_deadline_that_passes_says_so() -> None:
    """On the loop that nodes run, whose timers may ring a hair early."""

    async def slow(request: Any, call: Call) -> pb.SearchCollectionResponse:
        await asyncio.sleep(60)
        return answer()

    async def all_late() -> list[str | BaseException]:
        calls = (unary(slow, 0.02 + 0.0003 * number, Gate(1)) for number in range(200))
        return await asyncio.gather(*calls, return_exceptions=True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcomes = runner.run(all_late())
    assert {type(outcome) for outcome in outcomes} == {DeadlineExceeded}
