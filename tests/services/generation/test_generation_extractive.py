"""What the extractive model may be relied on for: it only quotes, and says when it cannot."""

from __future__ import annotations

import pytest
from ragmesh.api.embedding.v1.vector_pb2 import SentenceVector, TextSpan
from ragmesh.api.generation.v1 import citation_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from tests.services.generation.generation_mesh import (
    TEXTS,
    GenerationNode,
    call,
    passages,
    streamed,
    unary,
)

EXTRACTIVE = "generationModels/extractive"
QUESTION = "When did the railway reach the town, and what was it called?"


async def answered(node: GenerationNode, **fields: object) -> pb.GenerateTextResponse:
    request = unary(**{"model": EXTRACTIVE, "question": QUESTION, **fields})
    return await node.mesh.generation.GenerateText(request, call())


async def test_each_sentence_of_the_answer_is_cited_where_it_stands(
    generation_node: GenerationNode,
) -> None:
    answer = await answered(generation_node)
    assert "1847" in answer.text
    pieces = []
    for citation in answer.citations:
        start = 1000 if citation.document else 0
        index = citation.passage_index
        text = TEXTS[index][citation.span.start - start : citation.span.end - start]
        assert text == citation.quote
        pieces.append(answer.text[citation.answer_span.start : citation.answer_span.end])
        assert pieces[-1] == " ".join(text.split())
        assert 0 < citation.score <= 1
    assert " ".join(pieces) == answer.text
    assert answer.usage == citation_pb2.Usage()
    assert answer.generate_ms > 0
    assert not answer.cut


async def test_the_stream_says_the_same_sentence_by_sentence(
    generation_node: GenerationNode,
) -> None:
    request = streamed(model=EXTRACTIVE, question=QUESTION)
    events = [e async for e in generation_node.mesh.generation.StreamGenerateText(request, call())]
    kinds = [event.WhichOneof("event") for event in events]
    whole = await answered(generation_node)
    assert kinds == ["started", *["delta", "citation"] * len(whole.citations), "finished"]
    assert "".join(event.delta.text for event in events) == whole.text
    assert list(events[-1].finished.citations) == list(whole.citations)


async def test_without_passages_there_is_no_answer(generation_node: GenerationNode) -> None:
    answer = await answered(generation_node, passages=[])
    assert answer.abstention_reason == citation_pb2.ABSTENTION_REASON_NO_PASSAGE
    assert answer.text == ""


async def test_passages_that_say_nothing_of_it_give_no_answer(
    generation_node: GenerationNode,
) -> None:
    answer = await answered(generation_node, question="Who wrote the opera about the pharaoh?")
    assert answer.abstention_reason == citation_pb2.ABSTENTION_REASON_LOW_SUPPORT
    assert answer.text == ""
    assert not answer.citations


@pytest.mark.parametrize("words", [1, 2, 5, 9])
async def test_no_more_words_are_written_than_wanted_and_what_is_left_is_cited(
    generation_node: GenerationNode, words: int
) -> None:
    whole = await answered(generation_node)
    assert len(whole.text.split()) > words
    answer = await answered(generation_node, output_tokens_max=words)
    assert answer.cut
    assert answer.text.split() == whole.text.split()[:words]
    assert answer.citations
    assert all(
        0 <= c.answer_span.start < c.answer_span.end <= len(answer.text) for c in answer.citations
    )


async def test_sentences_of_another_model_are_embedded_anew(
    generation_node: GenerationNode,
) -> None:
    foreign = passages()
    for passage in foreign:
        passage.sentences.append(
            SentenceVector(span=TextSpan(start=0, end=10), int8_vector=b"\x07" * 16)
        )
    answer = await answered(generation_node, passages=foreign)
    assert list(answer.citations) == list((await answered(generation_node)).citations)


async def test_a_question_longer_than_the_model_reads_is_answered_from_its_beginning(
    generation_node: GenerationNode,
) -> None:
    answer = await answered(generation_node, question=(QUESTION + " ") * 150)
    assert "1847" in answer.text
