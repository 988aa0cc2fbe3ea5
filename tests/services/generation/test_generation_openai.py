"""What callers may rely on when an OpenAI-compatible endpoint writes, whatever it does."""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import aclosing

import pytest
from ragmesh.api.generation.v1 import citation_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from engine.errors import DeadlineExceeded, GenerationModelNotFound, RagmeshError, UpstreamFailed
from services.errors import from_status, to_status
from tests.services.generation.generation_mesh import (
    KEY,
    TEXTS,
    WRITER,
    GenerationNode,
    call,
    streamed,
    unary,
)
from tests.services.generation.openai_endpoint import MODEL, Answer, Broken, Deaf, Refusal, Reply

NOW = Answer(["The railway reached the town ", "in 1847 ", "[2]."])
QUICKLY_AGAIN = {"retry-after-ms": "1"}


async def events_of(
    node: GenerationNode, request: pb.StreamGenerateTextRequest, seconds: float | None = 20.0
) -> list[pb.StreamGenerateTextResponse]:
    stream = node.mesh.generation.StreamGenerateText(request, call(seconds))
    events = [event async for event in stream]
    assert [event.event_id for event in events] == list(range(1, len(events) + 1))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "started"
    assert [kind for kind in kinds if kind in ("finished", "failed")] == kinds[-1:]
    return events


def shows_nothing_secret(error: RagmeshError) -> bool:
    shown = str(to_status(error, "r1"))
    return KEY not in shown and "internal secret" not in shown and "Traceback" not in shown


async def test_a_cited_piece_of_the_answer_points_to_the_quote_in_the_stored_text(
    generation_node: GenerationNode,
) -> None:
    generation_node.endpoint.will(NOW)
    answer = await generation_node.mesh.generation.GenerateText(unary(), call())
    assert answer.text == "".join(NOW.pieces)
    assert answer.usage == citation_pb2.Usage(input_tokens=7, output_tokens=5)
    assert not answer.abstention_reason
    assert 0 < answer.confidence <= 1
    (citation,) = answer.citations
    assert citation.document == "collections/towns/documents/d1"
    begin, end = citation.span.start - 1000, citation.span.end - 1000
    assert TEXTS[1][begin:end] == citation.quote
    assert "1847" in citation.quote
    piece = answer.text[citation.answer_span.start : citation.answer_span.end]
    assert "reached the town in 1847" in piece
    assert 0 < citation.score <= 1


async def test_spans_count_code_points_and_begin_at_zero_where_there_is_no_document(
    generation_node: GenerationNode,
) -> None:
    generation_node.endpoint.will(Answer(["Zürich lies on a lake [1]."]))
    answer = await generation_node.mesh.generation.GenerateText(unary(), call())
    (citation,) = answer.citations
    assert citation.document == ""
    assert TEXTS[0][citation.span.start : citation.span.end] == citation.quote
    assert citation.quote.startswith("Zürich")


async def test_the_endpoint_gets_the_key_the_wishes_and_the_passages_as_marked_data(
    generation_node: GenerationNode,
) -> None:
    nonces = []
    for _ in range(2):
        generation_node.endpoint.will(NOW)
        wishes = unary(output_tokens_max=99, temperature=0.5)
        await generation_node.mesh.generation.GenerateText(wishes, call())
        (asked,) = generation_node.endpoint.asked
        assert asked.path == "/v1/chat/completions"
        assert asked.headers["authorization"] == f"Bearer {KEY}"
        assert asked.headers["x-request-id"] == "r1"
        assert asked.body["model"] == MODEL
        assert asked.body["max_tokens"] == 99
        assert asked.body["temperature"] == 0.5
        data = asked.body["messages"][-1]["content"]
        blocks = re.findall(r"^passage (\d) (\w{16})\n(.*?)\nend \2$", data, re.S | re.M)
        assert [(number, text) for number, _, text in blocks] == [("1", TEXTS[0]), ("2", TEXTS[1])]
        nonces.append(blocks[0][1])
    assert nonces[0] != nonces[1]


async def test_a_stream_shows_the_text_in_pieces_and_ends_with_the_whole_answer(
    generation_node: GenerationNode,
) -> None:
    generation_node.endpoint.will(NOW)
    events = await events_of(generation_node, streamed())
    assert "".join(e.delta.text for e in events) == "".join(NOW.pieces)
    assert sum(e.HasField("delta") for e in events) > 1
    finished = events[-1].finished
    assert finished.text == "".join(NOW.pieces)
    assert list(finished.citations) == [e.citation for e in events if e.HasField("citation")]
    assert finished.usage.output_tokens == 5


