"""Every list can be read page by page: nothing twice, nothing left out, in the promised order."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.documents.v1 import ingest_job_pb2
from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given, between, equals, new_id, point, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

PAGES_MAX = 50


async def all_pages(
    rung: Rung, rpc: str, request: Message, field: str, size: int, tenant: str = "default"
) -> list[Any]:
    """Everything, page by page; each but the last is full."""
    items: list[Any] = []
    asked = type(request)()
    asked.CopyFrom(request)
    asked.page_size = size  # type: ignore[attr-defined]
    for _ in range(PAGES_MAX):
        response = await rung.call(rpc, asked, tenant=tenant)
        page = list(getattr(response, field))
        items += page
        if not response.next_page_token:
            assert 0 < len(page) <= size
            return items
        assert len(page) == size
        asked.page_token = response.next_page_token  # type: ignore[attr-defined]
    raise AssertionError("the list does not end")


async def test_collections(rung: Rung) -> None:
    tenant = new_id("t")
    ids = sorted(new_id() for _ in range(7))
    for collection_id in reversed(ids):
        request = pb.CreateCollectionRequest(
            collection=collection_pb2.Collection(dimensions=8), collection_id=collection_id
        )
        await rung.call("CreateCollection", request, tenant=tenant)
    for size in (1, 3, 7, 100):
        listed = await all_pages(
            rung, "ListCollections", pb.ListCollectionsRequest(), "collections", size, tenant
        )
        assert [c.name for c in listed] == [f"collections/{i}" for i in ids]


async def test_points_with_and_without_a_filter(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    ids = [f"{i:02}" for i in range(25)]
    rows = [point(i, v, number=int(i)) for i, v in zip(ids, vectors(25), strict=True)]
    watermark = await given.points(collection, list(reversed(rows)))
    request = pb.ListPointsRequest(collection=collection, min_watermark=watermark)
    for size in (4, 25, 1_000):
        listed = await all_pages(rung, "ListPoints", request, "points", size)
        assert [p.id for p in listed] == ids
    request.filter.CopyFrom(between("number", gte=5, lt=18))
    listed = await all_pages(rung, "ListPoints", request, "points", 4)
    assert [p.id for p in listed] == ids[5:18]


async def test_a_list_goes_on_while_others_write(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    rows = vectors(12)
    watermark = await given.points(collection, [point(f"{i:02}", rows[i]) for i in range(10)])
    request = pb.ListPointsRequest(collection=collection, page_size=4, min_watermark=watermark)
    first = await rung.call("ListPoints", request)
    watermark = await given.points(collection, [point("00a", rows[10]), point("05a", rows[11])])
    await rung.call("DeletePoints", pb.DeletePointsRequest(collection=collection, ids=["03"]))
    request.page_token = first.next_page_token
    request.page_size = 100
    request.min_watermark = watermark
    rest = await rung.call("ListPoints", request)
    assert [p.id for p in first.points] == ["00", "01", "02", "03"]
    assert [p.id for p in rest.points] == ["04", "05", "05a", "06", "07", "08", "09"]


async def test_a_token_fits_its_own_list_only(rung: Rung, given: Given) -> None:
    collection, other = await given.vector_collection(), await given.vector_collection()
    rows = [point(str(i), v, n=1) for i, v in enumerate(vectors(5))]
    watermark = await given.points(collection, rows)
    await given.points(other, rows, wait=True)
    request = pb.ListPointsRequest(
        collection=collection, page_size=2, filter=equals("n", 1), min_watermark=watermark
    )
    token = (await rung.call("ListPoints", request)).next_page_token
    for wrong in (
        pb.ListPointsRequest(collection=other, filter=equals("n", 1), page_token=token),
        pb.ListPointsRequest(collection=collection, filter=equals("n", 2), page_token=token),
        pb.ListPointsRequest(collection=collection, page_token=token),
        pb.ListPointsRequest(collection=collection, page_token=token[:-1]),
    ):
        with pytest.raises(Refused) as refused:
            await rung.call("ListPoints", wrong)
        assert refused.value.reason == "INVALID_PAGE_TOKEN"


async def test_documents_passages_and_jobs(rung: Rung, given: Given) -> None:
    tenant = new_id("t")
    collection = await given.text_collection(
        tenant=tenant, chunking=collection_pb2.Chunking(tokens_max=16, overlap_tokens=0)
    )
    long = " ".join(f"Sentence number {i} speaks of the weather in town {i}." for i in range(12))
    names, jobs = [], []
    for i in range(5):
        text = long if i == 0 else f"Short text {i}."
        stored = await given.document(collection, text, f"{i}.txt", tenant=tenant)
        names.append(stored.document.name)
        jobs.append(stored.ingest_job.name)
        await given.finished(stored.ingest_job.name, tenant=tenant)
    request = documents.ListDocumentsRequest(parent=collection)
    listed = await all_pages(rung, "ListDocuments", request, "documents", 2, tenant)
    assert [d.name for d in listed] == sorted(names)
    for job_request in (
        documents.ListIngestJobsRequest(),
        documents.ListIngestJobsRequest(collection=collection),
        documents.ListIngestJobsRequest(state=ingest_job_pb2.IngestJob.STATE_SUCCEEDED),
    ):
        found = await all_pages(rung, "ListIngestJobs", job_request, "ingest_jobs", 2, tenant)
        assert [j.name for j in found] == list(reversed(jobs))
    passages_request = documents.ListPassagesRequest(parent=names[0])
    passages = await all_pages(rung, "ListPassages", passages_request, "passages", 3, tenant)
    assert [p.passage_index for p in passages] == list(range(len(passages)))
    assert len(passages) >= 6
    assert " ".join(p.text for p in passages) == long
