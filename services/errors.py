"""The one table of errors: domain error → gRPC code, reason and advice on retrying.

Every class of `engine/errors.py` that is raised has exactly one row, found by its nearest class;
a test compares the table with the tree and with `errors/v1/reason.proto`. Reasons are API,
sentences are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

from engine import errors as e

DOMAIN = "ragmesh"
Code = grpc.StatusCode


class Retry(Enum):
    """What a caller should do about a failure."""

    NEVER = "never"
    """The same request fails again."""
    LATER = "later"
    """The same request may succeed after `retry_after_s`."""
    SAFE_ONLY = "safe_only"
    """Try again if the call is idempotent or carries a request_id."""


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of failure looks on the wire."""

    code: grpc.StatusCode
    reason: str
    retry: Retry = Retry.NEVER


TABLE: dict[type[BaseException], Row] = {
    e.InvalidField: Row(Code.INVALID_ARGUMENT, "INVALID_FIELD"),
    e.InvalidVector: Row(Code.INVALID_ARGUMENT, "INVALID_VECTOR"),
    e.InvalidFilter: Row(Code.INVALID_ARGUMENT, "INVALID_FILTER"),
    e.InvalidPageToken: Row(Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"),
    e.MalformedMessage: Row(Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE"),
    e.TextTooLong: Row(Code.INVALID_ARGUMENT, "TEXT_TOO_LONG"),
    e.UnsupportedMediaType: Row(Code.INVALID_ARGUMENT, "UNSUPPORTED_MEDIA_TYPE"),
    e.DocumentUnreadable: Row(Code.INVALID_ARGUMENT, "DOCUMENT_UNREADABLE"),
    e.ParserLimitExceeded: Row(Code.INVALID_ARGUMENT, "PARSER_LIMIT_EXCEEDED"),
    e.CollectionNotFound: Row(Code.NOT_FOUND, "COLLECTION_NOT_FOUND"),
    e.DocumentNotFound: Row(Code.NOT_FOUND, "DOCUMENT_NOT_FOUND"),
    e.IngestJobNotFound: Row(Code.NOT_FOUND, "INGEST_JOB_NOT_FOUND"),
    e.EmbeddingModelNotFound: Row(Code.NOT_FOUND, "EMBEDDING_MODEL_NOT_FOUND"),
    e.GenerationModelNotFound: Row(Code.NOT_FOUND, "GENERATION_MODEL_NOT_FOUND"),
    e.PointNotFound: Row(Code.NOT_FOUND, "POINT_NOT_FOUND"),
    e.SnapshotNotFound: Row(Code.NOT_FOUND, "SNAPSHOT_NOT_FOUND"),
    e.MigrationNotFound: Row(Code.NOT_FOUND, "MIGRATION_NOT_FOUND"),
    e.BudgetNotFound: Row(Code.NOT_FOUND, "BUDGET_NOT_FOUND"),
    e.SessionNotFound: Row(Code.NOT_FOUND, "SESSION_NOT_FOUND"),
    e.MemoryNotFound: Row(Code.NOT_FOUND, "MEMORY_NOT_FOUND"),
    e.MessageNotFound: Row(Code.NOT_FOUND, "MESSAGE_NOT_FOUND"),
    e.MethodNotFound: Row(Code.UNIMPLEMENTED, "METHOD_NOT_FOUND"),
    e.CollectionExists: Row(Code.ALREADY_EXISTS, "COLLECTION_EXISTS"),
    e.DocumentExists: Row(Code.ALREADY_EXISTS, "DOCUMENT_EXISTS"),
    e.SnapshotExists: Row(Code.ALREADY_EXISTS, "SNAPSHOT_EXISTS"),
    e.MigrationExists: Row(Code.ALREADY_EXISTS, "MIGRATION_EXISTS"),
    e.MemoryExists: Row(Code.ALREADY_EXISTS, "MEMORY_EXISTS"),
    e.SessionExists: Row(Code.ALREADY_EXISTS, "SESSION_EXISTS"),
    e.RequestIdReused: Row(Code.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
    e.DimensionMismatch: Row(Code.FAILED_PRECONDITION, "DIMENSION_MISMATCH"),
    e.FingerprintMismatch: Row(Code.FAILED_PRECONDITION, "FINGERPRINT_MISMATCH"),
    e.CollectionNotEmpty: Row(Code.FAILED_PRECONDITION, "COLLECTION_NOT_EMPTY"),
    e.MigrationNotReady: Row(Code.FAILED_PRECONDITION, "MIGRATION_NOT_READY"),
    e.ProviderMissing: Row(Code.FAILED_PRECONDITION, "PROVIDER_MISSING"),
    e.RecallTooLow: Row(Code.FAILED_PRECONDITION, "RECALL_TOO_LOW"),
    e.MemoryChanged: Row(Code.FAILED_PRECONDITION, "MEMORY_CHANGED"),
    e.IngestJobFinished: Row(Code.FAILED_PRECONDITION, "INGEST_JOB_FINISHED"),
    e.OutputInvalid: Row(Code.FAILED_PRECONDITION, "OUTPUT_INVALID"),
    e.PriceMissing: Row(Code.FAILED_PRECONDITION, "PRICE_MISSING"),
    e.ModelTaskMismatch: Row(Code.FAILED_PRECONDITION, "MODEL_TASK_MISMATCH"),
    e.NoEmbeddingModel: Row(Code.FAILED_PRECONDITION, "NO_EMBEDDING_MODEL"),
    e.TokenStoreMissing: Row(Code.FAILED_PRECONDITION, "TOKEN_STORE_MISSING"),
    e.MessageTooLarge: Row(Code.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
    e.QueueFull: Row(Code.RESOURCE_EXHAUSTED, "QUEUE_FULL", Retry.LATER),
    e.ModelMemoryFull: Row(Code.RESOURCE_EXHAUSTED, "MODEL_MEMORY_FULL", Retry.LATER),
    e.IndexMemoryFull: Row(Code.RESOURCE_EXHAUSTED, "INDEX_MEMORY_FULL", Retry.LATER),
    e.RateLimited: Row(Code.RESOURCE_EXHAUSTED, "RATE_LIMITED", Retry.LATER),
    e.BudgetExceeded: Row(Code.RESOURCE_EXHAUSTED, "BUDGET_EXCEEDED"),
    e.LimitReached: Row(Code.RESOURCE_EXHAUSTED, "LIMIT_REACHED"),
    e.NodeDraining: Row(Code.UNAVAILABLE, "NODE_DRAINING", Retry.SAFE_ONLY),
    e.StoreUnavailable: Row(Code.UNAVAILABLE, "STORE_UNAVAILABLE", Retry.SAFE_ONLY),
    e.IndexUnavailable: Row(Code.UNAVAILABLE, "INDEX_UNAVAILABLE", Retry.SAFE_ONLY),
    e.ServiceUnavailable: Row(Code.UNAVAILABLE, "SERVICE_UNAVAILABLE", Retry.SAFE_ONLY),
    e.ModelUnavailable: Row(Code.UNAVAILABLE, "MODEL_UNAVAILABLE", Retry.SAFE_ONLY),
    e.UpstreamFailed: Row(Code.UNAVAILABLE, "UPSTREAM_FAILED", Retry.SAFE_ONLY),
    e.DeadlineExceeded: Row(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    e.Cancelled: Row(Code.CANCELLED, "CANCELLED"),
    e.DataLoss: Row(Code.DATA_LOSS, "DATA_CORRUPTED"),
}

INTERNAL = Row(Code.INTERNAL, "INTERNAL")


def row_of(error: BaseException) -> Row:
    """The row of an error: its own class's, else its nearest base's, else INTERNAL."""
    for cls in type(error).__mro__:
        if cls in TABLE:
            return TABLE[cls]
    return INTERNAL


MESSAGE_BYTES_MAX = 1_200
METADATA_BYTES_MAX = 200
"""A sentence is sent three times, each value once, all as headers: gRPC may refuse these beyond
8 KiB, and then the caller sees only that the stream was removed."""


def to_status(error: BaseException, request_id: str) -> status_pb2.Status:
    """The wire form of an error: a sentence, ErrorInfo, and what else helps.

    What is not a RagmeshError is our bug and is not explained: the caller gets the request id,
    under which the log has the rest.
    """
    row = row_of(error)
    expected = isinstance(error, e.RagmeshError) and row is not INTERNAL
    message = (
        error.message
        if expected and isinstance(error, e.RagmeshError)
        else f"Internal error. The log has it under request id {request_id}."
    )
    message = _short(message, MESSAGE_BYTES_MAX)
    info = error_details_pb2.ErrorInfo(reason=row.reason, domain=DOMAIN)
    info.metadata["request_id"] = request_id
    details: list[error_details_pb2.ErrorInfo | error_details_pb2.BadRequest] = [info]
    status = status_pb2.Status(code=row.code.value[0], message=message)
    if expected and isinstance(error, e.RagmeshError):
        for name, value in error.metadata.items():
            info.metadata[name] = _short(value, METADATA_BYTES_MAX)
        if error.field:
            bad = error_details_pb2.BadRequest()
            bad.field_violations.add(field=error.field, description=message, reason=row.reason)
            details.append(bad)
    for detail in details:
        status.details.append(_pack(detail))
    if isinstance(error, e.RagmeshError) and error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after_s * 1000))
        packed = Any()
        packed.Pack(retry)
        status.details.append(packed)
    return status


def _short(text: str, bytes_max: int) -> str:
    """A text of at most so many bytes of UTF-8, and an ellipsis where there was more."""
    data = text.encode(errors="replace")
    if len(data) <= bytes_max:
        return data.decode()
    return data[:bytes_max].decode(errors="ignore") + "…"


def _pack(detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed


def from_status(status: status_pb2.Status) -> e.RagmeshError:
    """The domain error that a sibling's status stands for, so that both ways of calling raise
    the same class. An unknown reason becomes ServiceUnavailable or a plain RagmeshError."""
    by_reason = {row.reason: cls for cls, row in TABLE.items()}
    reason, metadata, field, retry_after_s = "", {}, "", None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            field = bad.field_violations[0].field if bad.field_violations else ""
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    cls = by_reason.get(reason)
    if cls is None or not issubclass(cls, e.RagmeshError):
        cls = _BY_CODE.get(status.code, e.RagmeshError)
    metadata.pop("request_id", None)
    return cls(status.message, field=field, metadata=metadata, retry_after_s=retry_after_s)


# Statuses that carry no reason of ours come from the transport itself.
_BY_CODE: dict[int, type[e.RagmeshError]] = {
    Code.UNAVAILABLE.value[0]: e.ServiceUnavailable,
    Code.DEADLINE_EXCEEDED.value[0]: e.DeadlineExceeded,
    Code.CANCELLED.value[0]: e.Cancelled,
    Code.UNIMPLEMENTED.value[0]: e.MethodNotFound,
    Code.RESOURCE_EXHAUSTED.value[0]: e.MessageTooLarge,
}
