"""Tenants with the same ids see nothing of each other, by any RPC of the contract; and what one
does changes nothing of the other's."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from ragmesh.api.documents.v1 import document_pb2
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from tests.behaviour.bad_requests import World
from tests.behaviour.given import Given, new_id, point, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import RPCS, Rung
from tests.behaviour.snapshot_files import following
from tests.behaviour.valid_requests import VALID

SHARED = "models and what is computed from the request alone"
NOTHING = "an empty list"
OWN = "something of the caller's own"

TO_A_STRANGER: dict[str, str] = {
    "EmbedTexts": SHARED,
    "RerankPassages": SHARED,
    "CountTokens": SHARED,
    "ListEmbeddingModels": SHARED,
    "GetEmbeddingModel": SHARED,
    "GenerateText": SHARED,
    "StreamGenerateText": SHARED,
    "ListGenerationModels": SHARED,
    "GetGenerationModel": SHARED,
    "EstimateCost": SHARED,
    "SetBudget": OWN,
    "GetBudget": "BUDGET_NOT_FOUND",
    "ListBudgets": NOTHING,
    "DeleteBudget": "BUDGET_NOT_FOUND",
    "CreateCollection": OWN,
    "ListCollections": NOTHING,
    "ListIngestJobs": NOTHING,
    "GetCollection": "COLLECTION_NOT_FOUND",
    "UpdateCollection": "COLLECTION_NOT_FOUND",
    "DeleteCollection": "COLLECTION_NOT_FOUND",
    "GetCollectionStats": "COLLECTION_NOT_FOUND",
    "UpsertPoints": "COLLECTION_NOT_FOUND",
    "DeletePoints": "COLLECTION_NOT_FOUND",
    "GetPoints": "COLLECTION_NOT_FOUND",
    "ListPoints": "COLLECTION_NOT_FOUND",
    "CountPoints": "COLLECTION_NOT_FOUND",
    "SearchCollection": "COLLECTION_NOT_FOUND",
    "BatchSearchCollection": "COLLECTION_NOT_FOUND",
    "CompactCollection": "COLLECTION_NOT_FOUND",
    "CreateSnapshot": "COLLECTION_NOT_FOUND",
    "GetSnapshot": "COLLECTION_NOT_FOUND",
    "ListSnapshots": "COLLECTION_NOT_FOUND",
    "DeleteSnapshot": "COLLECTION_NOT_FOUND",
    "RestoreSnapshot": "COLLECTION_NOT_FOUND",
    "ExportSnapshot": "COLLECTION_NOT_FOUND",
    "ImportSnapshot": OWN,
    "StartMigration": "COLLECTION_NOT_FOUND",
    "GetMigration": "COLLECTION_NOT_FOUND",
    "FlipMigration": "COLLECTION_NOT_FOUND",
    "EndMigration": "COLLECTION_NOT_FOUND",
    "CreateDocument": "COLLECTION_NOT_FOUND",
    "UploadDocument": "COLLECTION_NOT_FOUND",
    "GetDocument": "COLLECTION_NOT_FOUND",
    "ListDocuments": "COLLECTION_NOT_FOUND",
    "DeleteDocument": "COLLECTION_NOT_FOUND",
    "ReindexDocument": "COLLECTION_NOT_FOUND",
    "ListPassages": "COLLECTION_NOT_FOUND",
    "GetIngestJob": "INGEST_JOB_NOT_FOUND",
    "CancelIngestJob": "INGEST_JOB_NOT_FOUND",
    "RetryIngestJob": "INGEST_JOB_NOT_FOUND",
    "WatchIngestJob": "INGEST_JOB_NOT_FOUND",
    "CreateSession": OWN,
    "GetSession": "SESSION_NOT_FOUND",
    "ListSessions": NOTHING,
    "DeleteSession": "SESSION_NOT_FOUND",
    "AppendMessages": "SESSION_NOT_FOUND",
    "ListMessages": "SESSION_NOT_FOUND",
    "GetSessionContext": "SESSION_NOT_FOUND",
    "CreateMemory": OWN,
    "RememberTurns": OWN,
    "GetMemory": "MEMORY_NOT_FOUND",
    "ListMemories": NOTHING,
    "UpdateMemory": "MEMORY_NOT_FOUND",
    "DeleteMemory": "MEMORY_NOT_FOUND",
    "RecallMemories": OWN,
    "GetMemoryHistory": "MEMORY_NOT_FOUND",
    "UndoMemory": "MEMORY_NOT_FOUND",
    "ConsolidateMemories": OWN,
    "EraseSubject": OWN,
    "AskQuestion": "COLLECTION_NOT_FOUND",
    "StreamAnswer": "COLLECTION_NOT_FOUND",
}
"""For each RPC, what a tenant who has nothing gets when it names what another tenant has."""

WRITES = (
    "Create",
    "Upload",
    "Upsert",
    "Delete",
    "Update",
    "Restore",
    "Import",
    "Append",
    "Undo",
    "Set",
)
REMEMBERS = ("RememberTurns", "ConsolidateMemories", "EraseSubject")
MIGRATES = ("StartMigration", "FlipMigration", "EndMigration")
INGESTS = ("ReindexDocument", "CancelIngestJob", "RetryIngestJob")
ALPHA, BETA = new_id("alpha"), new_id("beta")
SECRETS = {ALPHA: "apricot", BETA: "blueberry"}
VECTORS_ID, TEXTS_ID, MIGRATING_ID, SESSION_ID = new_id(), new_id(), new_id(), new_id()
MEMORY_ID = new_id()
_WORLDS: dict[str, dict[str, World]] = {}


async def send(rung: Rung, rpc: str, request: Message, tenant: str) -> Any:
    """Any RPC; streams as lists."""
    method = RPCS[rpc]
    if method.client_streaming:
        return await rung.upload(rpc, [request, *following(rpc, b"Some text.")], tenant=tenant)
    if method.server_streaming:
        return [event async for event in rung.stream(rpc, request, tenant=tenant)]
    return await rung.call(rpc, request, tenant=tenant)


async def world_of(given: Given, tenant: str) -> World:
    """The same names for each tenant, with that tenant's word in all of it."""
    rung, word = given.rung, SECRETS[tenant]
    for collection_id, dimensions in ((VECTORS_ID, 8), (TEXTS_ID, 0)):
        collection = collection_pb2.Collection(dimensions=dimensions, display_name=word)
        request = retrieval.CreateCollectionRequest(
            collection=collection, collection_id=collection_id
        )
        await rung.call("CreateCollection", request, tenant=tenant)
    holder, texts = f"collections/{VECTORS_ID}", f"collections/{TEXTS_ID}"
    row = vectors(1)[0]
    await given.points(holder, [point("here", row, word, word=word)], tenant=tenant, wait=True)
    stored = await rung.call(
        "CreateDocument",
        documents.CreateDocumentRequest(
            parent=texts,
            document_id="same",
            document=document_pb2.Document(display_name=word, source_uri=word),
            text=f"The favorite fruit of this house is the {word}.",
        ),
        tenant=tenant,
    )
    await given.finished(stored.ingest_job.name, tenant=tenant)
    kept = await given.snapshot(holder, tenant=tenant)
    await given.budget(holder, tenant=tenant)
    migrating = await given.migrating(tenant=tenant, collection_id=MIGRATING_ID, display_name=word)
    job, cancelled = stored.ingest_job.name, await given.cancelled(texts, tenant=tenant)
    session = await given.session(
        f"I like {word}.",
        f"You like {word}.",
        tenant=tenant,
        session_id=SESSION_ID,
        display_name=word,
    )
    document = f"{texts}/documents/same"
    return World(
        *(holder, texts, document, job, kept, migrating, cancelled, session),
        memory=await given.memory(f"Ada likes {word}.", tenant=tenant, memory_id=MEMORY_ID),
    )


