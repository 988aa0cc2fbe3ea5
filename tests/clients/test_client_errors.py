"""Failures arrive as this package's errors, with their data, and gRPC's never leak."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import grpc
import pytest
import ragmesh
from ragmesh import _errors, _status
from ragmesh.api.chat.v1 import chat_service_pb2 as chat_pb
from ragmesh.api.errors.v1 import reason_pb2
from ragmesh.api.generation.v1 import generation_service_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.clients.either_client import EitherClient
from tests.clients.scripted_server import ScriptedServer, failing, status, streaming, then_failing

REASONS = [
    value.name.removeprefix("REASON_")
    for value in reason_pb2.Reason.DESCRIPTOR.values
    if value.number
]
DELTA = chat_pb.StreamAnswerResponse(delta=generation_service_pb2.TextDelta(text="so "))
FINISHED = chat_pb.StreamAnswerResponse(finished=chat_pb.Answer(text="so it is"))


def test_every_reason_of_the_contract_has_a_class_and_no_class_a_reason_beyond_it() -> None:
    assert sorted(_errors.CLASS_BY_REASON) == sorted(REASONS)


def test_every_code_that_a_transport_can_say_has_a_class() -> None:
    assert set(_status.CLASS_BY_CODE) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


def test_the_tree_in_the_docstring_names_every_class() -> None:
    drawn = set(str(_errors.__doc__).replace("│", " ").split())
    assert {c.__name__ for c in _errors._family(ragmesh.RagmeshError)} <= drawn


def test_an_error_survives_pickling_with_its_data() -> None:
    error = ragmesh.QueueFull("full", metadata={"depth": "9"}, retry_after_s=0.5, request_id="r")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.metadata, again.retry_after_s, again.request_id, str(again)) == (
        ragmesh.QueueFull,
        {"depth": "9"},
        0.5,
        "r",
        "full",
    )


async def test_an_error_carries_reason_metadata_violations_request_id_and_cause(
    client: EitherClient, script: ScriptedServer
) -> None:
    fail = failing(
        grpc.StatusCode.INVALID_ARGUMENT,
        "limit is 5000; the most is 1000",
        reason="INVALID_FIELD",
        metadata={"value": "5000", "bound": "1000"},
        violations=[("limit", "is 5000; the most is 1000")],
    )
    script.on("SearchCollection", fail)
    with pytest.raises(ragmesh.InvalidField, match="limit is 5000") as caught:
        await client.call("search_collection", "papers", "x", limit=5000)
    error = caught.value
    assert error.reason == "INVALID_FIELD"
    assert error.metadata == {"value": "5000", "bound": "1000"}
    assert error.field_violations == (ragmesh.FieldViolation("limit", "is 5000; the most is 1000"),)
    assert error.request_id == script.seen["SearchCollection"][0].metadata["x-request-id"]
    assert isinstance(error.__cause__, grpc.RpcError)
    assert len(script.seen["SearchCollection"]) == 1  # a wrong request is not repeated


async def test_a_reason_of_a_newer_server_falls_back_to_its_code(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("GetCollection", failing(grpc.StatusCode.NOT_FOUND, "gone", reason="MOON_NOT_FOUND"))
    with pytest.raises(ragmesh.NotFound) as caught:
        await client.call("get_collection", "papers")
    assert (type(caught.value), caught.value.reason) == (ragmesh.NotFound, "MOON_NOT_FOUND")


async def test_nobody_listening_is_unavailable_and_says_what_to_do(kind: str) -> None:
    client = EitherClient(kind, "localhost:1")
    with pytest.raises(ragmesh.Unavailable, match=r"localhost:1 .*ragmesh up"):
        await client.call("get_collection", "papers")
    with pytest.raises(ragmesh.Unavailable, match="ragmesh up"):
        await client.collect("stream_answer", "why?", "papers")
    await client.close()


async def test_a_service_the_server_lacks_is_method_not_found(client: EitherClient) -> None:
    with pytest.raises(ragmesh.MethodNotFound, match="Update"):
        await client.call("get_collection", "papers")


async def test_a_passed_deadline_names_the_limit(
    client: EitherClient, script: ScriptedServer
) -> None:
    over = threading.Event()

    def slow(request: Any, context: grpc.ServicerContext) -> pb.GetCollectionResponse:
        over.wait(5)
        return pb.GetCollectionResponse()

    script.on("GetCollection", slow)
    with pytest.raises(ragmesh.DeadlineExceeded, match=r"0\.2 s"):
        await client.call("get_collection", "papers", timeout_s=0.2)
    over.set()


async def test_every_call_has_a_deadline(client: EitherClient, script: ScriptedServer) -> None:
    script.on("GetCollection", pb.GetCollectionResponse())
    await client.call("get_collection", "papers")
    await client.call("get_collection", "papers", timeout_s=60)
    of_client, of_call = script.seen["GetCollection"]
    assert 3 < of_client.time_remaining_s <= 6
    assert 50 < of_call.time_remaining_s <= 61


async def test_a_stream_that_fails_or_is_cut_gives_what_came_and_then_the_error(
    client: EitherClient, script: ScriptedServer
) -> None:
    failed = chat_pb.StreamAnswerResponse(
        failed=status(grpc.StatusCode.UNAVAILABLE, "broke", reason="UPSTREAM_FAILED")
    )
    cut = then_failing([DELTA], failing(grpc.StatusCode.UNAVAILABLE, "gone"))
    script.on("StreamAnswer", streaming(DELTA, failed), streaming(DELTA), cut)
    for error in (ragmesh.UpstreamFailed, ragmesh.StreamCut, ragmesh.Unavailable):
        seen: list[Any] = []
        with pytest.raises(error) as caught:
            await client.collect_into(seen, "stream_answer", "why?", "papers")
        assert seen == [ragmesh.TextDelta("so ")]
        sent = script.seen["StreamAnswer"][-1].metadata["x-request-id"]
        assert caught.value.request_id == sent
    assert len(script.seen["StreamAnswer"]) == 3  # what had begun is not begun again


async def test_a_stream_that_never_began_is_tried_again(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on(
        "StreamAnswer",
        failing(grpc.StatusCode.UNAVAILABLE, reason="NODE_DRAINING"),
        streaming(DELTA, FINISHED),
    )
    events = await client.collect("stream_answer", "why?", "papers")
    assert events[0] == ragmesh.TextDelta("so ")
    assert isinstance(events[1], ragmesh.Answer) and events[1].text == "so it is"


async def test_a_closed_client_says_so(client: EitherClient, script: ScriptedServer) -> None:
    script.on("GetCollection", pb.GetCollectionResponse())
    await client.call("get_collection", "papers")
    await client.close()
    with pytest.raises(ragmesh.ClientClosed):
        await client.call("get_collection", "papers")


async def test_closing_cancels_the_calls_under_way(
    client: EitherClient, script: ScriptedServer
) -> None:
    arrived, over = threading.Event(), threading.Event()

    def slow(request: Any, context: grpc.ServicerContext) -> pb.GetCollectionResponse:
        arrived.set()
        over.wait(5)
        return pb.GetCollectionResponse()

    script.on("GetCollection", slow)
    pending = asyncio.create_task(client.call("get_collection", "papers"))
    await asyncio.to_thread(arrived.wait, 5)
    await client.close()
    with pytest.raises(ragmesh.Cancelled):
        await pending
    over.set()


async def test_leaving_a_stream_early_cancels_it_at_the_server(
    client: EitherClient, script: ScriptedServer
) -> None:
    ended = threading.Event()

    def endless(request: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(ended.set)
        yield DELTA
        ended.wait(5)

    script.on("StreamAnswer", endless)
    if client.waits:
        with client.inner.stream_answer("why?", "papers") as events:
            assert await asyncio.to_thread(next, events) == ragmesh.TextDelta("so ")
        assert list(events) == []
    else:
        async with client.inner.stream_answer("why?", "papers") as events:
            assert await anext(events) == ragmesh.TextDelta("so ")
        assert [event async for event in events] == []
    assert await asyncio.to_thread(ended.wait, 3)


async def test_cancelling_the_task_cancels_the_call_and_stays_asyncio_s_own(
    script: ScriptedServer,
) -> None:
    arrived, ended = threading.Event(), threading.Event()

    def slow(request: Any, context: grpc.ServicerContext) -> pb.GetCollectionResponse:
        context.add_callback(ended.set)
        arrived.set()
        ended.wait(5)
        return pb.GetCollectionResponse()

    script.on("GetCollection", slow)
    async with ragmesh.AsyncClient(script.address) as client:
        task = asyncio.create_task(client.get_collection("papers"))
        await asyncio.to_thread(arrived.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await asyncio.to_thread(ended.wait, 3)
