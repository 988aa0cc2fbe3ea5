"""What is said in a session is kept as it was said, with every branch of it, over every transport;
and it is all gone when the session is deleted."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from ragmesh.api.memory.v1 import memory_service_pb2 as pb
from ragmesh.api.memory.v1 import session_pb2

from tests.behaviour.given import Given, new_id
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung
from tests.behaviour.test_lists_page import all_pages


async def texts(rung: Rung, session: str, size: int = 100, **which: Any) -> list[str]:
    """The texts of a list, page by page."""
    request = pb.ListMessagesRequest(session=session, **which)
    return [one.text for one in await all_pages(rung, "ListMessages", request, "messages", size)]


async def test_an_edit_and_a_second_answer_are_branches(rung: Rung, given: Given) -> None:
    session = await given.session("Where is Ulm?", "On the Danube.", "And Bonn?", "On the Rhine.")
    assert await given.said(session, "And Köln?", parent=2) == [5]
    assert await given.said(session, "On the Rhine too.", parent=5) == [6]
    assert await given.said(session, "By the Rhine.", parent=3) == [7]
    assert await given.said(session, "Something else.", parent=0) == [8]
    assert await given.said(session, "Of course.") == [9]
    assert await texts(rung, session, leaf_index=4) == [
        *("Where is Ulm?", "On the Danube.", "And Bonn?", "On the Rhine.")
    ]
    back = await texts(rung, session, 2, leaf_index=6, newest_first=True)
    assert back == ["On the Rhine too.", "And Köln?", "On the Danube.", "Where is Ulm?"]
    assert await texts(rung, session, 1, parent_index=2) == ["And Bonn?", "And Köln?"]
    assert await texts(rung, session, 1, parent_index=3) == ["On the Rhine.", "By the Rhine."]
    assert await texts(rung, session, parent_index=0) == ["Where is Ulm?", "Something else."]
    assert await texts(rung, session, leaf_index=9) == ["Something else.", "Of course."]
    everything = await texts(rung, session, 4)
    assert len(everything) == 9
    assert await texts(rung, session, 4, newest_first=True) == everything[::-1]


async def test_what_is_kept_comes_back_as_it_was(rung: Rung) -> None:
    create = pb.CreateSessionRequest(
        session=session_pb2.Session(display_name="Grüße 🦀", subject="ann", ttl_s=3600),
        session_id=new_id(),
    )
    create.session.payload.update({"topic": "rivers", "n": 3})
    made = (await rung.call("CreateSession", create)).session
    assert made.name == f"sessions/{create.session_id}"
    assert (made.display_name, made.subject, made.ttl_s) == ("Grüße 🦀", "ann", 3600)
    assert made.payload == create.session.payload
    assert made.expire_time.seconds - made.create_time.seconds in (3599, 3600)
    tool = session_pb2.SessionMessage(role=session_pb2.SessionMessage.ROLE_TOOL, text="")
    tool.payload.update({"rows": [1, 2.5, None, {"ok": True}]})
    append = pb.AppendMessagesRequest(session=made.name, messages=[tool])
    await rung.call("AppendMessages", append)
    (kept,) = (await rung.call("ListMessages", pb.ListMessagesRequest(session=made.name))).messages
    assert (kept.role, kept.text, kept.payload) == (tool.role, "", tool.payload)
    assert (kept.message_index, kept.parent_index, kept.depth) == (1, 0, 1)
    after = (await rung.call("GetSession", pb.GetSessionRequest(name=made.name))).session
    assert (after.messages, after.create_time) == (1, made.create_time)
    assert after.update_time.ToNanoseconds() > made.update_time.ToNanoseconds()


async def test_sessions_are_listed_the_newest_first_and_by_subject(
    rung: Rung, given: Given
) -> None:
    tenant = new_id("t")
    names = [await given.session(tenant=tenant, subject="ab"[i % 2]) for i in range(5)]
    for size in (1, 2, 100):
        listed = await all_pages(
            rung, "ListSessions", pb.ListSessionsRequest(), "sessions", size, tenant
        )
        assert [one.name for one in listed] == names[::-1]
    request = pb.ListSessionsRequest(subject="a")
    hers = await all_pages(rung, "ListSessions", request, "sessions", 2, tenant)
    assert [one.name for one in hers] == names[::-1][::2]


async def test_callers_at_once_are_all_kept(rung: Rung, given: Given) -> None:
    session = await given.session("Start?", "Yes.")
    found = await asyncio.gather(
        *(given.said(session, f"q{i}", f"a{i}", parent=2) for i in range(6))
    )
    assert sorted(i for indexes in found for i in indexes) == list(range(3, 15))
    for i, indexes in enumerate(found):
        branch = await texts(rung, session, leaf_index=indexes[-1])
        assert branch == ["Start?", "Yes.", f"q{i}", f"a{i}"]


async def test_one_bad_message_keeps_all_from_being_appended(rung: Rung, given: Given) -> None:
    session = await given.session("Kept?")
    with pytest.raises(Refused):
        await given.said(session, "fine", "a\0b")
    assert await texts(rung, session) == ["Kept?"]


async def test_a_deleted_session_is_gone_with_its_name_free(rung: Rung, given: Given) -> None:
    session_id = new_id()
    session = await given.session("Old?", "Yes.", session_id=session_id)
    gone = await rung.call("DeleteSession", pb.DeleteSessionRequest(name=session))
    assert gone.messages == 2
    for rpc, request in (
        ("GetSession", pb.GetSessionRequest(name=session)),
        ("ListMessages", pb.ListMessagesRequest(session=session)),
        ("GetSessionContext", pb.GetSessionContextRequest(name=session)),
        ("DeleteSession", pb.DeleteSessionRequest(name=session)),
    ):
        with pytest.raises(Refused) as refused:
            await rung.call(rpc, request)
        assert refused.value.reason == "SESSION_NOT_FOUND"
    assert await given.session("New?", session_id=session_id) == session
    assert await texts(rung, session) == ["New?"]


async def test_a_repetition_after_the_end_makes_nothing(rung: Rung) -> None:
    create = pb.CreateSessionRequest(
        session=session_pb2.Session(display_name="secret"), request_id=str(uuid.uuid4())
    )
    name = (await rung.call("CreateSession", create)).session.name
    await rung.call("DeleteSession", pb.DeleteSessionRequest(name=name))
    again = (await rung.call("CreateSession", create)).session
    assert (again.name, again.display_name) == (name, "")
    with pytest.raises(Refused):
        await rung.call("GetSession", pb.GetSessionRequest(name=name))


async def test_a_question_is_given_what_was_said_before(rung: Rung, given: Given) -> None:
    talk = [text for i in range(30) for text in (f"Is it warm in town {i}?", "It is mild there.")]
    session = await given.session("My dog is called Bruno.", "A fine name.", *talk)
    request = pb.GetSessionContextRequest(
        name=session, question="What is the name of my dog?", tokens_max=150
    )
    found = await rung.call("GetSessionContext", request)
    said = [one.message.text for one in found.messages]
    assert said[:2] == ["My dog is called Bruno.", "A fine name."]
    assert said[-2:] == talk[-2:]
    assert found.tokens <= 150
    assert found.older == pb.OLDER_TURNS_RELEVANT
    assert found.messages_left_out == 62 - len(said)
