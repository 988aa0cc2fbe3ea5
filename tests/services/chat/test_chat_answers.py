"""What an answer may be relied on for: its quotes stand where it says, and it fits its budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.generation.v1 import citation_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as generation

from engine.errors import CollectionNotFound, GenerationModelNotFound
from tests.services.chat.chat_mesh import (
    OFFSET,
    PLANTS,
    TOWNS,
    ChatNode,
    Teller,
    ask,
    call,
    honest,
    streamed,
)

RAILWAY = "When was the railway line from Zurich to Baden opened?"
LIGHT = "Which molecule takes up the light in photosynthesis?"
Put = Callable[..., Teller]


def texts_of(answer_citations: list[citation_pb2.Citation]) -> list[str]:
    """The characters at each citation's span in the stored texts."""
    stored = {f"collections/towns/documents/d{i}": text for i, text in enumerate(TOWNS)}
    points = {f"plants-{i}": text for i, text in enumerate(PLANTS)}
    found = []
    for citation in answer_citations:
        if citation.document:
            at = citation.span.start - OFFSET, citation.span.end - OFFSET
            found.append(stored[citation.document][slice(*at)])
        else:
            found.append(points[citation.point_id][citation.span.start : citation.span.end])
    return found


@pytest.mark.parametrize(
    ("question", "collection", "holds"),
    [(RAILWAY, "towns", "1847"), (LIGHT, "plants", "chlorophyll")],
)
async def test_each_quote_stands_at_its_span_in_the_stored_text(
    chat_node: ChatNode, question: str, collection: str, holds: str
) -> None:
    answer = await chat_node.ask(ask(question, f"collections/{collection}"))
    assert holds in answer.text
    assert answer.citations
    assert texts_of(list(answer.citations)) == [c.quote for c in answer.citations]
    for citation in answer.citations:
        piece = answer.text[citation.answer_span.start : citation.answer_span.end]
        assert piece.split() == citation.quote.split()
    assert 0 < answer.confidence <= 1
    assert answer.generation_model == "generationModels/extractive"
    assert answer.question == question
    assert answer.context_passages > 0


async def test_the_stages_times_are_told_and_fit_into_the_whole(chat_node: ChatNode) -> None:
    timings = (await chat_node.ask(ask(RAILWAY))).timings
    stages = (timings.search_ms, timings.context_ms, timings.generate_ms, timings.check_ms)
    assert all(stage > 0 for stage in stages)
    assert sum(stages) <= timings.total_ms * 1.001


async def test_a_stream_ends_with_the_answer_that_asking_gives(chat_node: ChatNode) -> None:
    events = await chat_node.events(streamed(RAILWAY))
    finished = events[-1].finished
    asked = await chat_node.ask(ask(RAILWAY))
    assert finished.text == asked.text == "".join(event.delta.text for event in events)
    assert list(finished.citations) == list(asked.citations)
    assert [e.citation for e in events if e.HasField("citation")] == list(asked.citations)
    assert events[0].started.context_passages == asked.context_passages


@pytest.mark.parametrize("question", ["What is the boiling point of tungsten hexafluoride?"])
async def test_a_question_that_nothing_answers_gets_no_text(
    chat_node: ChatNode, question: str
) -> None:
    answer = await chat_node.ask(ask(question))
    assert answer.abstention_reason == citation_pb2.ABSTENTION_REASON_LOW_SUPPORT
    assert answer.text == ""
    assert not answer.citations


async def test_an_empty_collection_has_no_passage_to_answer_from(chat_node: ChatNode) -> None:
    answer = await chat_node.ask(ask(RAILWAY, "collections/empty"))
    assert answer.abstention_reason == citation_pb2.ABSTENTION_REASON_NO_PASSAGE
    events = await chat_node.events(streamed(RAILWAY, "collections/empty"))
    assert events[-1].finished.abstention_reason == citation_pb2.ABSTENTION_REASON_NO_PASSAGE


