"""A request_id makes a write safe to repeat: it is done once, and its first answer is returned
again; the same id for something else is refused."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from google.protobuf.message import Message
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.memory.v1 import memory_pb2, session_pb2
from ragmesh.api.memory.v1 import memory_service_pb2 as memory
from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given, new_id, point, upload_pieces, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

ROWS = vectors(10)
CALLERS = 8


async def same_answer(rung: Rung, rpc: str, request: Message, other: Message) -> None:
    """Sends a request twice, and then another one under its id."""
    first = await rung.call(rpc, request)
    again = await rung.call(rpc, request)
    assert again == first
    with pytest.raises(Refused) as refused:
        await rung.call(rpc, other)
    assert (refused.value.code, refused.value.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert await rung.call(rpc, request) == first


async def test_collections(rung: Rung) -> None:
    request_id = str(uuid.uuid4())
    request = pb.CreateCollectionRequest(
        collection=collection_pb2.Collection(dimensions=8), request_id=request_id
    )
    other = pb.CreateCollectionRequest(
        collection=collection_pb2.Collection(dimensions=9), request_id=request_id
    )
    await same_answer(rung, "CreateCollection", request, other)


async def test_points_written_and_deleted(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    write = pb.UpsertPointsRequest(
        collection=collection, points=[point("a", ROWS[0])], request_id=str(uuid.uuid4())
    )
    other = pb.UpsertPointsRequest(
        collection=collection, points=[point("b", ROWS[1])], request_id=write.request_id
    )
    await same_answer(rung, "UpsertPoints", write, other)
    delete = pb.DeletePointsRequest(collection=collection, ids=["a"], request_id=str(uuid.uuid4()))
    another = pb.DeletePointsRequest(collection=collection, ids=["b"], request_id=delete.request_id)
    await same_answer(rung, "DeletePoints", delete, another)
    # A late repetition of the write must not bring the point back: what is written next is alone.
    await rung.call("UpsertPoints", write)
    watermark = await given.points(collection, [point("next", ROWS[2])])
    listed = pb.ListPointsRequest(collection=collection, min_watermark=watermark)
    assert [one.id for one in (await rung.call("ListPoints", listed)).points] == ["next"]


async def test_one_id_is_not_for_two_methods(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    request_id = str(uuid.uuid4())
    write = pb.UpsertPointsRequest(
        collection=collection, points=[point("a", ROWS[0])], request_id=request_id
    )
    await rung.call("UpsertPoints", write)
    delete = pb.DeletePointsRequest(collection=collection, ids=["a"], request_id=request_id)
    with pytest.raises(Refused) as refused:
        await rung.call("DeletePoints", delete)
    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_documents(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    request = documents.CreateDocumentRequest(
        parent=collection, text="The harbor froze in January.", request_id=str(uuid.uuid4())
    )
    other = documents.CreateDocumentRequest(
        parent=collection, text="Something else.", request_id=request.request_id
    )
    await same_answer(rung, "CreateDocument", request, other)
    listed = await rung.call("ListDocuments", documents.ListDocumentsRequest(parent=collection))
    assert len(listed.documents) == 1


@pytest.mark.rpcs("UploadDocument")
async def test_uploads(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()

    def pieces(text: bytes, request_id: str) -> list[Message]:
        header = documents.UploadHeader(parent=collection, request_id=request_id)
        return [documents.UploadDocumentRequest(header=header), *upload_pieces(text)]

    request_id = str(uuid.uuid4())
    first = await rung.upload("UploadDocument", pieces(b"The first text.", request_id))
    again = await rung.upload("UploadDocument", pieces(b"The first text.", request_id))
    assert again == first
    with pytest.raises(Refused) as refused:
        await rung.upload("UploadDocument", pieces(b"Another text.", request_id))
    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_sessions_and_messages(rung: Rung) -> None:
    create = memory.CreateSessionRequest(
        session=session_pb2.Session(display_name="One"), request_id=str(uuid.uuid4())
    )
    other = memory.CreateSessionRequest(request_id=create.request_id)
    await same_answer(rung, "CreateSession", create, other)
    session = (await rung.call("CreateSession", create)).session.name
    role = session_pb2.SessionMessage.ROLE_USER
    append = memory.AppendMessagesRequest(
        session=session,
        messages=[session_pb2.SessionMessage(role=role, text="Why?")],
        request_id=str(uuid.uuid4()),
    )
    another = memory.AppendMessagesRequest(
        session=session,
        messages=[session_pb2.SessionMessage(role=role, text="What?")],
        request_id=append.request_id,
    )
    await same_answer(rung, "AppendMessages", append, another)
    listed = await rung.call("ListMessages", memory.ListMessagesRequest(session=session))
    assert [one.text for one in listed.messages] == ["Why?"]


async def test_many_at_the_same_time(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    request = pb.UpsertPointsRequest(
        collection=collection, points=[point("a", ROWS[0])], request_id=str(uuid.uuid4())
    )
    answers = await asyncio.gather(*(rung.call("UpsertPoints", request) for _ in range(CALLERS)))
    assert len({a.watermark for a in answers}) == 1
    create = pb.CreateCollectionRequest(
        collection=collection_pb2.Collection(dimensions=8), request_id=str(uuid.uuid4())
    )
    made = await asyncio.gather(*(rung.call("CreateCollection", create) for _ in range(CALLERS)))
    assert len({m.collection.name for m in made}) == 1


async def test_without_an_id_each_call_counts(rung: Rung) -> None:
    create = pb.CreateCollectionRequest(
        collection=collection_pb2.Collection(dimensions=8), collection_id=new_id()
    )
    await rung.call("CreateCollection", create)
    with pytest.raises(Refused) as refused:
        await rung.call("CreateCollection", create)
    assert refused.value.reason == "COLLECTION_EXISTS"


async def test_memories(rung: Rung) -> None:
    subject = new_id("user")

    def request(text: str, request_id: str) -> memory.CreateMemoryRequest:
        fact = memory_pb2.Memory(subject=subject, kind=memory_pb2.Memory.KIND_FACT, text=text)
        return memory.CreateMemoryRequest(memory=fact, request_id=request_id)

    request_id = str(uuid.uuid4())
    await same_answer(
        rung, "CreateMemory", request("Ada is in.", request_id), request("Ada is out.", request_id)
    )
    listed = await rung.call("ListMemories", memory.ListMemoriesRequest(subject=subject))
    (only,) = listed.memories
    update = memory.UpdateMemoryRequest(
        name=only.name, text="Ada was in.", request_id=str(uuid.uuid4())
    )
    other = memory.UpdateMemoryRequest(
        name=only.name, text="Ada was out.", request_id=update.request_id
    )
    await same_answer(rung, "UpdateMemory", update, other)
    undo = memory.UndoMemoryRequest(name=only.name, request_id=str(uuid.uuid4()))
    first = await rung.call("UndoMemory", undo)
    assert await rung.call("UndoMemory", undo) == first
    assert first.memory.text == "Ada is in."
