"""Sessions: what is asked goes out, and what is answered comes back whole."""

from __future__ import annotations

import datetime
import uuid

import pytest
import ragmesh
from google.protobuf import struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from ragmesh.api.memory.v1 import memory_service_pb2 as pb
from ragmesh.api.memory.v1 import session_pb2

from tests.clients.either_client import EitherClient
from tests.clients.scripted_server import ScriptedServer

PAYLOAD = struct_pb2.Struct()
PAYLOAD.update({"topic": "rivers", "n": 3})
SESSION = session_pb2.Session(
    name="sessions/trip",
    display_name="A trip",
    subject="ann",
    payload=PAYLOAD,
    ttl_s=60,
    messages=2,
    create_time=Timestamp(seconds=60),
    update_time=Timestamp(seconds=120),
    expire_time=Timestamp(seconds=180),
)
MESSAGE = session_pb2.SessionMessage(
    message_index=2,
    parent_index=1,
    depth=2,
    role=session_pb2.SessionMessage.ROLE_ASSISTANT,
    text="On the Danube.",
    payload=PAYLOAD,
    create_time=Timestamp(seconds=120),
)
SAID = ragmesh.SessionMessage(
    message_index=2,
    parent_index=1,
    depth=2,
    role="assistant",
    text="On the Danube.",
    payload={"topic": "rivers", "n": 3},
    create_time=datetime.datetime.fromtimestamp(120, datetime.UTC),
)


async def test_a_session_is_made_and_comes_back_whole(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("CreateSession", pb.CreateSessionResponse(session=SESSION))
    made = await client.call(
        "create_session",
        session_id="sessions/trip",
        display_name="A trip",
        subject="ann",
        payload={"topic": "rivers", "n": 3},
        ttl_s=60,
    )
    assert made == ragmesh.Session(
        name="sessions/trip",
        display_name="A trip",
        subject="ann",
        payload={"topic": "rivers", "n": 3},
        ttl_s=60,
        messages=2,
        create_time=datetime.datetime.fromtimestamp(60, datetime.UTC),
        update_time=datetime.datetime.fromtimestamp(120, datetime.UTC),
        expire_time=datetime.datetime.fromtimestamp(180, datetime.UTC),
    )
    (request,) = script.requests("CreateSession")
    assert request.session_id == "trip"
    assert (request.session.subject, request.session.ttl_s) == ("ann", 60)
    assert uuid.UUID(request.request_id)


async def test_messages_go_out_in_their_order_and_where_they_belong(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("AppendMessages", pb.AppendMessagesResponse(message_indexes=[7, 8]))
    messages = [
        ragmesh.NewMessage("user", "Where is Ulm?"),
        ragmesh.NewMessage("assistant", "On the Danube.", {"n": 3}),
    ]
    assert await client.call("append_messages", "trip", messages) == (7, 8)
    assert await client.call("append_messages", "trip", messages, parent_index=0) == (7, 8)
    last, first = script.requests("AppendMessages")
    assert (last.session, last.HasField("parent_index")) == ("sessions/trip", False)
    assert first.HasField("parent_index") and first.parent_index == 0
    assert [one.text for one in last.messages] == ["Where is Ulm?", "On the Danube."]
    assert last.messages[0].role == session_pb2.SessionMessage.ROLE_USER
    assert last.messages[1].payload["n"] == 3


async def test_lists_say_which_part_they_mean(client: EitherClient, script: ScriptedServer) -> None:
    page = pb.ListMessagesResponse(messages=[MESSAGE])
    script.on("ListMessages", page)
    assert await client.collect("list_messages", "trip") == [SAID]
    await client.collect("list_messages", "trip", leaf_index=2, newest_first=True)
    await client.collect("list_messages", "trip", parent_index=0, page_size=5)
    every, branch, roots = script.requests("ListMessages")
    assert every.WhichOneof("part") is None and not every.newest_first
    assert (branch.WhichOneof("part"), branch.leaf_index) == ("leaf_index", 2)
    assert branch.newest_first
    assert (roots.WhichOneof("part"), roots.parent_index) == ("parent_index", 0)
    with pytest.raises(ragmesh.InvalidField, match="leaf_index"):
        await client.collect("list_messages", "trip", leaf_index=1, parent_index=1)
    script.on("ListSessions", pb.ListSessionsResponse(sessions=[SESSION]))
    (one,) = await client.collect("list_sessions", subject="ann")
    assert one.name == "sessions/trip"
    assert script.requests("ListSessions")[0].subject == "ann"
    script.on("DeleteSession", pb.DeleteSessionResponse(messages=2))
    assert await client.call("delete_session", "trip") == 2


async def test_what_is_to_be_read_comes_back_whole(
    client: EitherClient, script: ScriptedServer
) -> None:
    answer = pb.GetSessionContextResponse(
        messages=[
            pb.ContextMessage(message=MESSAGE, tokens=5, relevance=0.5),
            pb.ContextMessage(message=MESSAGE, tokens=5, cut=True),
        ],
        summary="Rivers.",
        summary_index=1,
        tokens=12,
        messages_left_out=3,
        older=pb.OLDER_TURNS_SUMMARY,
        context_ms=1.5,
    )
    script.on("GetSessionContext", answer)
    asked = {"leaf_index": 0, "tokens_max": 100, "older": "summary", "generation_model": "writer"}
    assert await client.call("get_session_context", "trip", "Where?", **asked) == (
        ragmesh.SessionContext(
            messages=(
                ragmesh.ContextMessage(SAID, 5, 0.5, False),
                ragmesh.ContextMessage(SAID, 5, None, True),
            ),
            summary="Rivers.",
            summary_index=1,
            tokens=12,
            messages_left_out=3,
            older="summary",
            context_ms=1.5,
        )
    )
    (request,) = script.requests("GetSessionContext")
    assert (request.name, request.question) == ("sessions/trip", "Where?")
    assert request.HasField("leaf_index") and request.leaf_index == 0
    assert (request.tokens_max, request.older) == (100, pb.OLDER_TURNS_SUMMARY)
    assert request.generation_model == "generationModels/writer"


@pytest.mark.parametrize("reason", ["SESSION_NOT_FOUND", "MESSAGE_NOT_FOUND", "SESSION_EXISTS"])
def test_each_refusal_has_a_class(reason: str) -> None:
    name = "".join(part.title() for part in reason.split("_"))
    assert getattr(ragmesh, name).reason == reason
