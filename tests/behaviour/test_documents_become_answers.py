"""A file that was taken becomes passages that quote it exactly, hits that lead to it, and answers
that cite it; and it goes without a trace when it is deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from google.protobuf.message import Message
from ragmesh.api.chat.v1 import chat_service_pb2 as chat
from ragmesh.api.documents.v1 import document_pb2, ingest_job_pb2
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.generation.v1 import citation_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from tests.behaviour.given import CORPUS, Given, abstracts, new_id, upload_pieces
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

FILES = {
    "what-is-ragmesh.md": "text/markdown",
    "operations.html": "text/html",
    "retrieval-notes.pdf": "application/pdf",
}
JOB = ingest_job_pb2.IngestJob


async def rows(database: str, query: str, *params: Any) -> list[tuple[Any, ...]]:
    """What PostgreSQL has, whoever it belongs to."""
    async with await psycopg.AsyncConnection.connect(database) as connection:
        return await (await connection.execute(query.encode(), params)).fetchall()


async def passages_of(rung: Rung, name: str, tenant: str = "default") -> Sequence[Any]:
    request = documents.ListPassagesRequest(parent=name, page_size=1_000)
    found: Sequence[Any] = (await rung.call("ListPassages", request, tenant=tenant)).passages
    return found


async def stored_text(database: str, tenant: str, name: str) -> str:
    _, collection_id, _, document_id = name.split("/")
    ((text,),) = await rows(
        database,
        "SELECT string_agg(t.text, '' ORDER BY t.section_index) FROM text_sections t "
        "JOIN documents d USING (tenant, text_key) "
        "JOIN collections c ON c.tenant = d.tenant AND c.uid = d.collection_uid "
        "WHERE d.tenant = %s AND c.id = %s AND d.id = %s",
        tenant,
        collection_id,
        document_id,
    )
    return str(text)


@pytest.mark.parametrize("file", FILES)
async def test_passages_stand_exactly_in_the_text(
    rung: Rung, given: Given, database: str, file: str
) -> None:
    collection = await given.text_collection()
    data = (CORPUS / "files" / file).read_bytes()
    document, watermark = await given.ingested(collection, data, file)
    assert document.state == document_pb2.Document.STATE_ACTIVE
    assert document.media_type == FILES[file]
    assert document.size_bytes == len(data)
    text = await stored_text(database, "default", document.name)
    assert document.text_characters == len(text)
    passages = await passages_of(rung, document.name)
    assert document.passages == len(passages) > 1
    for index, passage in enumerate(passages):
        assert passage.passage_index == index
        assert text[passage.span.start : passage.span.end] == passage.text
        assert 0 < passage.tokens <= 200
        for span in passage.sentences:
            assert passage.text[span.start : span.end].strip()
        assert (passage.page > 0) == (file.endswith(".pdf"))
        assert [place.page for place in passage.places][:1] == [passage.page][: passage.page]
        for place in passage.places:
            assert 0 < place.left < place.right < 1_000 and 0 < place.bottom < place.top < 1_000
    covered = {i for p in passages for i in range(p.span.start, p.span.end)}
    left = "".join(c for i, c in enumerate(text) if i not in covered)
    assert not left.strip(), "every word of the text is in some passage"
    count = retrieval.CountPointsRequest(collection=collection, min_watermark=watermark)
    assert (await rung.call("CountPoints", count)).count == len(passages)


@pytest.mark.rpcs("UploadDocument")
async def test_an_upload_in_pieces_is_the_same_document(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    data = (CORPUS / "files" / "operations.html").read_bytes()
    header = documents.UploadHeader(
        parent=collection, document=document_pb2.Document(display_name="operations.html")
    )
    pieces: list[Message] = [documents.UploadDocumentRequest(header=header)]
    pieces += upload_pieces(data, size=700)
    uploaded = await rung.upload("UploadDocument", pieces)
    await given.finished(uploaded.ingest_job.name)
    created, _ = await given.ingested(collection, data, "operations.html")
    assert created.content_sha256 == uploaded.document.content_sha256
    both = [await passages_of(rung, n) for n in (created.name, uploaded.document.name)]
    assert [p.text for p in both[0]] == [p.text for p in both[1]]


async def test_questions_are_answered_with_citations_that_hold(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    for file in FILES:
        await given.ingested(collection, (CORPUS / "files" / file).read_bytes(), file)
    folate = next(a for a in abstracts() if a["_id"] == "11705328")
    text = f"{folate['title']}\n\n{folate['text']}"
    _, watermark = await given.ingested(collection, text, "11705328.txt")
    headers = {"x-ragmesh-watermark": watermark}
    for question, wanted in (
        ("Does a deficiency of folate increase blood levels of homocysteine?", "11705328.txt"),
        ("Why does a rolling restart drop no request?", "operations.html"),
        ("How is a citation verified?", "what-is-ragmesh.md"),
    ):
        request = chat.AskQuestionRequest(question=question, collections=[collection])
        answer = (await rung.call("AskQuestion", request, headers=headers)).answer
        assert answer.text, question
        assert answer.citations
        assert 0 < answer.confidence <= 1
        for citation in answer.citations:
            passage = (await passages_of(rung, citation.document))[citation.passage_index]
            start = citation.span.start - passage.span.start
            assert passage.text[start : start + len(citation.quote)] == citation.quote
            assert citation.span.end - citation.span.start == len(citation.quote)
            part = answer.text[citation.answer_span.start : citation.answer_span.end]
            assert citation.quote in part or part in citation.quote
        best = documents.GetDocumentRequest(name=answer.citations[0].document)
        assert (await rung.call("GetDocument", best)).document.display_name == wanted


async def test_what_nothing_supports_is_not_answered(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    data = (CORPUS / "files" / "operations.html").read_bytes()
    _, watermark = await given.ingested(collection, data, "operations.html")
    request = chat.AskQuestionRequest(
        question="Who won the football world cup in 1998?", collections=[collection]
    )
    headers = {"x-ragmesh-watermark": watermark}
    answer = (await rung.call("AskQuestion", request, headers=headers)).answer
    assert answer.text == ""
    assert not answer.citations
    assert answer.abstention_reason == citation_pb2.ABSTENTION_REASON_LOW_SUPPORT


async def test_a_document_that_cannot_be_read_says_why(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    broken = b"%PDF-1.7\n" + b"this is no object of any kind\n" * 20 + b"%%EOF"
    stored = await given.document(collection, broken, "broken.pdf")
    job = await given.finished(stored.ingest_job.name)
    assert job.state == JOB.STATE_FAILED
    assert job.error.message
    assert Refused(job.error).reason == "DOCUMENT_UNREADABLE"
    got = await rung.call("GetDocument", documents.GetDocumentRequest(name=stored.document.name))
    assert got.document.state == document_pb2.Document.STATE_FAILED
    assert not await passages_of(rung, stored.document.name)
    await rung.call("DeleteDocument", documents.DeleteDocumentRequest(name=stored.document.name))


async def test_the_same_content_is_kept_once(rung: Rung, given: Given, database: str) -> None:
    tenant = new_id("t")
    first = await given.text_collection(tenant=tenant)
    second = await given.text_collection(tenant=tenant)
    data = (CORPUS / "files" / "what-is-ragmesh.md").read_bytes()
    made = [
        (await given.ingested(where, data, name, tenant=tenant))[0]
        for where, name in ((first, "a.md"), (first, "b.md"), (second, "c.md"))
    ]
    shared = ("contents", "texts", "passage_sets")

    async def kept() -> list[int]:
        return [
            (await rows(database, f"SELECT count(*) FROM {table} WHERE tenant = %s", tenant))[0][0]
            for table in shared
        ]

    assert await kept() == [1, 1, 1]
    assert len({d.name for d in made}) == 3, "documents stay two documents"
    counted = await rows(database, "SELECT count(*) FROM passages WHERE tenant = %s", tenant)
    assert counted[0][0] == made[0].passages
    own = await rows(
        database, "SELECT count(*) FROM points WHERE tenant = %s AND vector IS NOT NULL", tenant
    )
    assert own[0][0] == 0, "passages' vectors are kept once, with the passages"
    for document in made[:2]:
        await rung.call(
            "DeleteDocument", documents.DeleteDocumentRequest(name=document.name), tenant=tenant
        )
        assert await kept() == [1, 1, 1]
    assert len(await passages_of(rung, made[2].name, tenant)) == made[2].passages
    await rung.call(
        "DeleteDocument", documents.DeleteDocumentRequest(name=made[2].name), tenant=tenant
    )
    assert await kept() == [0, 0, 0]


async def test_a_deleted_document_is_found_no_more(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    kept, _ = await given.ingested(collection, "The cellar smells of apples.", "cellar.txt")
    gone, _ = await given.ingested(collection, "The attic smells of dust.", "attic.txt")
    response = await rung.call("DeleteDocument", documents.DeleteDocumentRequest(name=gone.name))
    search = retrieval.SearchCollectionRequest(
        collection=collection, text="attic dust", min_watermark=response.watermark
    )
    hits = (await rung.call("SearchCollection", search)).hits
    assert [h.point.document for h in hits] == [kept.name]
    with pytest.raises(Refused) as refused:
        await rung.call("GetDocument", documents.GetDocumentRequest(name=gone.name))
    assert refused.value.reason == "DOCUMENT_NOT_FOUND"


async def test_passages_carry_their_documents_payload(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    payload = {"shelf": "A\0b", "tags": ["x", "ü", "日本"], "deep": {"n": 1.5, "yes": True}}
    stored = await given.document(collection, "Pears are green.", "pears.txt", payload=payload)
    job = await given.finished(stored.ingest_job.name)
    search = retrieval.SearchCollectionRequest(
        collection=collection, text="pears", min_watermark=job.watermark
    )
    search.filter.equals.field = "deep.n"
    search.filter.equals.value.number_value = 1.5
    (hit,) = (await rung.call("SearchCollection", search)).hits
    assert hit.point.payload == stored.document.payload
    assert hit.point.payload["shelf"] == "A\0b"
