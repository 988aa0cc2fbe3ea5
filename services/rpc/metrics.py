"""What every node counts, for Prometheus. Names end in their unit."""

from __future__ import annotations

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

RPC_SECONDS = Histogram(
    "ragmesh_rpc_duration_seconds",
    "Time of a call in its handler, by outcome; its count is the rate, its codes the errors.",
    ["service", "rpc", "code"],
    buckets=_SECONDS,
)
RPC_IN_FLIGHT = Gauge("ragmesh_rpc_in_flight", "Calls being worked on.", ["service", "rpc"])


class InFlight:
    """Calls of one RPC. Only the event loop counts them, so a number does: the gauge, which takes
    locks, looks at it when it is asked."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0


@cache
def rpc_in_flight(service: str, rpc: str) -> InFlight:
    """What the gauge of one RPC shows."""
    counted = InFlight()
    RPC_IN_FLIGHT.labels(service, rpc).set_function(lambda: counted.calls)
    return counted


@cache
def rpc_seconds(service: str, rpc: str, code: str) -> Histogram:
    """The histogram of one RPC and outcome; kept, because `labels` takes a lock and 5 µs each time;
    as many as RPCs times gRPC codes at the most."""
    return RPC_SECONDS.labels(service, rpc, code)


QUEUE_WAITING = Gauge(
    "ragmesh_model_queue_waiting", "Texts waiting for a model.", ["model", "lane"]
)
QUEUE_WAIT_SECONDS = Histogram(
    "ragmesh_model_queue_wait_seconds",
    "Time texts waited for a model.",
    ["model", "lane"],
    buckets=_SECONDS,
)
QUEUE_TOKENS_WAITING = Gauge(
    "ragmesh_model_queue_tokens_waiting",
    "Tokens waiting for a model, and the padded tokens of the batch that it runs.",
    ["model"],
)
QUEUE_UNANSWERED = Counter(
    "ragmesh_model_queue_unanswered_total",
    "Texts that got no result; reason is `full` or `late` (refused), `expired`, `cancelled` or "
    "`failed`.",
    ["model", "reason"],
)
BATCH_TEXTS = Histogram(
    "ragmesh_model_batch_texts",
    "Texts of a batch.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)
BATCH_TOKENS = Counter(
    "ragmesh_model_tokens_total",
    "Tokens put through a model; kind is `text` or `padding`.",
    ["model", "kind"],
)
MODEL_TOKENS_PER_SECOND = Gauge(
    "ragmesh_model_tokens_per_second", "Padded tokens a second of recent batches.", ["model"]
)
CACHE_TEXTS = Counter(
    "ragmesh_embedding_cache_texts_total",
    "Texts looked up before they were embedded; found is `memory`, `redis`, `shared` (made for "
    "another caller at the same time) or `miss`.",
    ["found"],
)
CACHE_BYTES = Gauge("ragmesh_embedding_cache_bytes", "Memory of the vectors kept here.")
INDEX_POINTS = Gauge("ragmesh_index_points", "Live points of all indexes on this node.")
INDEX_TOMBSTONES = Gauge("ragmesh_index_tombstones", "Deleted rows that still take memory.")
INDEX_MEMORY_BYTES = Gauge("ragmesh_index_memory_bytes", "Estimated memory of all indexes.")
INDEX_LAG_COMMITS = Gauge(
    "ragmesh_index_lag_commits",
    "Commits that no index has applied yet, the most of any collection.",
)
INDEX_OPEN = Gauge("ragmesh_index_open", "Collections whose index is open on this node.")
RECALL_WANTED = Counter(
    "ragmesh_recall_hits_wanted_total",
    "Hits that searches done again by scanning say there are; band is of the filter's selectivity.",
    ["band"],
)
RECALL_FOUND = Counter(
    "ragmesh_recall_hits_found_total", "Those of them that the searches had found.", ["band"]
)
RECALL_LOW = Gauge(
    "ragmesh_recall_low",
    "The least that the recall of any collection is, with 97.5 % confidence; 1 where it is not "
    "known.",
    ["band"],
)
RECALL_DROPPED = Counter(
    "ragmesh_recall_samples_dropped_total",
    "Searches that were chosen to be done again and were not, because too many waited.",
)
BEAMS_CHANGED = Counter(
    "ragmesh_beams_changed_total", "Beams of searches by graph that this node changed.", ["band"]
)
SEGMENTS_BUILT = Counter(
    "ragmesh_segments_built_total",
    "Segments that this node built and published; reason is `seal`, `merge` or `compact`.",
    ["reason"],
)
COMPACTIONS_ROLLED_BACK = Counter(
    "ragmesh_compactions_rolled_back_total",
    "Compactions thrown away because searches would have found less.",
)
INDEX_REBUILDS = Counter(
    "ragmesh_index_rebuilds_total", "Indexes rebuilt because the log was another one."
)
INGEST_JOBS = Counter("ragmesh_ingest_jobs_total", "Ingest jobs ended, by state.", ["state"])
INGEST_RUNNING = Gauge("ragmesh_ingest_jobs_running", "Ingest jobs in this node's hands.")
MESH_CALLS = Counter(
    "ragmesh_mesh_calls_total", "Calls to siblings; way is `local` or `remote`.", ["service", "way"]
)
GENERATION_TOKENS = Counter(
    "ragmesh_generation_tokens_total",
    "Tokens of language models; kind is `input` or `output`.",
    ["model", "kind"],
)
GENERATION_FAILURES = Counter(
    "ragmesh_generation_failures_total", "Tries in which an endpoint failed.", ["model"]
)
GENERATION_FALLBACKS = Counter(
    "ragmesh_generation_fallbacks_total",
    "Answers for which a fallback was asked in place of the model.",
    ["model"],
)
