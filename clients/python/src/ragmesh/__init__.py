"""ragmesh: retrieval-augmented generation behind one gRPC contract.

    from ragmesh import Client, Field, Point

    with Client("localhost:50051") as client:
        client.create_collection("papers")
        stored = client.upload_document("papers", "paper.pdf")
        client.wait_for_ingest_job(stored.ingest_job.name)

        answer = client.ask_question("How fast is it?", "papers")
        print(answer.text, [citation.quote for citation in answer.citations])

        result = client.search_collection("papers", "speed", filter=Field("year") >= 2020)
        for hit in result.hits:
            print(hit.score, hit.point.text)

        for collection in client.list_collections():
            print(collection.name)

`AsyncClient` has the same methods, awaited. Every failure is a RagmeshError; `_errors` draws the
tree. Reads see this client's own writes.
"""

from __future__ import annotations

from ragmesh._async import (
    AsyncListing,
    AsyncStream,
)
from ragmesh._async_client import (
    AsyncClient,
)
from ragmesh._channel import VERSION as __version__
from ragmesh._client import (
    Client,
)
from ragmesh._errors import (
    AlreadyExists,
    Cancelled,
    ClientClosed,
    CollectionExists,
    CollectionNotEmpty,
    CollectionNotFound,
    DataCorrupted,
    DataLoss,
    DeadlineExceeded,
    DimensionMismatch,
    DocumentExists,
    DocumentNotFound,
    DocumentUnreadable,
    EmbeddingModelNotFound,
    Exhausted,
    FailedPrecondition,
    FieldViolation,
    FingerprintMismatch,
    GenerationModelNotFound,
    IndexMemoryFull,
    IndexUnavailable,
    IngestJobNotFound,
    Internal,
    InvalidArgument,
    InvalidField,
    InvalidFilter,
    InvalidPageToken,
    InvalidVector,
    LimitReached,
    MalformedMessage,
    MessageTooLarge,
    MethodNotFound,
    ModelMemoryFull,
    ModelTaskMismatch,
    ModelUnavailable,
    NodeDraining,
    NoEmbeddingModel,
    NotFound,
    ParserLimitExceeded,
    PermissionDenied,
    PointNotFound,
    ProviderMissing,
    QueueFull,
    RagmeshError,
    RateLimited,
    RequestIdReused,
    ServiceUnavailable,
    StoreUnavailable,
    StreamCut,
    TextTooLong,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
    UpstreamFailed,
)
from ragmesh._filters import (
    Field,
    Filter,
)
from ragmesh._plan import (
    Page,
)
from ragmesh._session import (
    Lane,
)
from ragmesh._sync import (
    Listing,
    Stream,
)
from ragmesh._types.answers import (
    AbstentionReason,
    Answer,
    AnswerEvent,
    AnswerStarted,
    AnswerTimings,
    Backend,
    Citation,
    GeneratedText,
    GenerationEvent,
    GenerationModel,
    GenerationStarted,
    SourcePassage,
    TextDelta,
    Usage,
)
from ragmesh._types.documents import (
    Document,
    DocumentState,
    IngestJob,
    IngestJobStage,
    IngestJobState,
    Passage,
    StoredDocument,
)
from ragmesh._types.embedding import (
    Embedding,
    EmbeddingModel,
    Embeddings,
    EmbedTimings,
    InputKind,
    ModelTask,
    RankedPassage,
    Reranking,
    SentenceVector,
    ServedLane,
    TextSpan,
)
from ragmesh._types.retrieval import (
    Chunking,
    Collection,
    CollectionStats,
    DeleteResult,
    HnswSettings,
    Metric,
    Point,
    PointCount,
    UpsertResult,
)
from ragmesh._types.search import (
    Boost,
    DecayKind,
    Diversity,
    Examples,
    ExampleStrategy,
    FusionMethod,
    Grouping,
    NumberDecay,
    RankFusion,
    Rerank,
    RerankMethod,
    RerankOutcome,
    Search,
    SearchGroup,
    SearchHit,
    SearchMode,
    SearchPlan,
    SearchResult,
    SearchTimings,
    TimeDecay,
)
from ragmesh._vectors import (
    Vector,
    VectorLike,
)

__all__ = [
    "AbstentionReason",
    "AlreadyExists",
    "Answer",
    "AnswerEvent",
    "AnswerStarted",
    "AnswerTimings",
    "AsyncClient",
    "AsyncListing",
    "AsyncStream",
    "Backend",
    "Boost",
    "Cancelled",
    "Chunking",
    "Citation",
    "Client",
    "ClientClosed",
    "Collection",
    "CollectionExists",
    "CollectionNotEmpty",
    "CollectionNotFound",
    "CollectionStats",
    "DataCorrupted",
    "DataLoss",
    "DeadlineExceeded",
    "DecayKind",
    "DeleteResult",
    "DimensionMismatch",
    "Diversity",
    "Document",
    "DocumentExists",
    "DocumentNotFound",
    "DocumentState",
    "DocumentUnreadable",
    "EmbedTimings",
    "Embedding",
    "EmbeddingModel",
    "EmbeddingModelNotFound",
    "Embeddings",
    "ExampleStrategy",
    "Examples",
    "Exhausted",
    "FailedPrecondition",
    "Field",
    "FieldViolation",
    "Filter",
    "FingerprintMismatch",
    "FusionMethod",
    "GeneratedText",
    "GenerationEvent",
    "GenerationModel",
    "GenerationModelNotFound",
    "GenerationStarted",
    "Grouping",
    "HnswSettings",
    "IndexMemoryFull",
    "IndexUnavailable",
    "IngestJob",
    "IngestJobNotFound",
    "IngestJobStage",
    "IngestJobState",
    "InputKind",
    "Internal",
    "InvalidArgument",
    "InvalidField",
    "InvalidFilter",
    "InvalidPageToken",
    "InvalidVector",
    "Lane",
    "LimitReached",
    "Listing",
    "MalformedMessage",
    "MessageTooLarge",
    "MethodNotFound",
    "Metric",
    "ModelMemoryFull",
    "ModelTask",
    "ModelTaskMismatch",
    "ModelUnavailable",
    "NoEmbeddingModel",
    "NodeDraining",
    "NotFound",
    "NumberDecay",
    "Page",
    "ParserLimitExceeded",
    "Passage",
    "PermissionDenied",
    "Point",
    "PointCount",
    "PointNotFound",
    "ProviderMissing",
    "QueueFull",
    "RagmeshError",
    "RankFusion",
    "RankedPassage",
    "RateLimited",
    "RequestIdReused",
    "Rerank",
    "RerankMethod",
    "RerankOutcome",
    "Reranking",
    "Search",
    "SearchGroup",
    "SearchHit",
    "SearchMode",
    "SearchPlan",
    "SearchResult",
    "SearchTimings",
    "SentenceVector",
    "ServedLane",
    "ServiceUnavailable",
    "SourcePassage",
    "StoreUnavailable",
    "StoredDocument",
    "Stream",
    "StreamCut",
    "TextDelta",
    "TextSpan",
    "TextTooLong",
    "TimeDecay",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedMediaType",
    "UpsertResult",
    "UpstreamFailed",
    "Usage",
    "Vector",
    "VectorLike",
    "__version__",
]

# What is imported from here says so, in messages, documentation and pickles.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
del _name