@pytest.mark.parametrize("collection", ["towns", "empty"])
async def test_a_model_that_is_not_there_is_an_error_whatever_was_found(
    chat_node: ChatNode, collection: str
) -> None:
    fields = {"generation_model": "generationModels/none"}
    with pytest.raises(GenerationModelNotFound):
        await chat_node.ask(ask(RAILWAY, f"collections/{collection}", **fields))
    with pytest.raises(GenerationModelNotFound):
        await anext(chat_node.stream(streamed(RAILWAY, f"collections/{collection}", **fields)))


async def test_collections_are_searched_at_once_and_the_best_of_each_counts(
    chat_node: ChatNode,
) -> None:
    chat_node.shelf.together = asyncio.Barrier(2)
    both = ["collections/plants", "collections/towns"]
    for question, holds in ((RAILWAY, "1847"), (LIGHT, "chlorophyll")):
        async with asyncio.timeout(20):
            answer = await chat_node.ask(ask(question, *both, *both))
        assert holds in answer.text
        assert answer.context_passages == len(TOWNS) + len(PLANTS)
    asked = [(r.collection, r.text) for r in chat_node.shelf.asked if r.text in (RAILWAY, LIGHT)]
    assert sorted(asked) == sorted((name, text) for name in both for text in (RAILWAY, LIGHT))


async def test_scores_by_words_do_not_drown_those_of_a_fusion(
    chat_node: ChatNode, teller: Put
) -> None:
    told = teller(lambda request: generation.GenerateTextResponse())
    await chat_node.ask(ask(RAILWAY, "collections/plants", "collections/towns"))
    (request,) = told.got
    assert request.passages[0].point_id == "towns-0"
    scores = [passage.score for passage in request.passages]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] <= 1


async def test_the_search_gets_the_filter_the_bound_and_asks_for_sentences(
    chat_node: ChatNode,
) -> None:
    request = ask(RAILWAY, passages_max=2)
    request.filter.exists.field = "year"
    await chat_node.ask(request)
    (search,) = chat_node.shelf.asked
    assert search.filter == request.filter
    assert search.limit == 2
    assert search.include_sentences
    assert search.text == RAILWAY


async def test_one_failing_search_stops_the_others_and_keeps_its_reason(
    chat_node: ChatNode,
) -> None:
    chat_node.shelf.pause_s = 30
    begin_s = time.monotonic()
    with pytest.raises(CollectionNotFound) as caught:
        await chat_node.ask(ask(RAILWAY, "collections/towns", "collections/absent"))
    assert time.monotonic() - begin_s < 15
    assert caught.value.metadata["collection"] == "absent"
    assert chat_node.shelf.cancelled == 1


@pytest.mark.parametrize("budget", [50, 60, 75, 100, 120, 2_000])
async def test_the_model_never_gets_more_tokens_than_the_budget(
    chat_node: ChatNode, teller: Put, budget: int
) -> None:
    told = teller(lambda request: generation.GenerateTextResponse())
    await chat_node.ask(ask(RAILWAY, context_tokens_max=budget))
    (request,) = told.got
    assert request.passages
    counted = await chat_node.mesh.embedding.CountTokens(
        embedding.CountTokensRequest(
            model="embeddingModels/default", texts=[p.text for p in request.passages]
        ),
        call(),
    )
    assert sum(counted.tokens) <= budget
    if budget == 2_000:
        assert len(request.passages) == len(TOWNS)


async def test_a_passage_over_the_budget_is_cut_after_a_sentence_and_still_cited_exactly(
    chat_node: ChatNode, monkeypatch: pytest.MonkeyPatch, teller: Put
) -> None:
    only = chat_node.shelf.collections["towns"][:1]
    monkeypatch.setitem(chat_node.shelf.collections, "towns", only)
    answer = await chat_node.ask(ask(RAILWAY, context_tokens_max=50))
    assert texts_of(list(answer.citations)) == [c.quote for c in answer.citations] != []
    told = teller(lambda request: generation.GenerateTextResponse())
    await chat_node.ask(ask(RAILWAY, context_tokens_max=50))
    (passage,) = told.got[0].passages
    assert TOWNS[0].startswith(passage.text)
    assert passage.text.endswith(".")
    assert passage.span.end - passage.span.start == len(passage.text) < len(TOWNS[0])
    assert all(sentence.span.end <= len(passage.text) for sentence in passage.sentences)


