"""What the SDK says of a question that leans on others goes out, and what was found of each
sentence of an answer comes back as values."""

from __future__ import annotations

import pytest
from ragmesh import AnswerSentence, ChatTurn, InvalidField, TextSpan
from ragmesh.api.chat.v1 import chat_service_pb2 as pb
from ragmesh.api.embedding.v1 import vector_pb2

from tests.clients.either_client import EitherClient
from tests.clients.scripted_server import ScriptedServer


async def test_history_session_policy_and_bound_go_out(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("AskQuestion", pb.AskQuestionResponse())
    await client.call(
        "ask_question",
        "Who built it?",
        "papers",
        unsupported="withhold",
        history=[ChatTurn("When was the line opened?", "In 1847."), ChatTurn("Where?")],
        confidence_min=0.0,
        memory_subject="ada",
    )
    await client.call("ask_question", "Who built it?", "papers", chat_session="trains")
    first, second = (seen.request for seen in script.seen["AskQuestion"])
    assert first.unsupported == pb.UNSUPPORTED_POLICY_WITHHOLD
    assert [(turn.question, turn.answer) for turn in first.history] == [
        ("When was the line opened?", "In 1847."),
        ("Where?", ""),
    ]
    assert first.HasField("confidence_min")
    assert first.memory_subject == "ada"
    assert second.session == "sessions/trains"
    assert not second.HasField("confidence_min")
    with pytest.raises(InvalidField, match="withhold"):
        await client.call("ask_question", "Who?", "papers", unsupported="hide")


async def test_what_was_found_of_each_sentence_comes_back(
    client: EitherClient, script: ScriptedServer
) -> None:
    sentence = pb.AnswerSentence(
        span=vector_pb2.TextSpan(start=0, end=9),
        faults=[pb.SUPPORT_FAULT_DATE, pb.SUPPORT_FAULT_UNSPECIFIED],
        citation_indexes=[0],
        coverage=0.5,
    )
    answer = pb.Answer(
        text="It did so.",
        sentences=[sentence],
        parts=["When?", "Who?"],
        standalone_question="Who built the line?",
        requeried=True,
        withheld_sentences=2,
    )
    script.on("AskQuestion", pb.AskQuestionResponse(answer=answer))
    found = await client.call("ask_question", "Who built it?", "papers")
    expected = AnswerSentence(TextSpan(0, 9), False, ("date", "unspecified"), (0,), 0.5)
    assert found.sentences == (expected,)
    assert found.parts == ("When?", "Who?")
    assert found.standalone_question == "Who built the line?"
    assert found.requeried
    assert found.withheld_sentences == 2
