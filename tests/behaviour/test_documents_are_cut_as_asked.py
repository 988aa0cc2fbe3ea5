"""A collection says how its documents are cut; however they are, passages quote the text exactly,
and small ones lead to the larger ones around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from ragmesh.api.chat.v1 import chat_service_pb2 as chat
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from tests.behaviour.given import Given, abstracts, point
from tests.behaviour.rungs import Rung

STRUCTURE = collection_pb2.CHUNKING_STRATEGY_STRUCTURE
SEMANTIC = collection_pb2.CHUNKING_STRATEGY_SEMANTIC
HIERARCHICAL = collection_pb2.CHUNKING_STRATEGY_HIERARCHICAL

TEXT = " ".join(abstract["text"].strip() for abstract in abstracts()[:6])
QUESTION = "Does a deficiency of folate increase blood levels of homocysteine?"


def _cut(strategy: collection_pb2.ChunkingStrategy.ValueType) -> collection_pb2.Chunking:
    return collection_pb2.Chunking(strategy=strategy, tokens_max=160)


async def _passages(rung: Rung, name: str) -> Sequence[Any]:
    request = documents.ListPassagesRequest(parent=name, page_size=1_000)
    found: Sequence[Any] = (await rung.call("ListPassages", request)).passages
    return found


def _quoted(span: Any) -> str:
    return TEXT[span.start : span.end]


@pytest.mark.parametrize("strategy", [STRUCTURE, SEMANTIC, HIERARCHICAL])
async def test_passages_quote_the_text_however_it_is_cut(
    rung: Rung, given: Given, strategy: collection_pb2.ChunkingStrategy.ValueType
) -> None:
    collection = await given.text_collection(chunking=_cut(strategy))
    got = await rung.call("GetCollection", retrieval.GetCollectionRequest(name=collection))
    assert got.collection.chunking.strategy == strategy
    document, _ = await given.ingested(collection, TEXT, "six-subjects.txt")
    passages = await _passages(rung, document.name)
    assert document.text_characters == len(TEXT) and len(passages) > 6
    for passage in passages:
        assert passage.text == _quoted(passage.span)
        assert passage.tokens <= 160
        assert passage.HasField("parent") == (strategy == HIERARCHICAL)
        if strategy == HIERARCHICAL:
            assert passage.parent.start <= passage.span.start
            assert passage.span.end <= passage.parent.end
    left = set(range(len(TEXT))) - {i for p in passages for i in range(p.span.start, p.span.end)}
    assert not "".join(TEXT[i] for i in left).strip()


async def test_small_passages_are_found_and_bring_the_larger_ones(rung: Rung, given: Given) -> None:
    collection = await given.text_collection(chunking=_cut(HIERARCHICAL))
    _, watermark = await given.ingested(collection, TEXT, "six-subjects.txt")
    await given.points(collection, [point("loose", text=abstracts()[2]["title"])])
    search = retrieval.SearchCollectionRequest(
        collection=collection,
        text=abstracts()[2]["title"],
        limit=20,
        include_parents=True,
        include_sentences=True,
        min_watermark=watermark,
    )
    hits = (await rung.call("SearchCollection", search)).hits
    small = [hit for hit in hits if hit.point.document]
    assert len(small) >= 10
    assert not any(hit.HasField("parent") for hit in hits if not hit.point.document)
    for hit in small:
        parent = hit.parent
        assert parent.text == _quoted(parent.span)
        assert len(parent.text) > len(hit.point.text)
        assert parent.span.start <= hit.point.span.start
        assert hit.point.span.end <= parent.span.end
        own = {_quoted(hit.point.span)[s.span.start : s.span.end] for s in hit.point.sentences}
        read = {parent.text[s.span.start : s.span.end] for s in parent.sentences}
        assert own and own < read
    batch = retrieval.BatchSearchCollectionRequest(
        collection=collection, searches=[search], min_watermark=watermark
    )
    batch.searches[0].ClearField("collection")
    batch.searches[0].ClearField("min_watermark")
    (alike,) = (await rung.call("BatchSearchCollection", batch)).responses
    assert [hit.parent for hit in alike.hits] == [hit.parent for hit in hits]
    for without in ("include_parents", "ids_only"):
        setattr(search, without, not getattr(search, without))
        bare = (await rung.call("SearchCollection", search)).hits
        assert bare and not any(hit.HasField("parent") for hit in bare)
        setattr(search, without, not getattr(search, without))


async def test_answers_are_written_from_the_larger_passages(rung: Rung, given: Given) -> None:
    folate = next(a for a in abstracts() if a["_id"] == "11705328")
    text = " ".join([TEXT, folate["text"].strip()])
    collection = await given.text_collection(chunking=_cut(HIERARCHICAL))
    _, watermark = await given.ingested(collection, text, "seven-subjects.txt")
    request = chat.AskQuestionRequest(question=QUESTION, collections=[collection])
    headers = {"x-ragmesh-watermark": watermark}
    answer = (await rung.call("AskQuestion", request, headers=headers)).answer
    assert answer.citations and answer.text
    assert any("homocyst" in citation.quote.lower() for citation in answer.citations)
    for citation in answer.citations:
        assert text[citation.span.start : citation.span.end] == citation.quote


async def test_another_way_to_cut_holds_for_documents_that_come_later(
    rung: Rung, given: Given
) -> None:
    collection = await given.text_collection(chunking=_cut(STRUCTURE))
    before, _ = await given.ingested(collection, TEXT, "before.txt")
    update = retrieval.UpdateCollectionRequest(
        collection=collection_pb2.Collection(name=collection, chunking=_cut(HIERARCHICAL)),
        update_mask=FieldMask(paths=["chunking"]),
    )
    changed = (await rung.call("UpdateCollection", update)).collection
    assert changed.chunking == collection_pb2.Chunking(
        strategy=HIERARCHICAL, tokens_max=160, overlap_tokens=32
    )
    after, _ = await given.ingested(collection, TEXT, "after.txt")
    assert after.passages > 2 * before.passages
    assert not any(p.HasField("parent") for p in await _passages(rung, before.name))
    assert all(p.HasField("parent") for p in await _passages(rung, after.name))
