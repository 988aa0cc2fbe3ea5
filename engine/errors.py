"""Every failure that ragmesh expects, and what a caller can do about it.

    RagmeshError
    ├── InvalidArgument              wrong whatever the state: change the request
    │   ├── InvalidField             a field is missing, too long, out of range …
    │   ├── InvalidVector            not finite, empty or of norm zero
    │   ├── InvalidFilter            a filter that cannot be read
    │   ├── InvalidPageToken         a page token of another list, or a damaged one
    │   ├── MalformedMessage         bytes that are no such message
    │   ├── TextTooLong              more tokens than the model reads, and truncation refused
    │   └── UnsupportedMediaType     no parser reads this kind of file
    ├── NotFound
    │   ├── CollectionNotFound  DocumentNotFound  IngestJobNotFound
    │   ├── EmbeddingModelNotFound  GenerationModelNotFound
    │   ├── PointNotFound            a point that a search starts from
    │   ├── SnapshotNotFound  MigrationNotFound  SessionNotFound  BudgetNotFound
    │   ├── MessageNotFound          no such message in the session
    │   ├── MemoryNotFound           no such memory, or it was deleted
    │   └── MethodNotFound
    ├── AlreadyExists
    │   ├── CollectionExists  DocumentExists  SnapshotExists  MigrationExists  SessionExists
    │   ├── MemoryExists             a memory of this id, or a block of this label
    │   └── RequestIdReused          the same request_id with another payload
    ├── FailedPrecondition           wrong for the present state: change the state, or the request
    │   ├── DimensionMismatch        a vector of another length than the collection's
    │   ├── FingerprintMismatch      a vector of another space than the collection's
    │   ├── ModelTaskMismatch        a cross-encoder asked for vectors, and the like
    │   ├── NoEmbeddingModel         text for a collection that has only vectors
    │   ├── TokenStoreMissing        reranking by tokens that the collection does not keep
    │   ├── CollectionNotEmpty       what was asked would lose points
    │   ├── MigrationNotReady        the second index has not what the first one has
    │   ├── RecallTooLow             searches would find less, so nothing was changed
    │   ├── MemoryChanged            another version than the one that was read
    │   ├── IngestJobFinished        too late to cancel it, or nothing to try again
    │   ├── OutputInvalid            a model's text that does not fit the schema, told so or not
    │   ├── PriceMissing             a budget of money, and a model without a price
    │   └── ProviderMissing          an execution provider that this machine does not offer
    ├── Exhausted                    ask for less, or later
    │   ├── MessageTooLarge          over the size limit
    │   ├── QueueFull                refused before queueing; `retry_after_s` says when to come back
    │   ├── ModelMemoryFull          no memory for another model while the loaded ones have work
    │   ├── IndexMemoryFull          no memory for more points; deletes and searches still pass
    │   ├── RateLimited              too often for the collection; `retry_after_s` is set
    │   ├── BudgetExceeded           what is left of a budget is not enough
    │   └── LimitReached             a limit of the collection or the tenant
    ├── Unavailable                  nothing is wrong with the request: try again
    │   ├── NodeDraining  StoreUnavailable  ServiceUnavailable  ModelUnavailable
    │   ├── IndexUnavailable         the index could not be built yet
    │   └── UpstreamFailed           the generation endpoint behind us failed
    ├── DeadlineExceeded
    ├── Cancelled
    ├── DocumentUnreadable           the parser gave up on a file; the job says why
    │   └── ParserLimitExceeded      … because of its memory, time or output limit
    └── DataLoss                     stored data does not match its checksum

Codes, reasons and retry advice are chosen in one place, `services/errors.py`.
Anything that is not a RagmeshError is our bug: logged, never explained to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping


class RagmeshError(Exception):
    """A failure with a sentence for people and data for programs.

    `message` names the value, the bound and the next step. Every variable in it is also in
    `metadata`. `field` is the path of the request field at fault, if one is. `retry_after_s`
    is set where waiting helps, in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        metadata: Mapping[str, str | int | float] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.metadata: dict[str, str] = {k: str(v) for k, v in (metadata or {}).items()}
        self.retry_after_s = retry_after_s


class InvalidArgument(RagmeshError):
    """The request is wrong whatever the state."""


class InvalidField(InvalidArgument):
    """A request field is missing, too long, out of range or of the wrong form."""


class InvalidVector(InvalidArgument):
    """A vector is not finite, empty, or has norm zero."""


class InvalidFilter(InvalidArgument):
    """A filter cannot be read, or compares values of different kinds."""


class InvalidPageToken(InvalidArgument):
    """A page token does not belong to this list, or is damaged."""


class MalformedMessage(InvalidArgument):
    """The bytes received do not decode as the message of this method."""


class TextTooLong(InvalidArgument):
    """A text has more tokens than the model reads and truncation was not allowed."""


class UnsupportedMediaType(InvalidArgument):
    """No parser reads this kind of file."""


class NotFound(RagmeshError):
    """What was named does not exist for this tenant."""


