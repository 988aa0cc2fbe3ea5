"""Every failure that a call can end with. Match the class, or `error.reason`; never the sentence.

    RagmeshError
    ├── InvalidArgument              wrong whatever the state: change the request
    │   ├── InvalidField  InvalidVector  InvalidFilter  InvalidPageToken  MalformedMessage
    │   ├── TextTooLong              more tokens than the model reads, and `truncate` was off
    │   ├── UnsupportedMediaType
    │   └── DocumentUnreadable       the parser gave up on a file
    │       └── ParserLimitExceeded  … because of its memory, time or output limit
    ├── NotFound
    │   ├── CollectionNotFound  DocumentNotFound  IngestJobNotFound  PointNotFound  SnapshotNotFound
    │   ├── MigrationNotFound        the collection is not being migrated
    │   ├── BudgetNotFound
    │   ├── SessionNotFound          or its time is over
    │   ├── MemoryNotFound           no such memory, or it was deleted
    │   ├── MessageNotFound          no message of this index in the session
    │   ├── EmbeddingModelNotFound  GenerationModelNotFound
    │   └── MethodNotFound           the server is older than this client, or hosts no such service
    ├── AlreadyExists
    │   ├── CollectionExists  DocumentExists  SnapshotExists  MigrationExists  SessionExists
    │   ├── MemoryExists             a memory of this id, or a block of this label
    │   └── RequestIdReused          the same request_id with another payload
    ├── FailedPrecondition           wrong for the present state: change the state, or the request
    │   ├── DimensionMismatch  FingerprintMismatch  CollectionNotEmpty
    │   ├── RecallTooLow             searches would find less, so nothing was changed
    │   ├── MemoryChanged            another version than the one that was read
    │   ├── IngestJobFinished        too late to cancel it, or nothing to try again
    │   ├── MigrationNotReady        the second index has not what the first one has
    │   ├── TokenStoreMissing        reranking by tokens that the collection does not keep
    │   ├── OutputInvalid            the model's text does not fit the schema, even when told so
    │   ├── PriceMissing             a budget of money, and a model without a price
    │   └── ProviderMissing  NoEmbeddingModel  ModelTaskMismatch
    ├── Exhausted                    ask for less, or later
    │   ├── MessageTooLarge          over 16 MiB (an upload: 256 MiB); also raised before sending
    │   ├── QueueFull  RateLimited   `retry_after_s` says when to come back
    │   ├── ModelMemoryFull  IndexMemoryFull   no memory for another model, or for more points
    │   ├── BudgetExceeded           what is left of a budget is not enough
    │   └── LimitReached             a limit of the collection, the session or the tenant
    ├── Unavailable                  nothing is wrong with the request: try again
    │   ├── NodeDraining  StoreUnavailable  ServiceUnavailable  ModelUnavailable  UpstreamFailed
    │   ├── IndexUnavailable         the collection's index is not built yet
    │   └── StreamCut                a stream ended without its last event
    ├── DeadlineExceeded             `timeout_s` ran out
    ├── Cancelled                    by the caller, or because the client was closed meanwhile
    ├── ClientClosed                 a call on a client after `close()`
    ├── PermissionDenied  Unauthenticated
    ├── DataLoss ── DataCorrupted    stored data does not match its checksum
    └── Internal                     a bug of ragmesh: report it with `request_id`

What to write:

    try:
        client.search_collection("papers", "how fast is it?")
    except ragmesh.RagmeshError as error:
        log(error.reason, error.request_id, error)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field of the request; `field` is its path, such as `points[3].id`."""

    field: str
    description: str


class RagmeshError(Exception):
    """The base of every failure of this package.

    `reason` is the contract's reason (`COLLECTION_NOT_FOUND`; empty where only a transport's code
    is known). `metadata` holds every variable of the message. `retry_after_s` is set
    where the server says when to come back, in seconds. `request_id` finds the call in the
    server's logs; it is empty if nothing was sent. `__cause__` is the transport's own exception,
    if there was one.
    """

    reason: str = ""

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        field_violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = type(self).reason if reason is None else reason
        self.metadata: dict[str, str] = dict(metadata or {})
        self.field_violations = tuple(field_violations)
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class InvalidArgument(RagmeshError):
    """The request is wrong whatever the state."""


class InvalidField(InvalidArgument):
    """A field is missing, too long, out of range or of the wrong form."""

    reason = "INVALID_FIELD"


class InvalidVector(InvalidArgument):
    """A vector is empty, not finite, of norm zero, or not a flat list of numbers."""

    reason = "INVALID_VECTOR"