@pytest.fixture
async def worlds(rung: Rung, given: Given) -> dict[str, World]:
    """Both tenants' worlds, once for each mesh."""
    mesh = "one" if rung.name in ("process", "grpc") else "split"
    if mesh not in _WORLDS:
        _WORLDS[mesh] = {tenant: await world_of(given, tenant) for tenant in SECRETS}
    return _WORLDS[mesh]


async def inventory(rung: Rung, world: World, tenant: str) -> list[str]:
    """All that a tenant has, as text."""
    found = []
    for rpc in (
        "ListCollections",
        "ListPoints",
        "ListDocuments",
        "ListPassages",
        "ListIngestJobs",
        "GetIngestJob",
        "ListSnapshots",
        "ListBudgets",
        "GetMigration",
        "GetSession",
        "ListSessions",
        "ListMessages",
        "ListMemories",
        "GetMemoryHistory",
    ):
        request = VALID[rpc](world)
        if "page_size" in request.DESCRIPTOR.fields_by_name:
            request.page_size = 1_000  # type: ignore[attr-defined]
        found.append(str(await rung.call(rpc, request, tenant=tenant)))
    return found


def test_every_rpc_is_covered() -> None:
    assert TO_A_STRANGER.keys() == RPCS.keys()


async def test_a_stranger_finds_nothing(
    rung: Rung, given: Given, worlds: dict[str, World], rpc: str
) -> None:
    stranger, world = new_id("stranger"), worlds[ALPHA]
    before = await inventory(rung, world, ALPHA)
    wanted, request = TO_A_STRANGER[rpc], VALID[rpc](world)
    if wanted in (SHARED, OWN, NOTHING):
        said = str(await send(rung, rpc, request, stranger))
        assert wanted is not NOTHING or said == ""
    else:
        with pytest.raises(Refused) as refused:
            await send(rung, rpc, request, stranger)
        assert refused.value.reason == wanted
        said = str(refused.value)
    assert SECRETS[ALPHA] not in said
    assert SECRETS[BETA] not in said
    assert await inventory(rung, world, ALPHA) == before


