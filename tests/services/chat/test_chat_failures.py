"""What goes wrong on the way to an answer is told with its own reason, and stops the work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from ragmesh.api.generation.v1 import generation_service_pb2 as generation

from engine.errors import DeadlineExceeded, InvalidField, QueueFull, UpstreamFailed
from services.errors import from_status, to_status
from tests.services.chat.chat_mesh import ChatNode, Teller, ask, call, honest, streamed

RAILWAY = "When was the railway line from Zurich to Baden opened?"
Put = Callable[..., Teller]


def tell(request: generation.GenerateTextRequest) -> generation.GenerateTextResponse:
    quote = honest(request.passages[0], "August 1847")
    return generation.GenerateTextResponse(text="1847", citations=[quote], confidence=0.8)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("question", lambda r: setattr(r, "question", "")),
        ("question", lambda r: setattr(r, "question", "q" * 10_001)),
        ("collections", lambda r: r.ClearField("collections")),
        ("collections", lambda r: r.collections.extend(["collections/a"] * 16)),
        ("collections[1]", lambda r: r.collections.append("documents/a")),
        ("generation_model", lambda r: setattr(r, "generation_model", "extractive")),
        ("passages_max", lambda r: setattr(r, "passages_max", -1)),
        ("passages_max", lambda r: setattr(r, "passages_max", 101)),
        ("context_tokens_max", lambda r: setattr(r, "context_tokens_max", 49)),
        ("context_tokens_max", lambda r: setattr(r, "context_tokens_max", 100_001)),
        ("context_tokens_max", lambda r: setattr(r, "context_tokens_max", -1)),
    ],
)
async def test_a_malformed_question_names_its_field(
    chat_node: ChatNode, field: str, change: Callable[[Any], object]
) -> None:
    whole, stream = ask(RAILWAY), streamed(RAILWAY)
    change(whole)
    change(stream)
    with pytest.raises(InvalidField) as caught:
        await chat_node.ask(whole)
    assert caught.value.field == field
    with pytest.raises(InvalidField) as caught:
        await anext(chat_node.stream(stream))
    assert caught.value.field == field
    assert not chat_node.shelf.asked


async def test_a_failure_before_the_first_event_is_the_status_of_the_call(
    chat_node: ChatNode, teller: Put
) -> None:
    teller(tell, error=QueueFull("Full.", retry_after_s=0.5))
    with pytest.raises(QueueFull) as caught:
        await anext(chat_node.stream(streamed(RAILWAY)))
    assert caught.value.retry_after_s == 0.5


async def test_a_failure_of_the_model_in_the_middle_is_the_last_event_with_its_reason(
    chat_node: ChatNode, teller: Put
) -> None:
    error = UpstreamFailed("It broke.", metadata={"model": "generationModels/m"})
    teller(tell, ending="failed", status=to_status(error, "another"))
    events = await chat_node.events(streamed(RAILWAY))
    told = from_status(events[-1].failed)
    assert isinstance(told, UpstreamFailed)
    assert told.message == "It broke."
    assert told.metadata["model"] == "generationModels/m"
    wire = events[-1].failed.SerializeToString()
    assert b"r1" in wire
    assert b"another" not in wire


async def test_a_stream_of_the_model_that_was_cut_is_not_taken_for_an_answer(
    chat_node: ChatNode, teller: Put
) -> None:
    teller(tell, ending="cut")
    events = await chat_node.events(streamed(RAILWAY))
    assert isinstance(from_status(events[-1].failed), UpstreamFailed)


async def test_a_model_that_stalls_is_told_of_before_the_deadline(
    chat_node: ChatNode, teller: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.rpc.events.LAST_WORD_S", 0.2)
    teller(tell, ending="hang")
    begin_s = time.monotonic()
    events = await chat_node.events(streamed(RAILWAY), 2.0)
    assert time.monotonic() - begin_s < 2.0
    assert isinstance(from_status(events[-1].failed), DeadlineExceeded)


async def test_a_deadline_that_passes_in_the_search_ends_the_search(chat_node: ChatNode) -> None:
    chat_node.shelf.pause_s = 30
    with pytest.raises(DeadlineExceeded):
        await chat_node.ask(ask(RAILWAY, "collections/towns", "collections/plants"), 0.2)
    assert chat_node.shelf.cancelled == 2
    with pytest.raises(DeadlineExceeded):
        await anext(chat_node.stream(streamed(RAILWAY), 0.2))
    assert chat_node.shelf.cancelled == 3


async def test_a_caller_who_goes_away_ends_the_search(chat_node: ChatNode) -> None:
    chat_node.shelf.pause_s = 30
    both = "collections/towns", "collections/plants"
    task = asyncio.ensure_future(
        chat_node.mesh.method("chat", "AskQuestion")(ask(RAILWAY, *both), call(None))
    )
    for _ in both:
        await asyncio.wait_for(chat_node.shelf.arrived.acquire(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert chat_node.shelf.cancelled == 2