class CollectionNotFound(NotFound):
    """No collection of this name."""


class DocumentNotFound(NotFound):
    """No document of this name."""


class IngestJobNotFound(NotFound):
    """No ingest job of this name."""


class EmbeddingModelNotFound(NotFound):
    """No embedding model of this name is loaded."""


class GenerationModelNotFound(NotFound):
    """No generation model of this name is configured."""


class SessionNotFound(NotFound):
    """No session of this name, or its time is over."""


class MemoryNotFound(NotFound):
    """No memory of this name."""


class MessageNotFound(NotFound):
    """No message of this index in the session."""


class PointNotFound(NotFound):
    """No point of this id in the collection."""


class SnapshotNotFound(NotFound):
    """No snapshot of this name."""


class MigrationNotFound(NotFound):
    """The collection is not being migrated."""


class BudgetNotFound(NotFound):
    """No budget of this name."""


class MethodNotFound(NotFound):
    """No such method, or a method of a service that this node does not host."""


class AlreadyExists(RagmeshError):
    """What should be made is there already."""


class CollectionExists(AlreadyExists):
    """A collection of this name exists."""


class DocumentExists(AlreadyExists):
    """A document of this name exists."""


class SnapshotExists(AlreadyExists):
    """A snapshot of this name exists."""


class MigrationExists(AlreadyExists):
    """The collection is being migrated already."""


class MemoryExists(AlreadyExists):
    """A memory of this id exists, or the subject has a block of this label."""


class SessionExists(AlreadyExists):
    """A session of this id exists already."""


class RequestIdReused(AlreadyExists):
    """This request_id was used with another payload."""


class FailedPrecondition(RagmeshError):
    """The request does not fit the present state."""


class DimensionMismatch(FailedPrecondition):
    """A vector's length is not the collection's."""


class FingerprintMismatch(FailedPrecondition):
    """A vector comes from another embedding space than the collection's."""


class ModelTaskMismatch(FailedPrecondition):
    """The model cannot do what is asked: a cross-encoder has no vectors."""


class NoEmbeddingModel(FailedPrecondition):
    """The collection has no embedding model, so it cannot embed text."""


class TokenStoreMissing(FailedPrecondition):
    """The collection keeps no token vectors to rerank by."""


class CollectionNotEmpty(FailedPrecondition):
    """The change would lose points that the collection holds."""


class MigrationNotReady(FailedPrecondition):
    """The second index has not everything that the first one has, or cannot."""


class RecallTooLow(FailedPrecondition):
    """With what was asked for, searches would find less than they have to; nothing was changed."""


class IngestJobFinished(FailedPrecondition):
    """The ingest job is over: it cannot be cancelled, or not be tried again."""


class OutputInvalid(FailedPrecondition):
    """What a model wrote does not fit the schema that was asked for, even after it was told so."""


class PriceMissing(FailedPrecondition):
    """A budget of money applies to a model that the price file does not name."""


class MemoryChanged(FailedPrecondition):
    """The memory is at another version than the one that the change is made of."""


class ProviderMissing(FailedPrecondition):
    """The execution provider asked for is not offered by the installed onnxruntime."""


class Exhausted(RagmeshError):
    """A bound was met."""


class MessageTooLarge(Exhausted):
    """A message is over the size limit."""


class QueueFull(Exhausted):
    """Refused before queueing; `retry_after_s` is computed from the queue."""


class ModelMemoryFull(Exhausted):
    """The models' memory budget is taken by models that have work; `retry_after_s` is set."""


class IndexMemoryFull(Exhausted):
    """The indexes' memory budget of the node is used up: it takes no more points."""


class RateLimited(Exhausted):
    """More requests a second than the collection takes; `retry_after_s` is set."""


class BudgetExceeded(Exhausted):
    """What is left of a budget is not enough for what was asked."""


class LimitReached(Exhausted):
    """A limit of the collection, the session or the tenant."""


class Unavailable(RagmeshError):
    """The request is fine and may be tried again."""


class NodeDraining(Unavailable):
    """This node finishes what it has and takes nothing new."""


class StoreUnavailable(Unavailable):
    """PostgreSQL, or the object store beside it, does not answer."""


class IndexUnavailable(Unavailable):
    """The collection's index could not be brought up to date; it is tried again."""


class ServiceUnavailable(Unavailable):
    """No node serves this service now."""


class ModelUnavailable(Unavailable):
    """The model is not loaded yet."""


class UpstreamFailed(Unavailable):
    """The generation endpoint behind ragmesh failed."""


class DeadlineExceeded(RagmeshError):
    """The caller's deadline passed, or cannot be met."""


class Cancelled(RagmeshError):
    """The caller went away."""


class DocumentUnreadable(RagmeshError):
    """A file could not be parsed: empty, encrypted, broken."""


class ParserLimitExceeded(DocumentUnreadable):
    """A parser met its limit of memory, time or output."""


class DataLoss(RagmeshError):
    """Stored data does not match its checksum."""