class InvalidFilter(InvalidArgument):
    """A filter cannot be read."""

    reason = "INVALID_FILTER"


class InvalidPageToken(InvalidArgument):
    """A page token is damaged or of another list."""

    reason = "INVALID_PAGE_TOKEN"


class MalformedMessage(InvalidArgument):
    """The server could not read the message."""

    reason = "MALFORMED_MESSAGE"


class TextTooLong(InvalidArgument):
    """A text has more tokens than the model reads, and `truncate` was off."""

    reason = "TEXT_TOO_LONG"


class UnsupportedMediaType(InvalidArgument):
    """No parser reads this kind of file."""

    reason = "UNSUPPORTED_MEDIA_TYPE"


class DocumentUnreadable(InvalidArgument):
    """A file could not be parsed."""

    reason = "DOCUMENT_UNREADABLE"


class ParserLimitExceeded(DocumentUnreadable):
    """A parser met its limit of memory, time or output."""

    reason = "PARSER_LIMIT_EXCEEDED"


class NotFound(RagmeshError):
    """What was named does not exist."""


class CollectionNotFound(NotFound):
    """No collection of this name."""

    reason = "COLLECTION_NOT_FOUND"


class DocumentNotFound(NotFound):
    """No document of this name."""

    reason = "DOCUMENT_NOT_FOUND"


class IngestJobNotFound(NotFound):
    """No ingest job of this name."""

    reason = "INGEST_JOB_NOT_FOUND"


class SessionNotFound(NotFound):
    """No session of this name, or its time is over."""

    reason = "SESSION_NOT_FOUND"


class MemoryNotFound(NotFound):
    """No memory of this name, or it was deleted."""

    reason = "MEMORY_NOT_FOUND"


class MessageNotFound(NotFound):
    """No message of this index in the session."""

    reason = "MESSAGE_NOT_FOUND"


class PointNotFound(NotFound):
    """The point that a search starts from does not exist."""

    reason = "POINT_NOT_FOUND"


class SnapshotNotFound(NotFound):
    """No snapshot of this name."""

    reason = "SNAPSHOT_NOT_FOUND"


class MigrationNotFound(NotFound):
    """The collection is not being migrated."""

    reason = "MIGRATION_NOT_FOUND"


class EmbeddingModelNotFound(NotFound):
    """No embedding model of this name is served."""

    reason = "EMBEDDING_MODEL_NOT_FOUND"


class GenerationModelNotFound(NotFound):
    """No generation model of this name is configured."""

    reason = "GENERATION_MODEL_NOT_FOUND"


class BudgetNotFound(NotFound):
    """No budget of this name."""

    reason = "BUDGET_NOT_FOUND"


class MethodNotFound(NotFound):
    """The server has no such method: it is older than this client, or hosts no such service."""

    reason = "METHOD_NOT_FOUND"


class AlreadyExists(RagmeshError):
    """What should be made is there already."""


class CollectionExists(AlreadyExists):
    """A collection of this name exists."""

    reason = "COLLECTION_EXISTS"


class DocumentExists(AlreadyExists):
    """A document of this name exists."""

    reason = "DOCUMENT_EXISTS"


class SnapshotExists(AlreadyExists):
    """A snapshot of this name exists."""

    reason = "SNAPSHOT_EXISTS"


class MigrationExists(AlreadyExists):
    """The collection is being migrated already."""

    reason = "MIGRATION_EXISTS"


class MemoryExists(AlreadyExists):
    """A memory of this id exists, or the subject has a block of this label."""

    reason = "MEMORY_EXISTS"


class SessionExists(AlreadyExists):
    """A session of this id exists already."""

    reason = "SESSION_EXISTS"


class RequestIdReused(AlreadyExists):
    """This request_id was used with another payload."""

    reason = "REQUEST_ID_REUSED"


class FailedPrecondition(RagmeshError):
    """The request does not fit the present state."""


class DimensionMismatch(FailedPrecondition):
    """A vector's length is not the collection's."""

    reason = "DIMENSION_MISMATCH"


class FingerprintMismatch(FailedPrecondition):
    """A vector of another space than the collection's."""

    reason = "FINGERPRINT_MISMATCH"


class CollectionNotEmpty(FailedPrecondition):
    """The change would lose points."""

    reason = "COLLECTION_NOT_EMPTY"


class RecallTooLow(FailedPrecondition):
    """With what was asked for, searches would find less than they have to; nothing was changed."""

    reason = "RECALL_TOO_LOW"


class MigrationNotReady(FailedPrecondition):
    """The second index has not, or cannot have, everything that the first one has."""

    reason = "MIGRATION_NOT_READY"