async def test_the_first_piece_is_shown_before_the_last_one_is_written(
    generation_node: GenerationNode,
) -> None:
    generation_node.endpoint.will(Answer(["The railway ", *["came "] * 9, "[2]."], pause_s=0.3))
    begin_s = time.monotonic()
    stream = generation_node.mesh.generation.StreamGenerateText(streamed(), call())
    async with aclosing(stream):
        async for event in stream:
            if event.HasField("delta"):
                break
    assert time.monotonic() - begin_s < 2.0  # the last one is written after 3 s


@pytest.mark.parametrize("pieces", [["NO_ANSWER"], ["NO", "_ANS", "WER", "."], ["", " "]])
async def test_a_model_that_finds_no_answer_abstains_and_shows_no_text(
    generation_node: GenerationNode, pieces: list[str]
) -> None:
    generation_node.endpoint.will(Answer(pieces))
    events = await events_of(generation_node, streamed())
    assert not any(event.HasField("delta") for event in events)
    finished = events[-1].finished
    assert finished.text == ""
    assert finished.abstention_reason == citation_pb2.ABSTENTION_REASON_LOW_SUPPORT


@pytest.mark.parametrize("text", ["It came in 1847.", "It came in 1847 [9].", "Soon [0] [-1]."])
async def test_an_answer_that_cites_no_passage_is_no_answer(
    generation_node: GenerationNode, text: str
) -> None:
    generation_node.endpoint.will(Answer([text]))
    answer = await generation_node.mesh.generation.GenerateText(unary(), call())
    assert answer.abstention_reason == citation_pb2.ABSTENTION_REASON_UNVERIFIED
    assert answer.text == ""
    assert not answer.citations


async def test_a_text_that_only_begins_like_an_abstention_is_shown_whole(
    generation_node: GenerationNode,
) -> None:
    generation_node.endpoint.will(Answer(["NO", " railway came before 1847 [2]."]))
    events = await events_of(generation_node, streamed())
    assert "".join(e.delta.text for e in events) == "NO railway came before 1847 [2]."


async def test_an_answer_that_met_its_limit_says_so(generation_node: GenerationNode) -> None:
    generation_node.endpoint.will(Answer(NOW.pieces, finish="length"))
    answer = await generation_node.mesh.generation.GenerateText(unary(), call())
    assert answer.cut


async def test_a_passing_failure_is_tried_again(generation_node: GenerationNode) -> None:
    generation_node.endpoint.will(Refusal(500, headers=QUICKLY_AGAIN), NOW)
    answer = await generation_node.mesh.generation.GenerateText(unary(), call())
    assert answer.citations
    assert len(generation_node.endpoint.asked) == 2


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Refusal(500, headers=QUICKLY_AGAIN), "HTTP 500"),
        (Refusal(429, headers={"retry-after": "7"}), "HTTP 429"),
        (Refusal(401), "api_key"),
        (Refusal(404, body="<html>internal secret</html>"), "HTTP 404"),
        (Broken(raw=b"data: {not json\n\n"), "no JSON"),
        (Broken(raw=b"data: [1, 2]\n\n"), "no part of an answer"),
        (Broken(raw=b'data: {"choices": [7]}\n\n'), "no chat completion"),
        (Broken(raw=b'data: {"error": {"message": "internal secret"}}\n\n'), "error"),
        (Broken(["The railway "]), "connection"),
        (Broken(["The railway "], raw=b"data: [DONE]\n\n"), "middle"),
    ],
)
async def test_a_failing_endpoint_is_named_without_what_it_said(
    generation_node: GenerationNode, reply: Reply, says: str
) -> None:
    generation_node.endpoint.will(reply)
    with pytest.raises(UpstreamFailed) as caught:
        await generation_node.mesh.generation.GenerateText(unary(), call())
    assert WRITER in caught.value.message
    assert says in caught.value.message
    assert shows_nothing_secret(caught.value)
    assert caught.value.retry_after_s == {"HTTP 429": 7.0, "HTTP 500": 0.001}.get(says)
    assert len(generation_node.endpoint.asked) <= 3


async def test_an_endpoint_that_is_not_there_is_an_upstream_failure(
    generation_node: GenerationNode,
) -> None:
    with pytest.raises(UpstreamFailed, match="could not be reached"):
        await generation_node.mesh.generation.GenerateText(
            unary(model="generationModels/gone"), call()
        )


