"""What may be relied on of an answer that a language model wrote: every sentence is held against
the passages, and what they do not say is flagged, or not given at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from ragmesh.api.chat.v1 import chat_service_pb2 as pb
from ragmesh.api.generation.v1 import citation_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as generation
from ragmesh.api.memory.v1 import memory_service_pb2 as memory
from ragmesh.api.memory.v1.session_pb2 import SessionMessage

from engine.errors import InvalidField, SessionNotFound, UpstreamFailed
from services.rpc.call import Call
from tests.services.chat.chat_mesh import TOWNS, ChatNode, Teller, ask, honest, streamed

Put = Callable[..., Teller]

RAILWAY = "When was the railway line from Zurich to Baden opened?"
TRUE = "The Swiss Northern Railway opened the line from Zurich to Baden in August 1847."
FALSE = "The line from Zurich to Baden was opened in August 1963."
LAKE = "In February 1963 the whole lake was frozen and open to walkers."
WITHHOLD = pb.UNSUPPORTED_POLICY_WITHHOLD


def saying(text: str, quote: str = "August 1847") -> Callable[..., object]:
    """A model that says a text and cites the railway's passage for its beginning."""

    def tell(request: generation.GenerateTextRequest) -> generation.GenerateTextResponse:
        cited = [honest(p, quote) for p in request.passages if quote in p.text]
        return generation.GenerateTextResponse(text=text, citations=cited, confidence=0.8)

    return tell


async def test_each_sentence_is_said_to_be_supported_or_what_is_wrong_with_it(
    chat_node: ChatNode, teller: Put
) -> None:
    teller(saying(f"{TRUE} [1] {FALSE} [1]"))
    answer = await chat_node.ask(ask(RAILWAY))
    first, second = answer.sentences
    assert first.supported
    assert not first.faults
    assert not second.supported
    assert list(second.faults) == [pb.SUPPORT_FAULT_DATE]
    assert answer.text == f"{TRUE} [1] {FALSE} [1]"
    assert answer.text[second.span.start : second.span.end].startswith(FALSE[:-1])
    assert answer.confidence < 0.8
    assert answer.withheld_sentences == 0


async def test_what_nothing_supports_is_left_out_where_that_is_asked_for(
    chat_node: ChatNode, teller: Put
) -> None:
    teller(saying(f"{TRUE} [1] {FALSE} [1] {LAKE}"))
    answer = await chat_node.ask(ask(RAILWAY, unsupported=WITHHOLD))
    assert answer.text == f"{TRUE} [1] {LAKE}"
    assert answer.withheld_sentences == 1
    assert [sentence.supported for sentence in answer.sentences] == [True, True]
    for sentence in answer.sentences:
        assert sentence.citation_indexes
        for number in sentence.citation_indexes:
            place = answer.citations[number].answer_span
            assert sentence.span.start <= place.start < place.end
    places = [answer.text[s.span.start : s.span.end] for s in answer.sentences]
    assert places[1] == LAKE


async def test_an_answer_of_which_nothing_is_supported_is_not_given(
    chat_node: ChatNode, teller: Put
) -> None:
    teller(saying(FALSE))
    answer = await chat_node.ask(ask(RAILWAY, unsupported=WITHHOLD))
    assert answer.text == ""
    assert answer.abstention_reason == citation_pb2.ABSTENTION_REASON_UNVERIFIED
    assert answer.withheld_sentences == 1


async def test_a_sentence_without_a_citation_gets_that_of_what_supports_it(
    chat_node: ChatNode, teller: Put
) -> None:
    teller(lambda request: generation.GenerateTextResponse(text=LAKE, confidence=0.5))
    answer = await chat_node.ask(ask(RAILWAY))
    (citation,) = answer.citations
    assert citation.document.endswith("/d1")
    start = citation.span.start - 5_000
    assert TOWNS[1][start : start + len(citation.quote)] == citation.quote
    assert answer.text[citation.answer_span.start : citation.answer_span.end] == LAKE


async def test_a_stream_that_withholds_shows_nothing_before_it_was_checked(
    chat_node: ChatNode, teller: Put
) -> None:
    teller(saying(f"{TRUE} [1] {FALSE} [1]"))
    events = await chat_node.events(streamed(RAILWAY, unsupported=WITHHOLD))
    shown = "".join(event.delta.text for event in events)
    assert shown == events[-1].finished.text
    assert "1963" not in shown
    cited = [event.citation for event in events if event.HasField("citation")]
    assert cited == list(events[-1].finished.citations)


async def test_an_extractive_answer_is_supported_by_its_quotes(chat_node: ChatNode) -> None:
    answer = await chat_node.ask(ask(RAILWAY))
    assert answer.sentences
    assert all(s.supported and s.citation_indexes for s in answer.sentences)


async def test_a_question_that_leans_on_the_one_before_is_made_whole(chat_node: ChatNode) -> None:
    before = pb.ChatTurn(question=RAILWAY, answer="In August 1847.")
    answer = await chat_node.ask(ask("Which company opened it?", history=[before]))
    assert answer.question == "Which company opened it?"
    assert answer.standalone_question == (
        "Which company opened the railway line from Zurich to Baden?"
    )
    assert "Swiss Northern Railway" in answer.text
    alone = await chat_node.ask(ask(RAILWAY, history=[before]))
    assert alone.standalone_question == ""


