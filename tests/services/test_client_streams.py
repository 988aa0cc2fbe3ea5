"""How a client stream that is being read may end, and what its caller is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from engine.errors import DeadlineExceeded
from services.rpc.call import Call
from services.rpc.pieces import next_piece


async def _ended_by_the_transport() -> AsyncIterator[int]:
    """As grpc.aio does it: no task is cancelled, the read says so all the same."""
    yield 1
    raise asyncio.CancelledError


async def _whole() -> AsyncIterator[int]:
    yield 1


def _until(left_s: float) -> Call:
    return Call("default", "r1", deadline_s=time.monotonic() + left_s)


async def test_messages_come_one_by_one_to_the_end() -> None:
    requests = _whole()
    assert [await next_piece(requests, _until(9)) for _ in range(3)] == [1, None, None]


@pytest.mark.parametrize("left_s", [0.01, 0, -1])
async def test_a_stream_that_the_deadline_ended_is_too_late(left_s: float) -> None:
    """By the transport's clock, which may be a little ahead of ours."""
    requests, call = _ended_by_the_transport(), _until(left_s)
    await next_piece(requests, call)
    with pytest.raises(DeadlineExceeded):
        await next_piece(requests, call)


@pytest.mark.parametrize("call", [_until(3_600), Call("default", "r1")])
async def test_a_stream_that_its_caller_left_is_cancelled(call: Call) -> None:
    requests = _ended_by_the_transport()
    await next_piece(requests, call)
    with pytest.raises(asyncio.CancelledError):
        await next_piece(requests, call)
