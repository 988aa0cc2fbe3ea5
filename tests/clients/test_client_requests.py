"""What the client sends: retries, split batches, pages, uploads and reads of its own writes."""

from __future__ import annotations

import hashlib
import io
import random
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
import ragmesh
from ragmesh import _split
from ragmesh._upload import UploadFeed, prepare
from ragmesh.api.documents.v1 import document_pb2, ingest_job_pb2
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import collection_pb2, point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.clients import scripted_server
from tests.clients.either_client import EitherClient
from tests.clients.scripted_server import ScriptedServer, failing, status, streaming, then_failing

GONE = failing(grpc.StatusCode.UNAVAILABLE, "draining", reason="NODE_DRAINING")
MIB = 1024 * 1024
JOB = ingest_job_pb2.IngestJob
JOB_NAME = "ingestJobs/j1"
DOCUMENT_NAME = "collections/papers/documents/d"


def watched(state: JOB.State.ValueType, **fields: Any) -> documents.WatchIngestJobResponse:
    job = JOB(name=JOB_NAME, document=DOCUMENT_NAME, state=state, **fields)
    return documents.WatchIngestJobResponse(ingest_job=job)


async def test_a_read_is_tried_three_times_and_no_more(
    client: EitherClient, script: ScriptedServer
) -> None:
    found = pb.GetCollectionResponse(collection=collection_pb2.Collection(name="collections/a"))
    script.on("GetCollection", GONE, GONE, found)
    assert (await client.call("get_collection", "a")).name == "collections/a"
    script.on("GetCollection", GONE)
    with pytest.raises(ragmesh.NodeDraining):
        await client.call("get_collection", "a")
    assert len(script.seen["GetCollection"]) == 3
    assert len({seen.metadata["x-request-id"] for seen in script.seen["GetCollection"]}) == 1