class MemoryChanged(FailedPrecondition):
    """The memory is at another version than the one that was read."""

    reason = "MEMORY_CHANGED"


class IngestJobFinished(FailedPrecondition):
    """The ingest job is over: it cannot be cancelled, or not be tried again."""

    reason = "INGEST_JOB_FINISHED"


class OutputInvalid(FailedPrecondition):
    """What the model wrote does not fit `output_schema`, even after it was told so."""

    reason = "OUTPUT_INVALID"


class PriceMissing(FailedPrecondition):
    """A budget of money applies, and the model has no price."""

    reason = "PRICE_MISSING"


class ProviderMissing(FailedPrecondition):
    """An execution provider that the machine does not offer."""

    reason = "PROVIDER_MISSING"


class NoEmbeddingModel(FailedPrecondition):
    """The collection has no embedding model, so it cannot embed text."""

    reason = "NO_EMBEDDING_MODEL"


class TokenStoreMissing(FailedPrecondition):
    """The collection keeps no token vectors to rerank by."""

    reason = "TOKEN_STORE_MISSING"


class ModelTaskMismatch(FailedPrecondition):
    """The model cannot do what is asked, such as embed with a cross-encoder."""

    reason = "MODEL_TASK_MISMATCH"


class Exhausted(RagmeshError):
    """Ask for less, or later."""


class MessageTooLarge(Exhausted):
    """A request or an answer is over the size limit."""

    reason = "MESSAGE_TOO_LARGE"


class QueueFull(Exhausted):
    """Refused before queueing; `retry_after_s` says when to come back."""

    reason = "QUEUE_FULL"


class ModelMemoryFull(Exhausted):
    """No memory for another model while those that are loaded have work."""

    reason = "MODEL_MEMORY_FULL"


class IndexMemoryFull(Exhausted):
    """No memory for more points on the node; deletes and searches still pass."""

    reason = "INDEX_MEMORY_FULL"


class BudgetExceeded(Exhausted):
    """What is left of a budget is not enough for the answer."""

    reason = "BUDGET_EXCEEDED"


class LimitReached(Exhausted):
    """A limit of the collection or the tenant."""

    reason = "LIMIT_REACHED"


class RateLimited(Exhausted):
    """The gateway's rate limit, or the collection's."""

    reason = "RATE_LIMITED"


class Unavailable(RagmeshError):
    """Nothing is wrong with the request: try again."""


class NodeDraining(Unavailable):
    """The node finishes what it has and takes no more."""

    reason = "NODE_DRAINING"


class StoreUnavailable(Unavailable):
    """The server's database does not answer."""

    reason = "STORE_UNAVAILABLE"


class IndexUnavailable(Unavailable):
    """The collection's index could not be brought up to date; the node tries again."""

    reason = "INDEX_UNAVAILABLE"


class ServiceUnavailable(Unavailable):
    """No node serves this service now."""

    reason = "SERVICE_UNAVAILABLE"


class ModelUnavailable(Unavailable):
    """The model is not loaded yet."""

    reason = "MODEL_UNAVAILABLE"


class UpstreamFailed(Unavailable):
    """The generation endpoint behind ragmesh failed."""

    reason = "UPSTREAM_FAILED"


class StreamCut(Unavailable):
    """A stream ended without its last event: what came before is not the whole."""


class DeadlineExceeded(RagmeshError):
    """`timeout_s` ran out."""

    reason = "DEADLINE_EXCEEDED"


class Cancelled(RagmeshError):
    """The call was cancelled, or what it waited for was."""

    reason = "CANCELLED"


class ClientClosed(RagmeshError):
    """The client was closed before this call."""


class PermissionDenied(RagmeshError):
    """The caller may not do this."""


class Unauthenticated(RagmeshError):
    """The server does not know who calls."""


class DataLoss(RagmeshError):
    """Data is lost."""


class DataCorrupted(DataLoss):
    """Stored data does not match its checksum."""

    reason = "DATA_CORRUPTED"


class Internal(RagmeshError):
    """A bug of ragmesh: report it with `request_id`."""

    reason = "INTERNAL"


def _family(base: type[RagmeshError]) -> Iterator[type[RagmeshError]]:
    yield base
    for child in base.__subclasses__():
        yield from _family(child)


# Every class of the tree that stands for one reason of the contract.
CLASS_BY_REASON: dict[str, type[RagmeshError]] = {
    c.__dict__["reason"]: c for c in _family(RagmeshError) if c.__dict__.get("reason")
}
