"""A document that is sent again is searchable as it was until its new version is there whole; long
texts are ingested in sections; what is equal is embedded once."""

from __future__ import annotations

from typing import Any

import pytest
from ragmesh.api.documents.v1 import document_pb2, ingest_job_pb2
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from tests.behaviour.given import Given, upload_pieces
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung
from tests.behaviour.test_documents_become_answers import passages_of, stored_text

SEA = "The tide rises twice a day. The moon pulls at the water."
HILL = "A hill is lower than a mountain. Sheep graze on its slopes."
WOOD = "Oaks live for hundreds of years. Beetles live in their bark."


def note(*parts: str) -> str:
    """A text of which each part becomes a passage."""
    return "\n\n".join(f"# Part {part.split()[1]}\n\n{part} " + "So it is. " * 15 for part in parts)


async def point_texts(rung: Rung, collection: str, watermark: str) -> dict[str, str]:
    request = retrieval.ListPointsRequest(collection=collection, page_size=1_000)
    headers = {"x-ragmesh-watermark": watermark}
    response: Any = await rung.call("ListPoints", request, headers=headers)
    return {point.id: point.text for point in response.points}


async def test_a_new_version_takes_over_and_unchanged_passages_keep_their_ids(
    rung: Rung, given: Given
) -> None:
    collection = await given.text_collection(chunking={"tokens_max": 120, "overlap_tokens": 0})
    first, watermark = await given.ingested(
        collection, note(SEA, HILL), "note.md", document_id="note"
    )
    before = await point_texts(rung, collection, watermark)
    assert first.passages == len(before) >= 2
    with pytest.raises(Refused) as refused:
        await given.document(collection, "x", "note.md", document_id="note")
    assert refused.value.reason == "DOCUMENT_EXISTS"
    second, watermark = await given.ingested(
        collection,
        note(WOOD, SEA, HILL),
        "renamed.md",
        document_id="note",
        replace_existing=True,
        payload={"edition": 2},
    )
    assert (second.name, second.display_name) == (first.name, "renamed.md")
    assert second.payload["edition"] == 2
    after = await point_texts(rung, collection, watermark)
    assert len(after) == second.passages > first.passages
    for point_id, text in before.items():
        if text in after.values():
            assert after[point_id] == text
    assert len(after.keys() & before.keys()) >= first.passages - 1
    listed = await passages_of(rung, second.name)
    assert [p.passage_index for p in listed] == list(range(second.passages))


async def test_a_version_that_cannot_be_read_leaves_what_was_there(
    rung: Rung, given: Given
) -> None:
    collection = await given.text_collection()
    first, watermark = await given.ingested(collection, SEA, "note.txt", document_id="note")
    broken = await given.document(
        collection,
        b"%PDF-1.7 and nothing else",
        "note.pdf",
        document_id="note",
        replace_existing=True,
    )
    job = await given.finished(broken.ingest_job.name)
    assert job.state == ingest_job_pb2.IngestJob.STATE_FAILED
    request = documents.GetDocumentRequest(name=first.name)
    kept = (await rung.call("GetDocument", request)).document
    assert kept.state == document_pb2.Document.STATE_ACTIVE
    assert (kept.display_name, kept.content_sha256) == ("note.txt", first.content_sha256)
    assert kept.ingest_job == broken.ingest_job.name
    assert list((await point_texts(rung, collection, watermark)).values()) == [SEA]


@pytest.mark.rpcs("UploadDocument")
async def test_an_upload_may_be_a_new_version(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    first, _ = await given.ingested(collection, SEA, "note.txt", document_id="note")
    header = documents.UploadHeader(parent=collection, document_id="note", replace_existing=True)
    pieces = [documents.UploadDocumentRequest(header=header), *upload_pieces(HILL.encode())]
    uploaded = await rung.upload("UploadDocument", pieces)
    assert uploaded.document.name == first.name
    job = await given.finished(uploaded.ingest_job.name)
    found = await point_texts(rung, collection, job.watermark)
    assert list(found.values()) == [HILL]


async def test_a_long_text_is_ingested_in_sections_and_every_passage_stands_in_it(
    rung: Rung, given: Given, database: str
) -> None:
    # Equal paragraphs, each a passage: one of them is embedded, and it stands for all.
    paragraph = " ".join(f"number {n} is followed by {n + 1}," for n in range(24)) + " and so on."
    count = 1_400_000 // len(paragraph)
    text = "\n\n".join([paragraph] * count + [SEA])
    collection = await given.text_collection(chunking={"overlap_tokens": 0})
    document, _ = await given.ingested(collection, text, "long.txt")
    stored = await stored_text(database, "default", document.name)
    assert stored == text
    assert document.text_characters == len(text)
    found: list[Any] = []
    request = documents.ListPassagesRequest(parent=document.name, page_size=1_000)
    while True:
        page = await rung.call("ListPassages", request)
        found += page.passages
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert [p.passage_index for p in found] == list(range(document.passages))
    assert all(stored[p.span.start : p.span.end] == p.text for p in found)
    assert found[-1].text.endswith(SEA)
    assert sum(len(p.text) for p in found) >= len("".join(text.split("\n\n")))
