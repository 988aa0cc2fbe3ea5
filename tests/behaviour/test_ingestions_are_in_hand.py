"""An ingestion can be ended, tried again and done anew: at any moment, wherever its worker is, and
what is searchable is always one whole version of the document or none."""

from __future__ import annotations

import asyncio
import time

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from ragmesh.api.documents.v1 import document_pb2, ingest_job_pb2
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from tests.behaviour.given import Given, new_id
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

JOB = ingest_job_pb2.IngestJob
DOCUMENT = document_pb2.Document
CANCEL_S = 2.0
"""What the contract says."""
WORK_S = 3.0
"""A short document's own time, on a machine that is busy with other things."""


def slow_to_parse() -> tuple[bytes, str]:
    """A file that takes a parser longer than the test waits."""
    row = "<h2>{0}</h2><p>Some <b>words</b> of {0}.</p><ul><li>one<li>two</ul>"
    body = "".join(row.format(new_id()) for _ in range(60_000))
    return f"<!doctype html><html><body>{body}</body></html>".encode(), "slow.html"


def slow_to_embed() -> tuple[bytes, str]:
    """A file whose passages take the model longer than the test waits."""
    lines = (f"The keeper of house {new_id()} counted {i} ships that night." for i in range(6_000))
    return "\n\n".join(lines).encode(), "slow.txt"


async def job_of(rung: Rung, name: str) -> ingest_job_pb2.IngestJob:
    response = await rung.call("GetIngestJob", documents.GetIngestJobRequest(name=name))
    assert isinstance(response, documents.GetIngestJobResponse)
    return response.ingest_job


async def document_of(rung: Rung, name: str) -> document_pb2.Document:
    response = await rung.call("GetDocument", documents.GetDocumentRequest(name=name))
    assert isinstance(response, documents.GetDocumentResponse)
    return response.document


async def points_of(rung: Rung, collection: str, watermark: str = "") -> int:
    count = retrieval.CountPointsRequest(collection=collection, min_watermark=watermark)
    return int((await rung.call("CountPoints", count)).count)


async def cancel(rung: Rung, name: str) -> ingest_job_pb2.IngestJob:
    response = await rung.call("CancelIngestJob", documents.CancelIngestJobRequest(name=name))
    assert isinstance(response, documents.CancelIngestJobResponse)
    return response.ingest_job


async def retry(rung: Rung, name: str) -> ingest_job_pb2.IngestJob:
    response = await rung.call("RetryIngestJob", documents.RetryIngestJobRequest(name=name))
    assert isinstance(response, documents.RetryIngestJobResponse)
    return response.ingest_job


async def in_stage(rung: Rung, name: str, stage: JOB.Stage.ValueType) -> None:
    """Waits until a job is in a stage."""
    give_up_s = time.monotonic() + 30
    while True:
        job = await job_of(rung, name)
        if job.state == JOB.STATE_RUNNING and job.stage == stage:
            return
        assert job.stage <= stage and time.monotonic() < give_up_s, job
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("stage", ["parse", "embed"])
async def test_a_cancelled_job_ends_within_two_seconds(
    rung: Rung, given: Given, stage: str
) -> None:
    collection = await given.text_collection()
    stored = []
    for _ in range(2):  # as many as a node works on at once
        data, name = slow_to_parse() if stage == "parse" else slow_to_embed()
        stored.append(await given.document(collection, data, name))
    for one in stored:
        await in_stage(rung, one.ingest_job.name, JOB.Stage.Value(f"STAGE_{stage.upper()}"))
    begun_s = time.monotonic()
    for one in stored:
        assert (await cancel(rung, one.ingest_job.name)).state == JOB.STATE_CANCELLED
    next_one = await given.document(collection, f"A short note of {new_id()}.", "note.txt")
    noted = await given.finished(next_one.ingest_job.name)
    assert noted.state == JOB.STATE_SUCCEEDED
    assert time.monotonic() - begun_s < CANCEL_S + WORK_S, "its workers are free again"
    for one in stored:
        job = await job_of(rung, one.ingest_job.name)
        assert job.state == JOB.STATE_CANCELLED and job.HasField("finish_time")
        assert not job.HasField("error")
        assert (await cancel(rung, job.name)) == job, "once more changes nothing"
        assert (await document_of(rung, one.document.name)).state == DOCUMENT.STATE_FAILED
        passages = documents.ListPassagesRequest(parent=one.document.name)
        assert not (await rung.call("ListPassages", passages)).passages
    assert await points_of(rung, collection, noted.watermark) == 1


