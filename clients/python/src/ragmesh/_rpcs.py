"""The contract's RPCs as typed values: path, messages, and whether repeating one is harmless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from ragmesh.api.chat.v1 import chat_service_pb2 as chat
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.generation.v1 import generation_service_pb2 as generation
from ragmesh.api.memory.v1 import memory_service_pb2 as memory
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


@dataclass(frozen=True, slots=True)
class Rpc(Generic[Req, Res]):
    """One RPC. `path` is gRPC's; `safe` is the descriptor's NO_SIDE_EFFECTS."""

    path: str
    request: type[Req]
    response: type[Res]
    safe: bool


def _rpc(request: type[Req], response: type[Res]) -> Rpc[Req, Res]:
    """The RPC whose request this is, found in the file that declares the message."""
    (service,) = request.DESCRIPTOR.file.services_by_name.values()
    method = service.methods_by_name[request.DESCRIPTOR.name.removesuffix("Request")]
    return Rpc(
        path=f"/{service.full_name}/{method.name}",
        request=request,
        response=response,
        safe=method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS,
    )


EMBED_TEXTS = _rpc(embedding.EmbedTextsRequest, embedding.EmbedTextsResponse)
RERANK_PASSAGES = _rpc(embedding.RerankPassagesRequest, embedding.RerankPassagesResponse)
COUNT_TOKENS = _rpc(embedding.CountTokensRequest, embedding.CountTokensResponse)
LIST_EMBEDDING_MODELS = _rpc(
    embedding.ListEmbeddingModelsRequest, embedding.ListEmbeddingModelsResponse
)
GET_EMBEDDING_MODEL = _rpc(embedding.GetEmbeddingModelRequest, embedding.GetEmbeddingModelResponse)

CREATE_COLLECTION = _rpc(retrieval.CreateCollectionRequest, retrieval.CreateCollectionResponse)
GET_COLLECTION = _rpc(retrieval.GetCollectionRequest, retrieval.GetCollectionResponse)
LIST_COLLECTIONS = _rpc(retrieval.ListCollectionsRequest, retrieval.ListCollectionsResponse)
UPDATE_COLLECTION = _rpc(retrieval.UpdateCollectionRequest, retrieval.UpdateCollectionResponse)
DELETE_COLLECTION = _rpc(retrieval.DeleteCollectionRequest, retrieval.DeleteCollectionResponse)
GET_COLLECTION_STATS = _rpc(
    retrieval.GetCollectionStatsRequest, retrieval.GetCollectionStatsResponse
)
UPSERT_POINTS = _rpc(retrieval.UpsertPointsRequest, retrieval.UpsertPointsResponse)
DELETE_POINTS = _rpc(retrieval.DeletePointsRequest, retrieval.DeletePointsResponse)
GET_POINTS = _rpc(retrieval.GetPointsRequest, retrieval.GetPointsResponse)
LIST_POINTS = _rpc(retrieval.ListPointsRequest, retrieval.ListPointsResponse)
COUNT_POINTS = _rpc(retrieval.CountPointsRequest, retrieval.CountPointsResponse)
SEARCH_COLLECTION = _rpc(retrieval.SearchCollectionRequest, retrieval.SearchCollectionResponse)
BATCH_SEARCH_COLLECTION = _rpc(
    retrieval.BatchSearchCollectionRequest, retrieval.BatchSearchCollectionResponse
)
COMPACT_COLLECTION = _rpc(retrieval.CompactCollectionRequest, retrieval.CompactCollectionResponse)
CREATE_SNAPSHOT = _rpc(retrieval.CreateSnapshotRequest, retrieval.CreateSnapshotResponse)
GET_SNAPSHOT = _rpc(retrieval.GetSnapshotRequest, retrieval.GetSnapshotResponse)
LIST_SNAPSHOTS = _rpc(retrieval.ListSnapshotsRequest, retrieval.ListSnapshotsResponse)
DELETE_SNAPSHOT = _rpc(retrieval.DeleteSnapshotRequest, retrieval.DeleteSnapshotResponse)
RESTORE_SNAPSHOT = _rpc(retrieval.RestoreSnapshotRequest, retrieval.RestoreSnapshotResponse)
EXPORT_SNAPSHOT = _rpc(retrieval.ExportSnapshotRequest, retrieval.ExportSnapshotResponse)
IMPORT_SNAPSHOT = _rpc(retrieval.ImportSnapshotRequest, retrieval.ImportSnapshotResponse)
START_MIGRATION = _rpc(retrieval.StartMigrationRequest, retrieval.StartMigrationResponse)
GET_MIGRATION = _rpc(retrieval.GetMigrationRequest, retrieval.GetMigrationResponse)
FLIP_MIGRATION = _rpc(retrieval.FlipMigrationRequest, retrieval.FlipMigrationResponse)
END_MIGRATION = _rpc(retrieval.EndMigrationRequest, retrieval.EndMigrationResponse)

CREATE_DOCUMENT = _rpc(documents.CreateDocumentRequest, documents.CreateDocumentResponse)
UPLOAD_DOCUMENT = _rpc(documents.UploadDocumentRequest, documents.UploadDocumentResponse)
GET_DOCUMENT = _rpc(documents.GetDocumentRequest, documents.GetDocumentResponse)
LIST_DOCUMENTS = _rpc(documents.ListDocumentsRequest, documents.ListDocumentsResponse)
DELETE_DOCUMENT = _rpc(documents.DeleteDocumentRequest, documents.DeleteDocumentResponse)
REINDEX_DOCUMENT = _rpc(documents.ReindexDocumentRequest, documents.ReindexDocumentResponse)
LIST_PASSAGES = _rpc(documents.ListPassagesRequest, documents.ListPassagesResponse)
GET_INGEST_JOB = _rpc(documents.GetIngestJobRequest, documents.GetIngestJobResponse)
LIST_INGEST_JOBS = _rpc(documents.ListIngestJobsRequest, documents.ListIngestJobsResponse)
CANCEL_INGEST_JOB = _rpc(documents.CancelIngestJobRequest, documents.CancelIngestJobResponse)
RETRY_INGEST_JOB = _rpc(documents.RetryIngestJobRequest, documents.RetryIngestJobResponse)
WATCH_INGEST_JOB = _rpc(documents.WatchIngestJobRequest, documents.WatchIngestJobResponse)

CREATE_SESSION = _rpc(memory.CreateSessionRequest, memory.CreateSessionResponse)
GET_SESSION = _rpc(memory.GetSessionRequest, memory.GetSessionResponse)
LIST_SESSIONS = _rpc(memory.ListSessionsRequest, memory.ListSessionsResponse)
DELETE_SESSION = _rpc(memory.DeleteSessionRequest, memory.DeleteSessionResponse)
APPEND_MESSAGES = _rpc(memory.AppendMessagesRequest, memory.AppendMessagesResponse)
LIST_MESSAGES = _rpc(memory.ListMessagesRequest, memory.ListMessagesResponse)
GET_SESSION_CONTEXT = _rpc(memory.GetSessionContextRequest, memory.GetSessionContextResponse)
CREATE_MEMORY = _rpc(memory.CreateMemoryRequest, memory.CreateMemoryResponse)
REMEMBER_TURNS = _rpc(memory.RememberTurnsRequest, memory.RememberTurnsResponse)
GET_MEMORY = _rpc(memory.GetMemoryRequest, memory.GetMemoryResponse)
LIST_MEMORIES = _rpc(memory.ListMemoriesRequest, memory.ListMemoriesResponse)
UPDATE_MEMORY = _rpc(memory.UpdateMemoryRequest, memory.UpdateMemoryResponse)
DELETE_MEMORY = _rpc(memory.DeleteMemoryRequest, memory.DeleteMemoryResponse)
RECALL_MEMORIES = _rpc(memory.RecallMemoriesRequest, memory.RecallMemoriesResponse)
GET_MEMORY_HISTORY = _rpc(memory.GetMemoryHistoryRequest, memory.GetMemoryHistoryResponse)
UNDO_MEMORY = _rpc(memory.UndoMemoryRequest, memory.UndoMemoryResponse)
CONSOLIDATE_MEMORIES = _rpc(memory.ConsolidateMemoriesRequest, memory.ConsolidateMemoriesResponse)
ERASE_SUBJECT = _rpc(memory.EraseSubjectRequest, memory.EraseSubjectResponse)

GENERATE_TEXT = _rpc(generation.GenerateTextRequest, generation.GenerateTextResponse)
STREAM_GENERATE_TEXT = _rpc(
    generation.StreamGenerateTextRequest, generation.StreamGenerateTextResponse
)
LIST_GENERATION_MODELS = _rpc(
    generation.ListGenerationModelsRequest, generation.ListGenerationModelsResponse
)
GET_GENERATION_MODEL = _rpc(
    generation.GetGenerationModelRequest, generation.GetGenerationModelResponse
)
ESTIMATE_COST = _rpc(generation.EstimateCostRequest, generation.EstimateCostResponse)
SET_BUDGET = _rpc(generation.SetBudgetRequest, generation.SetBudgetResponse)
GET_BUDGET = _rpc(generation.GetBudgetRequest, generation.GetBudgetResponse)
LIST_BUDGETS = _rpc(generation.ListBudgetsRequest, generation.ListBudgetsResponse)
DELETE_BUDGET = _rpc(generation.DeleteBudgetRequest, generation.DeleteBudgetResponse)

ASK_QUESTION = _rpc(chat.AskQuestionRequest, chat.AskQuestionResponse)
STREAM_ANSWER = _rpc(chat.StreamAnswerRequest, chat.StreamAnswerResponse)