async def test_a_language_model_may_make_it_whole_and_is_not_missed_where_it_fails(
    chat_node: ChatNode, teller: Put
) -> None:
    before = pb.ChatTurn(question=RAILWAY)
    fields = {"generation_model": "generationModels/test", "history": [before]}

    def tell(request: generation.GenerateTextRequest) -> generation.GenerateTextResponse:
        if request.passages:
            return generation.GenerateTextResponse(text=TRUE, confidence=0.9)
        assert RAILWAY in request.question
        return generation.GenerateTextResponse(text="Which company opened the line to Baden?")

    teller(tell)
    answer = await chat_node.ask(ask("Which company opened it?", **fields))
    assert answer.standalone_question == "Which company opened the line to Baden?"

    def failing(request: generation.GenerateTextRequest) -> generation.GenerateTextResponse:
        if request.passages:
            return generation.GenerateTextResponse(text=TRUE, confidence=0.9)
        raise UpstreamFailed("The endpoint is away.")

    teller(failing)
    answer = await chat_node.ask(ask("Which company opened it?", **fields))
    assert answer.standalone_question.endswith("the railway line from Zurich to Baden?")


async def test_the_parts_of_a_question_are_answered_one_after_the_other(
    chat_node: ChatNode,
) -> None:
    question = (
        "When was the railway line from Zurich to Baden opened, and when was the whole lake frozen?"
    )
    answer = await chat_node.ask(ask(question))
    assert len(answer.parts) == 2
    assert "1847" in answer.text
    assert "1963" in answer.text
    searched = {request.text for request in chat_node.shelf.asked}
    assert set(answer.parts) <= searched


async def test_a_question_whose_words_are_not_found_is_searched_once_more(
    chat_node: ChatNode,
) -> None:
    answer = await chat_node.ask(ask("Which pastry gave its nickname to a tramway of the Alps?"))
    assert answer.requeried
    assert len(chat_node.shelf.asked) == 2
    chat_node.shelf.asked.clear()
    answer = await chat_node.ask(ask(RAILWAY))
    assert not answer.requeried
    assert len(chat_node.shelf.asked) == 1


async def test_who_is_in_a_hurry_is_not_made_to_wait_for_a_second_search(
    chat_node: ChatNode,
) -> None:
    chat_node.shelf.pause_s = 2.1
    answer = await chat_node.ask(ask("Which pastry gave its nickname to a tramway of the Alps?"))
    assert not answer.requeried
    assert len(chat_node.shelf.asked) == 1


async def test_callers_say_how_sure_an_answer_must_be(chat_node: ChatNode) -> None:
    question = "What is the boiling point of tungsten hexafluoride?"
    given = await chat_node.ask(ask(question, confidence_min=0.0))
    assert given.text
    refused = await chat_node.ask(ask(RAILWAY, confidence_min=1.0))
    assert refused.text == ""
    assert refused.abstention_reason == citation_pb2.ABSTENTION_REASON_LOW_SUPPORT
    assert 0 < refused.confidence < 1


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("unsupported", {"unsupported": 9}),
        ("confidence_min", {"confidence_min": 1.1}),
        ("confidence_min", {"confidence_min": float("nan")}),
        ("history", {"history": [pb.ChatTurn(question="What?")] * 101}),
        ("history[0].question", {"history": [pb.ChatTurn(answer="Yes.")]}),
        ("history[0].answer", {"history": [pb.ChatTurn(question="Q?", answer="x" * 100_001)]}),
        ("memory_subject", {"memory_subject": "x" * 257}),
        ("session", {"session": "bananas/1"}),
        ("history", {"session": "sessions/a", "history": [pb.ChatTurn(question="What?")]}),
    ],
)
async def test_what_was_said_before_has_bounds(
    chat_node: ChatNode, name: str, fields: dict[str, object]
) -> None:
    with pytest.raises(InvalidField) as failure:
        await chat_node.ask(ask(RAILWAY, **fields))
    assert failure.value.field == name


async def test_a_question_may_lean_on_a_session(chat_node: ChatNode) -> None:
    sessions = Sessions()
    chat_node.mesh.host("memory", sessions)
    answer = await chat_node.ask(ask("Which company opened it?", session="sessions/trains"))
    assert answer.standalone_question.endswith("the railway line from Zurich to Baden?")
    assert [request.name for request in sessions.asked] == ["sessions/trains"]
    with pytest.raises(SessionNotFound):
        await chat_node.ask(ask("Which company opened it?", session="sessions/absent"))


async def test_a_mesh_that_keeps_no_memories_says_so(chat_node: ChatNode) -> None:
    with pytest.raises(InvalidField, match="memories"):
        await chat_node.ask(ask(RAILWAY, memory_subject="ada"))


@dataclass
class Sessions:
    """A memory service with one session."""

    asked: list[memory.GetSessionContextRequest] = field(default_factory=list)

    async def GetSessionContext(
        self, request: memory.GetSessionContextRequest, call: Call
    ) -> memory.GetSessionContextResponse:
        self.asked.append(request)
        if request.name != "sessions/trains":
            raise SessionNotFound("No such session.", metadata={"session": request.name})
        said = [
            (SessionMessage.ROLE_SYSTEM, "Be brief."),
            (SessionMessage.ROLE_USER, RAILWAY),
            (SessionMessage.ROLE_ASSISTANT, "In August 1847."),
        ]
        response = memory.GetSessionContextResponse()
        for role, text in said:
            response.messages.add(message=SessionMessage(role=role, text=text))
        return response
