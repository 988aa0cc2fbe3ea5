"""Client streams, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from engine.errors import DeadlineExceeded
from services.rpc.call import Call

Message = TypeVar("Message")

EARLY_S = 0.05
"""How much before our clock the transport's may say that a deadline passed."""


async def next_piece(requests: AsyncIterator[Message], call: Call) -> Message | None:
    """The next message of a client stream; None at its end.

    Raises DeadlineExceeded where it ended at the deadline: grpc.aio says that of a stream that is
    being read as if the task had been cancelled, and the caller would be told that it went away.
    """
    try:
        return await anext(requests, None)
    except asyncio.CancelledError as error:
        left_s = call.remaining_s()
        if left_s is None or left_s > EARLY_S:
            raise
        raise DeadlineExceeded("The deadline passed before all of the stream had come.") from error