def lies(passage: citation_pb2.SourcePassage) -> list[citation_pb2.Citation]:
    """Citations of one passage that are each wrong in one way."""
    true = honest(passage, "August 1847")
    wrong = []
    for change in (
        lambda c: setattr(c, "quote", "August 1848"),
        lambda c: setattr(c.span, "start", c.span.start + 1),
        lambda c: setattr(c.span, "start", c.span.start - OFFSET),
        lambda c: setattr(c.span, "end", c.span.end + OFFSET),
        lambda c: c.MergeFrom(citation_pb2.Citation(quote="August  1847")),
        lambda c: setattr(c, "point_id", "towns-99"),
        lambda c: setattr(c, "collection", "collections/plants"),
        lambda c: setattr(c, "document", "collections/towns/documents/other"),
        lambda c: setattr(c, "passage_index", 7),
    ):
        lie = citation_pb2.Citation()
        lie.CopyFrom(true)
        change(lie)
        wrong.append(lie)
    return wrong


async def test_citations_that_do_not_hold_are_left_out_and_lower_the_confidence(
    chat_node: ChatNode, teller: Put
) -> None:
    def tell(request: generation.GenerateTextRequest) -> generation.GenerateTextResponse:
        true, wrong = honest(request.passages[0], "August 1847"), lies(request.passages[0])
        return generation.GenerateTextResponse(
            text="1847", citations=[*wrong, true], confidence=0.8
        )

    teller(tell)
    answer = await chat_node.ask(ask(RAILWAY))
    assert [citation.quote for citation in answer.citations] == ["August 1847"]
    assert texts_of(list(answer.citations)) == ["August 1847"]
    assert answer.confidence == pytest.approx(0.08)
    events = await chat_node.events(streamed(RAILWAY))
    assert [e.citation for e in events if e.HasField("citation")] == list(answer.citations)
    assert list(events[-1].finished.citations) == list(answer.citations)


@pytest.mark.parametrize("cited", [True, False])
async def test_an_answer_of_which_nothing_holds_is_no_answer(
    chat_node: ChatNode, teller: Put, cited: bool
) -> None:
    teller(
        lambda request: generation.GenerateTextResponse(
            text="1848", citations=lies(request.passages[0]) if cited else [], confidence=0.9
        )
    )
    events = await chat_node.events(streamed(RAILWAY))
    for answer in (await chat_node.ask(ask(RAILWAY)), events[-1].finished):
        assert answer.abstention_reason == citation_pb2.ABSTENTION_REASON_UNVERIFIED
        assert answer.text == ""
        assert not answer.citations
        assert answer.confidence == 0


async def test_passages_without_sentence_vectors_are_answered_from_as_well(
    chat_node: ChatNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_vectors = await chat_node.ask(ask(RAILWAY))
    bare = []
    for point in chat_node.shelf.collections["towns"]:
        bare.append(type(point)())
        bare[-1].CopyFrom(point)
        bare[-1].ClearField("sentences")
    monkeypatch.setitem(chat_node.shelf.collections, "towns", bare)
    without = await chat_node.ask(ask(RAILWAY))
    assert without.text == with_vectors.text
    assert list(without.citations) == list(with_vectors.citations)


async def test_many_questions_at_once_each_get_their_own_answer(chat_node: ChatNode) -> None:
    asked = [(RAILWAY, "towns", "1847"), (LIGHT, "plants", "chlorophyll")] * 6
    answers = await asyncio.gather(
        *(chat_node.ask(ask(question, f"collections/{name}")) for question, name, _ in asked)
    )
    for (question, _, holds), answer in zip(asked, answers, strict=True):
        assert answer.question == question
        assert holds in answer.text