async def test_what_was_cancelled_can_be_tried_again(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    name = await given.cancelled(collection)
    again = await retry(rung, name)
    assert again.state in (JOB.STATE_QUEUED, JOB.STATE_RUNNING, JOB.STATE_SUCCEEDED)
    assert not again.HasField("finish_time")
    assert (await document_of(rung, again.document)).state == DOCUMENT.STATE_INGESTING
    done = await given.finished(name)
    assert (done.state, done.attempts) == (JOB.STATE_SUCCEEDED, 1)
    assert (await document_of(rung, again.document)).state == DOCUMENT.STATE_ACTIVE
    for refused_call in (retry, cancel):
        with pytest.raises(Refused) as refused:
            await refused_call(rung, name)
        assert refused.value.reason == "INGEST_JOB_FINISHED"


async def test_a_job_that_failed_is_tried_again_and_says_why_again(
    rung: Rung, given: Given
) -> None:
    collection = await given.text_collection()
    broken = b"%PDF-1.7\n" + b"this is no object of any kind\n" * 20 + b"%%EOF"
    stored = await given.document(collection, broken, "broken.pdf")
    failed = await given.finished(stored.ingest_job.name)
    with pytest.raises(Refused) as refused:
        await cancel(rung, failed.name)
    assert refused.value.reason == "INGEST_JOB_FINISHED"
    again = await retry(rung, failed.name)
    assert not again.HasField("error")
    once_more = await given.finished(failed.name)
    assert (once_more.state, once_more.attempts) == (JOB.STATE_FAILED, 1)
    assert Refused(once_more.error).reason == Refused(failed.error).reason
    listed = documents.ListDocumentsRequest(parent=collection, state=DOCUMENT.STATE_FAILED)
    found = (await rung.call("ListDocuments", listed)).documents
    assert [one.name for one in found] == [stored.document.name]
    listed.state = DOCUMENT.STATE_ACTIVE
    assert not (await rung.call("ListDocuments", listed)).documents


async def test_a_document_is_ingested_anew_under_the_present_settings(
    rung: Rung, given: Given
) -> None:
    collection = await given.text_collection()
    text = "\n\n".join(f"The {i}th harbor has {i * 3} boats and a keeper." for i in range(60))
    document, watermark = await given.ingested(collection, text, "harbors.txt")
    before = await points_of(rung, collection, watermark)
    for tokens_max in (60, 200):
        change = retrieval.UpdateCollectionRequest(
            collection=collection_pb2.Collection(
                name=collection, chunking=collection_pb2.Chunking(tokens_max=tokens_max)
            ),
            update_mask=FieldMask(paths=["chunking"]),
        )
        await rung.call("UpdateCollection", change)
        request = documents.ReindexDocumentRequest(name=document.name)
        queued = await rung.call("ReindexDocument", request)
        assert queued.document.state == DOCUMENT.STATE_ACTIVE, "the old passages stay"
        assert queued.document.ingest_job == queued.ingest_job.name != document.ingest_job
        job = await given.finished(queued.ingest_job.name)
        assert job.state == JOB.STATE_SUCCEEDED, job.error
        document = await document_of(rung, document.name)
        now = await points_of(rung, collection, job.watermark)
        assert now == document.passages
        assert (now > before) == (tokens_max == 60), (now, before)
        passages = documents.ListPassagesRequest(parent=document.name, page_size=1_000)
        found = (await rung.call("ListPassages", passages)).passages
        assert [p.passage_index for p in found] == list(range(now))
        passages.from_index = now - 2
        assert list((await rung.call("ListPassages", passages)).passages) == list(found[-2:])
        before = now


async def test_what_is_searchable_stays_so_while_it_is_ingested_anew(
    rung: Rung, given: Given
) -> None:
    collection = await given.text_collection()
    data, name = slow_to_embed()
    document, watermark = await given.ingested(collection, data[:40_000], name)
    before = await points_of(rung, collection, watermark)
    again = documents.CreateDocumentRequest(
        parent=collection,
        document_id=document.name.rpartition("/")[2],
        document=document_pb2.Document(display_name=name),
        data=data[:40_000],
    )
    with pytest.raises(Refused) as refused:
        await rung.call("CreateDocument", again)
    assert refused.value.reason == "DOCUMENT_EXISTS"
    queued = await rung.call(
        "ReindexDocument", documents.ReindexDocumentRequest(name=document.name)
    )
    try:
        await cancel(rung, queued.ingest_job.name)
    except Refused as refused_call:
        if refused_call.reason != "INGEST_JOB_FINISHED":  # it may be faster than we
            raise
    assert (await document_of(rung, document.name)).state == DOCUMENT.STATE_ACTIVE
    assert await points_of(rung, collection, watermark) == before


async def test_a_document_is_replaced_where_that_is_asked_for(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    request = documents.CreateDocumentRequest(
        parent=collection, document_id="same", text="Plums are blue.", replace_existing=True
    )
    for text, other in (("Plums are blue.", "green"), ("Plums are green.", "blue")):
        request.text = text
        stored = await rung.call("CreateDocument", request)
        job = await given.finished(stored.ingest_job.name)
        assert job.state == JOB.STATE_SUCCEEDED
        search = retrieval.SearchCollectionRequest(
            collection=collection, text="plums", min_watermark=job.watermark
        )
        hits = (await rung.call("SearchCollection", search)).hits
        assert [hit.point.text for hit in hits] == [text], other
