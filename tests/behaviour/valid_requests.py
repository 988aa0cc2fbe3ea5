"""For each RPC a request that is answered, given a world to ask about. Those that change something
make what they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from google.protobuf.message import Message
from ragmesh.api.chat.v1 import chat_service_pb2 as chat
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.generation.v1 import budget_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as generation
from ragmesh.api.memory.v1 import memory_pb2, session_pb2
from ragmesh.api.memory.v1 import memory_service_pb2 as memory
from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from tests.behaviour.bad_requests import World
from tests.behaviour.given import budget_of, new_id, packed, point, session_of, vectors

EMBEDDING_MODEL = "embeddingModels/default"
GENERATION_MODEL = "generationModels/extractive"

VALID: Mapping[str, Callable[[World], Message]] = {
    "EmbedTexts": lambda w: embedding.EmbedTextsRequest(model=EMBEDDING_MODEL, texts=["a"]),
    "RerankPassages": lambda w: embedding.RerankPassagesRequest(
        model=EMBEDDING_MODEL, query="What?", passages=["a", "b"]
    ),
    "CountTokens": lambda w: embedding.CountTokensRequest(model=EMBEDDING_MODEL, texts=["a"]),
    "ListEmbeddingModels": lambda w: embedding.ListEmbeddingModelsRequest(page_size=5),
    "GetEmbeddingModel": lambda w: embedding.GetEmbeddingModelRequest(name=EMBEDDING_MODEL),
    "CreateCollection": lambda w: retrieval.CreateCollectionRequest(
        collection=collection_pb2.Collection(dimensions=8), collection_id=new_id()
    ),
    "GetCollection": lambda w: retrieval.GetCollectionRequest(name=w.vectors),
    "ListCollections": lambda w: retrieval.ListCollectionsRequest(page_size=5),
    "UpdateCollection": lambda w: retrieval.UpdateCollectionRequest(
        collection=collection_pb2.Collection(name=w.vectors, display_name="Changed")
    ),
    "DeleteCollection": lambda w: retrieval.DeleteCollectionRequest(name=w.vectors),
    "GetCollectionStats": lambda w: retrieval.GetCollectionStatsRequest(name=w.vectors),
    "UpsertPoints": lambda w: retrieval.UpsertPointsRequest(
        collection=w.vectors, points=[point("here", vectors(1)[0])]
    ),
    "DeletePoints": lambda w: retrieval.DeletePointsRequest(collection=w.vectors, ids=["here"]),
    "GetPoints": lambda w: retrieval.GetPointsRequest(collection=w.vectors, ids=["here"]),
    "ListPoints": lambda w: retrieval.ListPointsRequest(collection=w.vectors),
    "CountPoints": lambda w: retrieval.CountPointsRequest(collection=w.vectors),
    "SearchCollection": lambda w: retrieval.SearchCollectionRequest(
        collection=w.vectors, vector=packed(vectors(1)[0])
    ),
    "BatchSearchCollection": lambda w: retrieval.BatchSearchCollectionRequest(
        collection=w.vectors,
        searches=[retrieval.SearchCollectionRequest(vector=packed(vectors(1)[0]))],
    ),
    "CompactCollection": lambda w: retrieval.CompactCollectionRequest(collection=w.vectors),
    "CreateSnapshot": lambda w: retrieval.CreateSnapshotRequest(
        parent=w.vectors, snapshot_id=new_id()
    ),
    "GetSnapshot": lambda w: retrieval.GetSnapshotRequest(name=w.snapshot),
    "ListSnapshots": lambda w: retrieval.ListSnapshotsRequest(parent=w.vectors),
    "DeleteSnapshot": lambda w: retrieval.DeleteSnapshotRequest(name=w.snapshot),
    "RestoreSnapshot": lambda w: retrieval.RestoreSnapshotRequest(
        name=w.snapshot, collection_id=new_id()
    ),
    "ExportSnapshot": lambda w: retrieval.ExportSnapshotRequest(name=w.snapshot),
    "ImportSnapshot": lambda w: retrieval.ImportSnapshotRequest(
        header=retrieval.ImportHeader(collection_id=new_id())
    ),
    "StartMigration": lambda w: retrieval.StartMigrationRequest(
        collection=w.vectors, hnsw=collection_pb2.HnswSettings(m=8)
    ),
    "GetMigration": lambda w: retrieval.GetMigrationRequest(collection=w.migrating),
    "FlipMigration": lambda w: retrieval.FlipMigrationRequest(collection=w.migrating),
    "EndMigration": lambda w: retrieval.EndMigrationRequest(collection=w.migrating),
    "CreateDocument": lambda w: documents.CreateDocumentRequest(parent=w.texts, text="Some text."),
    "UploadDocument": lambda w: documents.UploadDocumentRequest(
        header=documents.UploadHeader(parent=w.texts)
    ),
    "GetDocument": lambda w: documents.GetDocumentRequest(name=w.document),
    "ListDocuments": lambda w: documents.ListDocumentsRequest(parent=w.texts),
    "DeleteDocument": lambda w: documents.DeleteDocumentRequest(name=w.document),
    "ReindexDocument": lambda w: documents.ReindexDocumentRequest(name=w.document),
    "ListPassages": lambda w: documents.ListPassagesRequest(parent=w.document),
    "GetIngestJob": lambda w: documents.GetIngestJobRequest(name=w.job),
    "ListIngestJobs": lambda w: documents.ListIngestJobsRequest(page_size=5),
    "CancelIngestJob": lambda w: documents.CancelIngestJobRequest(name=w.cancelled),
    "RetryIngestJob": lambda w: documents.RetryIngestJobRequest(name=w.cancelled),
    "WatchIngestJob": lambda w: documents.WatchIngestJobRequest(name=w.job),
    "CreateSession": lambda w: memory.CreateSessionRequest(session_id=new_id()),
    "GetSession": lambda w: memory.GetSessionRequest(name=w.session),
    "ListSessions": lambda w: memory.ListSessionsRequest(page_size=5),
    "DeleteSession": lambda w: memory.DeleteSessionRequest(name=w.session),
    "AppendMessages": lambda w: memory.AppendMessagesRequest(
        session=w.session,
        messages=[
            session_pb2.SessionMessage(role=session_pb2.SessionMessage.ROLE_USER, text="Why?")
        ],
    ),
    "ListMessages": lambda w: memory.ListMessagesRequest(session=w.session, leaf_index=2),
    "GetSessionContext": lambda w: memory.GetSessionContextRequest(name=w.session),
    "CreateMemory": lambda w: memory.CreateMemoryRequest(
        memory=memory_pb2.Memory(
            subject="grace", kind=memory_pb2.Memory.KIND_TASK, text="Call Ada."
        )
    ),
    "RememberTurns": lambda w: memory.RememberTurnsRequest(
        subject="grace", turns=[memory.Turn(speaker="Grace", text="I live in Arlington.")]
    ),
    "GetMemory": lambda w: memory.GetMemoryRequest(name=w.memory),
    "ListMemories": lambda w: memory.ListMemoriesRequest(subject="ada"),
    "UpdateMemory": lambda w: memory.UpdateMemoryRequest(name=w.memory, importance=0.5),
    "DeleteMemory": lambda w: memory.DeleteMemoryRequest(name=w.memory),
    "RecallMemories": lambda w: memory.RecallMemoriesRequest(subject="ada", query="What?"),
    "GetMemoryHistory": lambda w: memory.GetMemoryHistoryRequest(name=w.memory),
    "UndoMemory": lambda w: memory.UndoMemoryRequest(name=w.memory, version=1),
    "ConsolidateMemories": lambda w: memory.ConsolidateMemoriesRequest(subject="grace"),
    "EraseSubject": lambda w: memory.EraseSubjectRequest(subject="nobody"),
    "GenerateText": lambda w: generation.GenerateTextRequest(
        model=GENERATION_MODEL, question="What?"
    ),
    "StreamGenerateText": lambda w: generation.StreamGenerateTextRequest(
        model=GENERATION_MODEL, question="What?"
    ),
    "ListGenerationModels": lambda w: generation.ListGenerationModelsRequest(page_size=5),
    "GetGenerationModel": lambda w: generation.GetGenerationModelRequest(name=GENERATION_MODEL),
    "EstimateCost": lambda w: generation.EstimateCostRequest(
        model=GENERATION_MODEL, question="What?"
    ),
    "SetBudget": lambda w: generation.SetBudgetRequest(
        budget=budget_pb2.Budget(
            name=budget_of(w.vectors), session=session_of(w.vectors), limit_tokens=10**9
        )
    ),
    "GetBudget": lambda w: generation.GetBudgetRequest(name=budget_of(w.vectors)),
    "ListBudgets": lambda w: generation.ListBudgetsRequest(page_size=5),
    "DeleteBudget": lambda w: generation.DeleteBudgetRequest(name=budget_of(w.vectors)),
    "AskQuestion": lambda w: chat.AskQuestionRequest(question="What?", collections=[w.texts]),
    "StreamAnswer": lambda w: chat.StreamAnswerRequest(question="What?", collections=[w.texts]),
}
