"""Streams of typed events that always say how they ended.

Over REST a status after the first byte is invisible, so a stream's last event says it instead:
`finished`, or `failed` with the status that the call would have had.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Protocol, TypeVar

from google.rpc import status_pb2

from engine.errors import DeadlineExceeded
from services.errors import row_of, to_status
from services.rpc.call import Call
from services.rpc.chain import is_expected

LAST_WORD_S = 0.05
"""How long before the deadline a stream is ended, so that its last event still arrives; a tenth
of the time where that is less."""

_LOG = logging.getLogger("ragmesh.rpc")


class Numbered(Protocol):
    """An event of a stream."""

    event_id: int


Event = TypeVar("Event", bound=Numbered)


async def told(
    events: AsyncGenerator[Event, None], call: Call, failed: Callable[[status_pb2.Status], Event]
) -> AsyncGenerator[Event, None]:
    """Numbers events from 1, and turns a failure after the first one into a last event.

    A failure before the first event is raised, so that it becomes the status of the call. A
    deadline that passes in between ends the stream just before it. Cancellation goes through.
    """
    remaining_s = call.remaining_s()
    spare_s = 0.0 if remaining_s is None else min(LAST_WORD_S, max(0.0, remaining_s) / 10)
    number = 0
    try:
        while True:
            try:
                event = await _next(events, call, spare_s)
            except StopAsyncIteration:
                return
            except Exception as error:
                if number == 0:
                    raise
                _log(error, call, number)
                event = failed(to_status(error, call.request_id))
                event.event_id = number + 1
                yield event
                return
            number += 1
            event.event_id = number
            yield event
    finally:
        await events.aclose()


async def _next(events: AsyncGenerator[Event, None], call: Call, spare_s: float) -> Event:
    remaining_s = call.remaining_s()
    try:
        async with asyncio.timeout(
            None if remaining_s is None else remaining_s - spare_s
        ) as timeout:
            return await anext(events)
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise DeadlineExceeded("The deadline passed before the answer was complete.") from error


def _log(error: Exception, call: Call, events: int) -> None:
    expected = is_expected(error)
    _LOG.log(
        logging.INFO if expected else logging.ERROR,
        "a stream failed after %d events",
        events,
        exc_info=None if expected else error,
        extra={"reason": row_of(error).reason, "request_id": call.request_id},
    )