async def test_a_write_is_repeated_with_one_request_id(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("UpsertPoints", GONE, pb.UpsertPointsResponse(watermark="1", upserted=1))
    await client.call("upsert_points", "a", [ragmesh.Point("p", [1.0])])
    first, second = script.requests("UpsertPoints")
    assert first == second
    assert str(uuid.UUID(first.request_id)) == first.request_id


@pytest.mark.parametrize(
    ("rpc", "method"),
    [("DeleteCollection", "delete_collection"), ("UpdateCollection", "update_collection")],
)
async def test_a_write_without_a_request_id_is_sent_once(
    client: EitherClient, script: ScriptedServer, rpc: str, method: str
) -> None:
    script.on(rpc, GONE)
    options = {"display_name": "x"} if method == "update_collection" else {}
    with pytest.raises(ragmesh.NodeDraining):
        await client.call(method, "a", **options)
    assert len(script.seen[rpc]) == 1


async def test_a_full_queue_is_tried_again_only_where_it_says_when(
    client: EitherClient, script: ScriptedServer
) -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    later = failing(code, reason="QUEUE_FULL", retry_after_s=0.05)
    script.on("CountPoints", later, pb.CountPointsResponse(count=3, watermark="1"))
    assert (await client.call("count_points", "a")).count == 3
    script.on("CountPoints", failing(code, reason="LIMIT_REACHED"))
    with pytest.raises(ragmesh.LimitReached):
        await client.call("count_points", "a")
    assert len(script.seen["CountPoints"]) == 1


async def test_no_retry_waits_beyond_the_deadline(
    client: EitherClient, script: ScriptedServer
) -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    script.on("CountPoints", failing(code, reason="QUEUE_FULL", retry_after_s=60.0))
    with pytest.raises(ragmesh.QueueFull) as caught:
        await client.call("count_points", "a", timeout_s=1.0)
    assert caught.value.retry_after_s == 60.0


def embedded(request: Any, context: grpc.ServicerContext) -> embedding.EmbedTextsResponse:
    """A vector that tells the text's length."""
    answer = embedding.EmbedTextsResponse(fingerprint="f")
    for text in request.texts:
        vector = vector_pb2.Vector(packed=ragmesh.Vector([float(len(text))]).packed)
        answer.embeddings.add(vector=vector, tokens=len(text))
    answer.timings.tokenize_ms = 1.0
    answer.timings.queue_wait_ms = float(len(request.texts))
    return answer


async def test_many_texts_are_embedded_in_order_over_several_requests(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("EmbedTexts", embedded)
    result = await client.call("embed_texts", ["x" * (i % 7) for i in range(2_500)])
    assert [list(v) for v in result.vectors] == [[float(i % 7)] for i in range(2_500)]
    assert [len(r.texts) for r in script.requests("EmbedTexts")] == [1024, 1024, 452]
    assert (result.timings.tokenize_ms, result.timings.queue_wait_ms) == (3.0, 1024.0)


async def test_texts_over_a_message_s_bytes_are_split_and_one_over_it_is_refused_unsent(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("EmbedTexts", embedded)
    await client.call("embed_texts", ["x" * (7 * MIB)] * 3)
    assert [len(r.texts) for r in script.requests("EmbedTexts")] == [2, 1]
    script.on("EmbedTexts", embedded)
    with pytest.raises(ragmesh.MessageTooLarge, match="16 MiB") as caught:
        await client.call("embed_texts", ["é" * (8 * MIB)])
    assert caught.value.metadata["size_bytes_max"] == str(16 * MIB)
    assert script.seen["EmbedTexts"] == []


async def test_a_model_that_changes_between_requests_is_an_error_not_a_mixture(
    client: EitherClient, script: ScriptedServer
) -> None:
    def other(request: Any, context: grpc.ServicerContext) -> embedding.EmbedTextsResponse:
        answer = embedded(request, context)
        answer.fingerprint = "g"
        return answer

    script.on("EmbedTexts", embedded, other)
    with pytest.raises(ragmesh.FingerprintMismatch, match="f, g"):
        await client.call("embed_texts", [""] * 1025)


async def test_answers_too_large_for_a_message_are_asked_for_in_halves(
    client: EitherClient, script: ScriptedServer
) -> None:
    def heavy(request: Any, context: grpc.ServicerContext) -> pb.GetPointsResponse:
        points = [point_pb2.Point(id=i, text="x" * (5 * MIB)) for i in request.ids]
        return pb.GetPointsResponse(points=points)

    script.on("GetPoints", heavy)
    points = await client.call("get_points", "a", ["1", "2", "3", "4", "5"])
    assert [p.id for p in points] == ["1", "2", "3", "4", "5"]


async def test_a_large_upsert_is_split_and_each_part_has_its_own_lasting_id(
    client: EitherClient, script: ScriptedServer
) -> None:
    def written(request: Any, context: grpc.ServicerContext) -> pb.UpsertPointsResponse:
        mark = len(script.seen["UpsertPoints"])
        return pb.UpsertPointsResponse(watermark=str(mark), upserted=len(request.points))

    script.on("UpsertPoints", written)
    given = str(uuid.uuid4())
    for _ in range(2):
        points = (ragmesh.Point(str(i), [1.0, 2.0]) for i in range(2_001))
        result = await client.call("upsert_points", "a", points, request_id=given)
        assert (result.upserted, result.requests) == (2_001, 3)
    ids = [r.request_id for r in script.requests("UpsertPoints")]
    assert ids[:3] == ids[3:] and len(set(ids)) == 3 and ids[0] == given
    assert [p.id for r in script.requests("UpsertPoints")[:3] for p in r.points] == [
        str(i) for i in range(2_001)
    ]


async def test_a_split_write_that_fails_says_what_stays(
    client: EitherClient, script: ScriptedServer
) -> None:
    mismatch = failing(grpc.StatusCode.FAILED_PRECONDITION, reason="DIMENSION_MISMATCH")
    script.on("UpsertPoints", pb.UpsertPointsResponse(watermark="1", upserted=1000), mismatch)
    with pytest.raises(ragmesh.DimensionMismatch) as caught:
        await client.call("upsert_points", "a", [ragmesh.Point(str(i)) for i in range(1_001)])
    assert caught.value.__notes__ == ["Written before: 1000 points in 1 requests."]


def test_every_split_keeps_order_and_both_limits() -> None:
    chance = random.Random(7)
    base = pb.DeletePointsRequest(collection="collections/a")
    for _ in range(20):
        lengths = [chance.choice([1, 300, 200_000]) for _ in range(chance.randint(0, 900))]
        parts = list(_split.split(map("x".__mul__, lengths), base, items_max=64, size=len))
        assert [len(item) for part in parts for item in part] == lengths
        for part in parts:
            assert len(part) <= 64
            message = pb.DeletePointsRequest(collection="collections/a", ids=part)
            assert message.ByteSize() <= 16 * MIB


async def test_lists_fetch_pages_only_when_they_are_needed(
    client: EitherClient, script: ScriptedServer
) -> None:
    def page(request: Any, context: grpc.ServicerContext) -> pb.ListCollectionsResponse:
        start = int(request.page_token or 0)
        names = [f"collections/c{i}" for i in range(start, min(start + request.page_size, 5))]
        return pb.ListCollectionsResponse(
            collections=[collection_pb2.Collection(name=name) for name in names],
            next_page_token=str(start + request.page_size) if start + 2 < 5 else "",
        )

    script.on("ListCollections", page)
    listing = client.inner.list_collections(page_size=2)
    assert script.seen["ListCollections"] == []
    names = [c.name for c in await client.collect("list_collections", page_size=2)]
    assert names == [f"collections/c{i}" for i in range(5)]
    assert [r.page_token for r in script.requests("ListCollections")] == ["", "2", "4"]
    pages = list(listing.pages("4")) if client.waits else [p async for p in listing.pages("4")]
    assert [len(p.items) for p in pages] == [1]


async def test_reads_wait_for_what_this_client_wrote_to_that_collection(
    client: EitherClient, kind: str, script: ScriptedServer
) -> None:
    script.on("UpsertPoints", pb.UpsertPointsResponse(watermark="10"))
    script.on("DeletePoints", pb.DeletePointsResponse(watermark="9"))
    script.on("DeleteCollection", pb.DeleteCollectionResponse())
    script.on("SearchCollection", pb.SearchCollectionResponse())
    for method in ("CountPoints", "GetPoints", "ListPoints"):
        script.on(method, getattr(pb, f"{method}Response")())
    await client.call("search_collection", "a", "x")
    await client.call("upsert_points", "collections/a", [ragmesh.Point("p", text="x")])
    await client.call("delete_points", "a", ["q"])  # an older commit does not turn it back
    await client.call("search_collection", "a", "x")
    await client.call("search_collection", "b", "x")
    await client.call("search_collection", "a", "x", min_watermark="3")
    await client.call("count_points", "a")
    await client.call("get_points", "a", ["p"])
    await client.collect("list_points", "a")
    await client.call("delete_collection", "a")
    await client.call("search_collection", "a", "x")
    asked = [r.min_watermark for r in script.requests("SearchCollection")]
    assert asked == ["", "10", "", "3", ""]
    for method in ("CountPoints", "GetPoints", "ListPoints"):
        assert script.requests(method)[0].min_watermark == "10"
    plain = EitherClient(kind, script.address, consistent_reads=False)
    await plain.call("upsert_points", "a", [ragmesh.Point("p", text="x")])
    await plain.call("search_collection", "a", "x")
    assert script.requests("SearchCollection")[-1].min_watermark == ""
    await plain.close()


async def test_waiting_for_a_job_outlives_a_cut_watch_and_makes_its_document_visible(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on(
        "WatchIngestJob",
        then_failing([watched(JOB.STATE_QUEUED)], GONE),
        GONE,
        GONE,
        GONE,
        streaming(watched(JOB.STATE_RUNNING)),
        streaming(watched(JOB.STATE_SUCCEEDED, watermark="42")),
    )
    script.on("SearchCollection", pb.SearchCollectionResponse())
    states: list[str] = []
    job = await client.call(
        "wait_for_ingest_job", "j1", on_progress=lambda j: states.append(j.state), timeout_s=20
    )
    assert (job.state, states) == ("succeeded", ["queued", "running", "succeeded"])
    await client.call("search_collection", "papers", "x")
    assert script.requests("SearchCollection")[0].min_watermark == "42"


async def test_waiting_for_a_job_that_failed_raises_the_job_s_own_error(
    client: EitherClient, script: ScriptedServer
) -> None:
    why = status(grpc.StatusCode.INVALID_ARGUMENT, "no PDF", reason="DOCUMENT_UNREADABLE")
    script.on("WatchIngestJob", streaming(watched(JOB.STATE_FAILED, error=why)))
    with pytest.raises(ragmesh.DocumentUnreadable, match="no PDF") as caught:
        await client.call("wait_for_ingest_job", JOB_NAME)
    assert caught.value.metadata["ingest_job"] == JOB_NAME
    script.on("WatchIngestJob", streaming(watched(JOB.STATE_CANCELLED)))
    with pytest.raises(ragmesh.Cancelled, match="deleted"):
        await client.call("wait_for_ingest_job", JOB_NAME)


async def test_an_upload_arrives_whole_from_every_kind_of_source(
    client: EitherClient, script: ScriptedServer, tmp_path: Path
) -> None:
    data = random.Random(1).randbytes(1_300_000)
    path = tmp_path / "notes.md"
    path.write_bytes(data)
    stored = documents.UploadDocumentResponse(document=document_pb2.Document(name=DOCUMENT_NAME))
    sources: list[Any] = [path, str(path), data, io.BytesIO(data), path.open("rb")]
    for source in sources:
        # The first attempt fails, so each is also read again from its start.
        script.on("UploadDocument", GONE, stored)
        result = await client.call("upload_document", "papers", source, payload={"year": 2020})
        assert result.document.name == DOCUMENT_NAME
        first, second = script.requests("UploadDocument")
        assert first == second
        assert b"".join(piece.data for piece in second[1:]) == data
        assert second[-1].end.content_sha256 == hashlib.sha256(data).hexdigest()
        assert all(len(piece.data) <= MIB for piece in second[1:])
        header = second[0].header
        assert header.parent == "collections/papers" and header.request_id
        if source is path:
            assert header.document.display_name == "notes.md"
            assert header.document.media_type == "text/markdown"
    sources[-1].close()


async def test_a_small_file_is_sent_in_one_message(
    client: EitherClient, script: ScriptedServer, tmp_path: Path
) -> None:
    path = tmp_path / "notes.md"
    path.write_bytes(b"# Notes")
    stored = documents.CreateDocumentResponse(document=document_pb2.Document(name=DOCUMENT_NAME))
    for source in (path, b"# Notes", bytearray(b"")):
        script.on("CreateDocument", GONE, stored)
        result = await client.call(
            "upload_document", "papers", source, document_id="a", replace_existing=True
        )
        assert result.document.name == DOCUMENT_NAME
        first, second = script.requests("CreateDocument")
        assert first == second
        assert second.data == (source.read_bytes() if isinstance(source, Path) else source)
        assert second.WhichOneof("content") == "data"
        assert (second.document_id, second.replace_existing) == ("a", True)
        assert second.request_id
        assert second.document.display_name == ("notes.md" if source is path else "")


class Breaking(io.RawIOBase):
    """A file that fails in the middle, and cannot go back."""

    def __init__(self) -> None:
        self.reads = 0

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        if self.reads > 2:
            raise OSError("the disk is gone")
        return b"x" * size


async def test_a_file_that_cannot_be_read_raises_its_own_error(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("UploadDocument", documents.UploadDocumentResponse())
    with pytest.raises(OSError, match="the disk is gone"):
        await client.call("upload_document", "papers", Breaking())
    with pytest.raises(FileNotFoundError):
        await client.call("upload_document", "papers", "/nowhere/at/all.txt")


def test_what_is_sent_of_a_file_that_breaks_has_no_end() -> None:
    """A server may take the broken stream for one that ended; without its end it is not whole."""
    sent: list[Any] = []
    source: Any = Breaking()
    with pytest.raises(OSError, match="the disk is gone"):
        for piece in UploadFeed(documents.UploadHeader(), prepare(source)):
            sent.append(piece)  # noqa: PERF402 - what came before the failure is kept
    assert [piece.WhichOneof("piece") for piece in sent] == ["header", "data", "data"]


@pytest.mark.parametrize("form", ["unix:{}", "unix://{}"])
async def test_a_unix_socket_is_an_address(kind: str, tmp_path: Path, form: str) -> None:
    server, script = scripted_server.start(f"unix:{tmp_path}/s")
    script.on("CountPoints", pb.CountPointsResponse(count=3, watermark="1"))
    client = EitherClient(kind, form.format(tmp_path / "s"))
    assert (await client.call("count_points", "a")).count == 3
    await client.close()
    server.stop(None).wait()


async def test_lane_and_metadata_go_out_as_headers(
    client: EitherClient, kind: str, script: ScriptedServer
) -> None:
    script.on("EmbedTexts", embedded)
    await client.call("embed_texts", ["a"])
    await client.call("embed_texts", ["a"], lane="bulk")
    bulk = EitherClient(kind, script.address, lane="bulk", metadata={"X-Team": "red"})
    await bulk.call("embed_texts", ["a"])
    await bulk.close()
    lanes = [seen.metadata.get("x-ragmesh-lane") for seen in script.seen["EmbedTexts"]]
    assert lanes == [None, "bulk", "bulk"]
    assert script.seen["EmbedTexts"][2].metadata["x-team"] == "red"