async def test_both_see_their_own_under_the_same_names(
    rung: Rung, worlds: dict[str, World]
) -> None:
    for tenant, other in ((ALPHA, BETA), (BETA, ALPHA)):
        world, seen = worlds[tenant], []
        for rpc in RPCS:
            if rpc.startswith(WRITES) or rpc in MIGRATES + INGESTS + REMEMBERS:
                continue
            answer = str(await send(rung, rpc, VALID[rpc](world), tenant))
            assert SECRETS[other] not in answer, rpc
            if SECRETS[tenant] in answer:
                seen.append(rpc)
        assert {
            "GetCollection",
            "ListCollections",
            "GetPoints",
            "ListPoints",
            "SearchCollection",
            "BatchSearchCollection",
            "GetDocument",
            "ListDocuments",
            "ListPassages",
            "GetSession",
            "ListSessions",
            "ListMessages",
            "GetSessionContext",
            "GetMemory",
            "ListMemories",
            "RecallMemories",
            "GetMemoryHistory",
        } <= set(seen)


async def test_names_of_jobs_are_no_way_in(rung: Rung, worlds: dict[str, World]) -> None:
    for rpc in ("GetIngestJob", "WatchIngestJob", "CancelIngestJob", "RetryIngestJob"):
        with pytest.raises(Refused) as refused:
            await send(rung, rpc, VALID[rpc](worlds[ALPHA]), BETA)
        assert refused.value.reason == "INGEST_JOB_NOT_FOUND"


async def test_what_one_deletes_the_other_keeps(
    rung: Rung, given: Given, worlds: dict[str, World]
) -> None:
    before = await inventory(rung, worlds[ALPHA], ALPHA)
    collection_id, third = new_id(), new_id("third")
    fourth = new_id("fourth")
    name = f"collections/{collection_id}"
    marks = {}
    for tenant in (third, fourth):
        request = retrieval.CreateCollectionRequest(
            collection=collection_pb2.Collection(dimensions=8), collection_id=collection_id
        )
        await rung.call("CreateCollection", request, tenant=tenant)
        rows = [point(str(i), row, tenant) for i, row in enumerate(vectors(5))]
        marks[tenant] = await given.points(name, rows, tenant=tenant)
    delete = retrieval.DeletePointsRequest(collection=name, ids=["0", "1"])
    await rung.call("DeletePoints", delete, tenant=third)
    await rung.call("DeleteCollection", retrieval.DeleteCollectionRequest(name=name), tenant=third)
    count = retrieval.CountPointsRequest(collection=name, min_watermark=marks[fourth])
    assert (await rung.call("CountPoints", count, tenant=fourth)).count == 5
    assert await inventory(rung, worlds[ALPHA], ALPHA) == before


async def test_a_request_id_of_another_tenant_is_free(rung: Rung) -> None:
    request_id = "6f6a2f4e-62a5-4f0f-9d3e-52d2b3b4a6c1"
    for tenant, dimensions in ((new_id("one"), 8), (new_id("two"), 9)):
        request = retrieval.CreateCollectionRequest(
            collection=collection_pb2.Collection(dimensions=dimensions), request_id=request_id
        )
        made = await rung.call("CreateCollection", request, tenant=tenant)
        assert made.collection.dimensions == dimensions


async def test_a_tenant_that_cannot_be_is_refused(
    one_rungs: dict[str, Rung], split_rungs: dict[str, Rung]
) -> None:
    # Over a wire only: a Call in this process has its tenant from whoever made it.
    for rung in (one_rungs["grpc"], split_rungs["split"], split_rungs["rest"]):
        with pytest.raises(Refused) as refused:
            await rung.call("ListCollections", retrieval.ListCollectionsRequest(), tenant="A B")
        assert refused.value.reason == "INVALID_FIELD"