async def test_a_failure_before_the_first_event_is_the_status_of_the_call(
    generation_node: GenerationNode,
) -> None:
    generation_node.endpoint.will(Refusal(403))
    stream = generation_node.mesh.generation.StreamGenerateText(streamed(), call())
    with pytest.raises(UpstreamFailed):
        await anext(stream)


@pytest.mark.parametrize(
    "reply",
    [
        Broken(["The railway "]),
        Broken(["The railway "], raw=b"data: {not json\n\n"),
        Broken(["The railway "], raw=b'data: {"error": {"message": "internal secret"}}\n\n'),
    ],
)
async def test_a_failure_in_the_middle_is_the_last_event(
    generation_node: GenerationNode, reply: Reply
) -> None:
    generation_node.endpoint.will(reply)
    events = await events_of(generation_node, streamed())
    error = from_status(events[-1].failed)
    assert isinstance(error, UpstreamFailed)
    assert shows_nothing_secret(error)


async def test_a_deaf_endpoint_costs_no_more_than_the_deadline(
    generation_node: GenerationNode,
) -> None:
    generation_node.endpoint.will(Deaf())
    begin_s = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await generation_node.mesh.generation.GenerateText(unary(), call(0.3))
    assert time.monotonic() - begin_s < 5.0
    await asyncio.wait_for(generation_node.endpoint.gone.wait(), 10)


async def test_a_deaf_endpoint_costs_no_more_than_its_own_timeout(
    generation_node: GenerationNode,
) -> None:
    generation_node.endpoint.will(Deaf())
    begin_s = time.monotonic()
    with pytest.raises(UpstreamFailed, match=r"0\.3 s"):
        await generation_node.mesh.generation.GenerateText(
            unary(model="generationModels/hasty"), call()
        )
    assert time.monotonic() - begin_s < 5.0


async def test_a_stream_that_stalls_says_so_before_the_deadline(
    generation_node: GenerationNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.rpc.events.LAST_WORD_S", 0.2)
    generation_node.endpoint.will(Broken(["The railway "], hang=True))
    begin_s = time.monotonic()
    events = await events_of(generation_node, streamed(), 2.0)
    assert time.monotonic() - begin_s < 2.0
    assert isinstance(from_status(events[-1].failed), DeadlineExceeded)
    await asyncio.wait_for(generation_node.endpoint.gone.wait(), 10)


async def test_a_reader_who_leaves_closes_the_request_at_the_endpoint(
    generation_node: GenerationNode,
) -> None:
    generation_node.endpoint.will(Broken(["The railway "], hang=True))
    stream = generation_node.mesh.generation.StreamGenerateText(streamed(), call())
    async for event in stream:
        if event.HasField("delta"):
            break
    await stream.aclose()
    await asyncio.wait_for(generation_node.endpoint.gone.wait(), 10)


async def test_a_cancelled_caller_closes_the_request_at_the_endpoint(
    generation_node: GenerationNode,
) -> None:
    generation_node.endpoint.will(Broken(["The railway "], hang=True))
    task = asyncio.ensure_future(generation_node.mesh.generation.GenerateText(unary(), call(None)))
    await asyncio.wait_for(generation_node.endpoint.heard.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(generation_node.endpoint.gone.wait(), 10)


async def test_an_endless_answer_is_cut(
    generation_node: GenerationNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.generation.reading.ANSWER_CHARACTERS_MAX", 500)
    generation_node.endpoint.will(Broken(["It came in 1847 [2]. "] * 100, hang=True))
    answer = await generation_node.mesh.generation.GenerateText(unary(), call())
    assert answer.cut
    assert len(answer.text) <= 500
    await asyncio.wait_for(generation_node.endpoint.gone.wait(), 10)


async def test_a_model_that_is_not_configured_is_named_with_those_that_are(
    generation_node: GenerationNode,
) -> None:
    with pytest.raises(GenerationModelNotFound) as caught:
        await generation_node.mesh.generation.GenerateText(
            unary(model="generationModels/absent"), call()
        )
    for model in ("absent", "extractive", "gone", "hasty", "writer"):
        assert f"generationModels/{model}" in caught.value.message


async def test_nobody_reads_the_key_in_the_settings(generation_node: GenerationNode) -> None:
    generation_node.endpoint.will(NOW)
    get = generation_node.mesh.method("generation", "GetGenerationModel")
    model = await get(pb.GetGenerationModelRequest(name=WRITER), call())
    assert model.generation_model.upstream_model == MODEL
    assert model.generation_model.backend == pb.GenerationModel.BACKEND_OPENAI
    assert KEY not in json.dumps(str(model))
