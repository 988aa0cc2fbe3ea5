"""A streamed answer comes whole through a connection that breaks, without an event twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from ragmesh import (
    AnswerNotFound,
    AnswerRetrieved,
    AnswerStarted,
    Cancelled,
    InvalidField,
    StreamCut,
    TextDelta,
)
from ragmesh.api.chat.v1 import chat_service_pb2 as pb
from ragmesh.api.generation.v1 import generation_service_pb2

from tests.clients.either_client import EitherClient
from tests.clients.scripted_server import ScriptedServer, failing

NAME = "answers/a1"
EVENTS = [
    pb.StreamAnswerResponse(event_id=1, started=pb.AnswerStarted(answer=NAME)),
    pb.StreamAnswerResponse(event_id=2, retrieved=pb.AnswerRetrieved(context_passages=3)),
    pb.StreamAnswerResponse(event_id=3, delta=generation_service_pb2.TextDelta(text="so ")),
    pb.StreamAnswerResponse(event_id=4, delta=generation_service_pb2.TextDelta(text="it is")),
    pb.StreamAnswerResponse(event_id=5, finished=pb.Answer(text="so it is", name=NAME)),
]
WHOLE = [
    AnswerStarted("", 0, NAME),
    AnswerRetrieved(3),
    TextDelta("so "),
    TextDelta("it is"),
]


def giving(
    first: int, last: int, *, cut: bool = False, wrapped: bool = True
) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
    """The events of these numbers; then the connection is lost, or the stream ends."""

    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for event in EVENTS[first - 1 : last]:
            yield pb.ResumeAnswerResponse(event=event) if wrapped else event
        if cut:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    return answer


async def test_a_broken_stream_goes_on_where_it_was(
    client: EitherClient, script: ScriptedServer
) -> None:
    beat = pb.StreamAnswerResponse(event_id=4, heartbeat=pb.AnswerHeartbeat())

    def lost(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield pb.ResumeAnswerResponse(event=beat)
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone again")

    script.on("StreamAnswer", giving(1, 2, cut=True, wrapped=False))
    script.on("ResumeAnswer", giving(3, 3, cut=True), giving(4, 4), lost, giving(5, 5))
    seen = await client.collect("stream_answer", "why?", "papers")
    assert seen[:-1] == WHOLE
    assert (seen[-1].text, seen[-1].name) == ("so it is", NAME)
    assert [event.event_id for event in seen[:-1]] == [1, 2, 3, 4]
    asked = [(one.name, one.after_event_id) for one in script.requests("ResumeAnswer")]
    assert asked == [(NAME, 2), (NAME, 3), (NAME, 4), (NAME, 4)]
    assert len(script.requests("StreamAnswer")) == 1


async def test_an_answer_is_followed_from_any_event(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("ResumeAnswer", giving(4, 4, cut=True), giving(5, 5))
    seen = await client.collect("resume_answer", "a1", after_event_id=3)
    assert seen[0] == TextDelta("it is")
    assert seen[1].text == "so it is"
    script.on("ResumeAnswer", giving(6, 6))
    assert await client.collect("resume_answer", NAME, after_event_id=5) == []


async def test_an_answer_without_a_name_cannot_go_on(
    client: EitherClient, script: ScriptedServer
) -> None:
    bare = pb.StreamAnswerResponse(event_id=1, started=pb.AnswerStarted())

    def cut(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield bare

    script.on("StreamAnswer", cut)
    with pytest.raises(StreamCut):
        await client.collect("stream_answer", "why?", "papers")


async def test_a_kept_answer_says_how_it_stands(
    client: EitherClient, script: ScriptedServer
) -> None:
    status = status_pb2.Status(code=1, message="The answer was cancelled.")
    kept = pb.Answer(name=NAME, question="why?", state=pb.ANSWER_STATE_CANCELLED, error=status)
    script.on("GetAnswer", pb.GetAnswerResponse(answer=kept))
    script.on("CancelAnswer", pb.CancelAnswerResponse(answer=kept))
    script.on("ListAnswers", pb.ListAnswersResponse(answers=[kept]))
    for found in (
        await client.call("get_answer", "a1"),
        await client.call("cancel_answer", NAME),
        *await client.collect("list_answers", state="cancelled"),
    ):
        assert (found.name, found.state, found.done) == (NAME, "cancelled", True)
        assert found.answer is None and found.receipt is None
        assert isinstance(found.error, Cancelled)
    assert script.requests("ListAnswers")[0].state == pb.ANSWER_STATE_CANCELLED
    with pytest.raises(InvalidField):  # it has no receipt
        await client.call("replay_answer", "a1")


async def test_a_replay_asks_the_same_and_sees_what_is_there_now(
    client: EitherClient, script: ScriptedServer
) -> None:
    request = pb.StreamAnswerRequest(question="why?", collections=["collections/c"], passages_max=7)
    request.min_watermarks["collections/c"] = "9"
    kept = pb.Answer(name=NAME, state=pb.ANSWER_STATE_FINISHED)
    kept.receipt.request.CopyFrom(request)
    script.on("GetAnswer", pb.GetAnswerResponse(answer=kept))
    script.on("AskQuestion", pb.AskQuestionResponse(answer=pb.Answer(text="now", name="answers/b")))
    again = await client.call("replay_answer", NAME)
    assert (again.text, again.name) == ("now", "answers/b")
    (asked,) = script.requests("AskQuestion")
    assert (asked.question, asked.passages_max, dict(asked.min_watermarks)) == ("why?", 7, {})


async def test_an_answer_that_is_gone_is_not_found(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("GetAnswer", failing(grpc.StatusCode.NOT_FOUND, "no such", reason="ANSWER_NOT_FOUND"))
    with pytest.raises(AnswerNotFound):
        await client.call("get_answer", "a1")
