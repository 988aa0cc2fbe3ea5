"""The configuration: one frozen tree, and the only reader of the environment.

Every field can be set as `RAGMESH_<PART>__<FIELD>`, such as `RAGMESH_STORE__POSTGRES_URL`, and
most by a flag of the command that uses them. Secrets print as `**********`.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine.errors import InvalidField
from services.config_generation import GenerationSettings as GenerationSettings
from services.config_generation import OpenAIModel as OpenAIModel

MIB = 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StoreSettings(_Part):
    """Where the truth is kept."""

    postgres_url: SecretStr = SecretStr("")
    """libpq URI. The role needs to own its database and must not bypass row security."""
    redis_url: SecretStr = SecretStr("")
    """`redis://…` or `unix://…`. May be lost at any time; costs speed, never data."""
    pool_max: int = Field(8, ge=1, le=200)
    """PostgreSQL connections of this node. More lets more writes wait in PostgreSQL instead of
    here."""


class NodeSettings(_Part):
    """One process of the mesh."""

    services: tuple[str, ...] = (
        "embedding",
        "retrieval",
        "documents",
        "memory",
        "generation",
        "chat",
    )
    """What it hosts."""
    listen: str = "127.0.0.1:50051"
    """Its gRPC server, `host:port`; port 0 takes a free one."""
    advertise: str = ""
    """What others reach it by; empty for `listen`."""
    metrics_listen: str = "127.0.0.1:0"
    """Its Prometheus port; empty for none."""
    locality: str = ""
    """A zone name; shown in `ragmesh status`."""
    calls_max: int = Field(256, ge=1)
    """Calls in flight before it refuses with QUEUE_FULL. More costs memory and latency."""
    message_bytes_max: int = Field(16 * MIB, ge=MIB, le=256 * MIB)
    """The largest message either way. The gateway has the same limit."""
    drain_grace_s: float = Field(30.0, ge=0)
    """How long calls in flight may take once it drains."""
    lease_ttl_s: float = Field(3.0, ge=0.5)
    """Life of its lease. Shorter notices death sooner and beats Redis more often."""
    control_plane: str = ""
    """`host:port` of the control plane; empty if every sibling runs in this process."""
    identity: Literal["default", "header"] = "default"
    """`header` believes `x-ragmesh-tenant`: only behind a proxy that authenticates."""
    allow_unauthenticated: bool = False
    """Allows to bind beyond loopback although nothing checks who calls."""


Precision = Literal["auto", "fp32", "int8", "fp16"]


class _ModelOptions(_Part):
    precision: Precision = "auto"
    """The numbers that it computes with. `auto` takes the fastest that keeps the model's quality;
    a collection is bound to the precision that it was made with."""
    query_prompt: str | None = None
    """Put before queries, such as `query: `; None for what the model's files say. Without the
    prompt that a model was trained with, it finds less."""
    passage_prompt: str | None = None
    """The same for passages."""
    pooling: Literal["mean", "cls", "last"] | None = None
    """How token vectors become one; None for what the model's files say."""
    tokens_max: int | None = Field(None, ge=3)
    """Shortens what it reads of a text, which saves time; None for what the model's files say."""


class ServedModel(_ModelOptions):
    """One more model of the embedding service, loaded when it is first asked for."""

    id: str
    """Its name here: `embeddingModels/{id}`."""
    source: str
    """A Hugging Face directory, or an id of its hub: `org/name`, or `org/name@revision`."""
    preload: bool = False
    """Loads it at the start. The node is ready later, and its first caller does not wait."""


class ModelSettings(_ModelOptions):
    """The embedding models and their queues. What is said of one model is of the default one."""

    directory: Path | None = None
    """The default model's Hugging Face directory; None for the model that comes with ragmesh."""
    hub_id: str = ""
    """In place of `directory`, the default model's id on the hub: `org/name`, or
    `org/name@revision`. Without a revision it stays the one that was downloaded first."""
    id: str = ""
    """The default model's name here; empty for one made of its directory's or repository's."""
    more: tuple[ServedModel, ...] = ()
    """Further models."""
    memory_bytes_max: int = Field(0, ge=0)
    """What all models together may take; 0 for half of the machine's or the cgroup's memory. With
    less, models take turns, and a caller waits while one is loaded again."""
    cache_dir: Path | None = None
    """Where downloaded and converted models are kept; None for `models` in the data directory."""
    provider: str = "auto"
    """`auto`, `cpu` or `cuda`; a missing one is an error, never a silent fallback."""
    gpu_memory_bytes_max: int = Field(0, ge=0)
    """What one model may take of a GPU's memory; 0 for as much as there is. With less than its
    largest batch needs, that batch fails."""
    threads: int = Field(0, ge=0)
    """Threads of a forward pass; 0 for the cores this process may use."""
    batch_padded_tokens_max: int = Field(768, ge=256)
    """Padded tokens of a batch. More makes queries wait longer behind a running batch; on a CPU
    it is no faster a token. A GPU wants 16,384 or more."""
    batch_ms_max: float = Field(50.0, gt=0)
    """How long a batch may run, by what was seen. More makes queries wait longer behind it."""
    policy: Literal["lanes", "fifo"] = "lanes"
    """What forms batches. `fifo` takes texts as they come, for comparison: more padding, and
    queries wait behind passages."""
    cache_bytes_max: int = Field(64 * MIB, ge=0)
    """Memory for vectors of texts that were embedded before, some 30,000 of 384 numbers; 0 keeps
    none, neither here nor in Redis. More costs memory on every node."""
    cache_ttl_s: int = Field(86_400, ge=1)
    """How long a vector stays in Redis."""
    queue_tokens_max: int = Field(500_000, ge=1_000)
    """Tokens waiting before the queue refuses with QUEUE_FULL."""


class LimitSettings(_Part):
    """What a collection may ask of a node where it says nothing itself; 0 for no bound beyond the
    contract's."""

    limit_max: int = Field(0, ge=0)
    """The largest `limit` of a search."""
    ef_search_max: int = Field(0, ge=0)
    """The largest `ef_search` of a search."""
    upsert_points_max: int = Field(0, ge=0)
    """Points of one UpsertPoints."""
    payload_bytes_max: int = Field(0, ge=0)
    """Bytes of a point's payload."""
    filter_conditions_max: int = Field(0, ge=0)
    """Conditions of a filter."""
    points_max: int = Field(0, ge=0)
    """Points of a collection."""
    bytes_max: int = Field(0, ge=0)
    """Bytes of a collection's index."""
    searches_per_second: float = Field(0.0, ge=0)
    """Searches of a collection on this node. With few, callers wait and try again."""
    writes_per_second: float = Field(0.0, ge=0)
    """Requests that write to a collection on this node. With few, callers wait and try again."""


class ObjectSettings(_Part):
    """Where bytes that are too large for rows lie for all nodes: sealed segments of indexes, and
    the files of documents. What the database does not name is deleted from there, so the place
    belongs to one mesh."""

    directory: Path | None = None
    """A directory that all nodes share. None for `objects` in the data directory, which nodes on
    other machines do not see."""
    s3_bucket: str = ""
    """A bucket, in place of a directory, of S3 or of what speaks its protocol. It exists already,
    and a rule of it removes uploads that were never finished (AbortIncompleteMultipartUpload)."""
    s3_prefix: str = "ragmesh"
    """What the names in the bucket begin with. Of one mesh alone."""
    s3_endpoint: str = ""
    """Such as `https://minio.example:9000`; empty for AWS."""
    s3_region: str = "us-east-1"
    """The bucket's region."""
    s3_access_key_id: str = ""
    """The key; empty for AWS's own variables, or for the role of the machine."""
    s3_secret_access_key: SecretStr = SecretStr("")
    """The key's secret."""


class IndexSettings(_Part):
    """What the retrieval service keeps in memory and on disk. All of it is made from the log."""

    directory: Path | None = None
    """Where this node keeps its segments, which one node at a time can hold. None for the first
    free one of `index` in the data directory."""
    objects_dir: Path | None = None
    """The older name of `objects.directory`, which counts where it is set."""
    memory_bytes_max: int = Field(0, ge=0)
    """What the indexes of this node may take; 0 for half of the machine's or the cgroup's memory.
    Past it, upserts are refused; deletes and searches still pass."""
    unsealed_rows_max: int = Field(200_000, ge=1_000)
    """Rows of a collection that may wait to be sealed; past it, upserts are refused until builds
    have caught up. More takes memory, and searches scan all of them."""
    limits: LimitSettings = LimitSettings()
    """Of collections that have no limits of their own."""
    open_max: int = Field(256, ge=1)
    """Collections that are open at once; the one not used for longest is closed, and opened again
    when it is used. More takes memory, fewer makes first searches wait."""
    builders: int = Field(2, ge=1, le=16)
    """Segments that this node builds at once, a process and a core each; one place is kept for
    what was just written. More takes cores and memory from searches, and with one alone a long
    merge holds up what was written since."""
    build_nice: int = Field(10, ge=0, le=19)
    """How far builds stand back for searches, as nice(1) counts. Less slows searches down while
    something is built."""
    build_wall_s: float = Field(3600.0, gt=0)
    """Wall time of one build. With less than a large merge needs, it is begun again and again."""


class DocumentSettings(_Part):
    """Ingestion."""

    workers: int = Field(16, ge=1, le=64)
    """Jobs that this node works on at once: one is embedded while others are read and written."""
    parsers: int = Field(2, ge=1, le=64)
    """Files that it parses at once, each in a process of its own."""
    jobs_waiting_max: int = Field(20_000, ge=1)
    """Queued jobs of a tenant before uploads are refused with QUEUE_FULL."""
    file_bytes_max: int = Field(256 * MIB, ge=MIB)
    """The largest uploaded file."""
    parser_memory_bytes: int = Field(1024 * MIB, ge=256 * MIB)
    """Address space of a parser process; with less than 256 MiB it cannot load its libraries."""
    parser_cpu_s: int = Field(60, ge=1)
    """CPU time of one parse."""
    parser_wall_s: float = Field(120.0, gt=0)
    """Wall time of one parse."""
    parser_jobs_max: int = Field(200, ge=1)
    """Files that a parser process reads before it is replaced."""
    clamd: str = Field("", pattern=r"^(|/.+|.+:\d{1,5})$")
    """ClamAV's daemon, `HOST:PORT` or the path of its socket, which sees each file before a parser
    does; empty for none. While it is away nothing is parsed, and jobs wait."""


class GatewaySettings(_Part):
    """Envoy and its control plane."""

    listen: str = "127.0.0.1:8080"
    """The one door: REST, SSE, gRPC and gRPC-Web."""
    ads_listen: str = "127.0.0.1:18000"
    """The control plane."""
    admin_listen: str = "127.0.0.1:9901"
    """Envoy's admin interface: full control, so loopback only."""
    cors_origins: tuple[str, ...] = ("http://localhost:*", "http://127.0.0.1:*")
    """Origins of web pages that may call; `*` stands for any port."""
    requests_per_s: int = Field(2_000, ge=1)
    """Local rate limit of the gateway: refill, and half of the burst."""
    trust_tenant_header: bool = False
    """Lets `x-ragmesh-tenant` of callers pass. Only where a proxy before it sets the header."""
    concurrency: int = Field(2, ge=1)
    """Envoy's worker threads."""
    bootstrap: Path | None = None
    """Template of Envoy's bootstrap; None for `deploy/envoy/bootstrap.json` of the checkout."""


class BridgeSettings(_Part):
    """The small server beside Envoy for what Envoy cannot translate: uploads over REST."""

    listen: str = "127.0.0.1:18081"
    """Where Envoy calls it."""
    uploads_max: int = Field(32, ge=1)
    """Uploads at once; more are refused with QUEUE_FULL, to be tried again. Each takes some
    hundred KiB of memory and a call of a node."""
    stall_s: float = Field(60.0, gt=0)
    """How long an upload may send nothing before it is ended."""


class RaySettings(_Part):
    """Nodes on Ray: what `ragmesh up --ray` places. A group of services is named by any of them."""

    replicas: dict[str, int | str] = {}
    """Nodes by service: `2`, or `1..4` to follow the queue before the model. One of those that
    are not named."""
    cpus: dict[str, float] = {}
    """Ray's logical CPUs by service, for one node; 1 for those not named. A node's model uses as
    many threads."""
    gpus: dict[str, float] = {}
    """GPUs by service, for one node; none for those not named."""
    auth: Literal["token", "disabled"] = "token"
    """How a cluster at an address knows its callers. One started here always asks for a token."""
    token_file: Path | None = None
    """The token of a cluster at an address; None for where Ray looks for it by itself."""
    object_store_bytes: int = Field(150 * MIB, ge=80 * MIB)
    """Shared memory of a Ray started here. No request goes through it."""


def _data_dir() -> Path:
    return Path(platformdirs.user_data_dir("ragmesh"))


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        env_prefix="RAGMESH_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    data_dir: Path = Field(default_factory=_data_dir)
    """Where converted models, and everything that `ragmesh up` embeds, is kept."""
    address: str = ""
    """Where `ragmesh ask` and the other callers find a mesh, `host:port`; empty for the one that
    `ragmesh up` runs on the data directory."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """What is logged; DEBUG has a line for every call."""
    store: StoreSettings = StoreSettings()
    node: NodeSettings = NodeSettings()
    models: ModelSettings = ModelSettings()
    generation: GenerationSettings = GenerationSettings()
    documents: DocumentSettings = DocumentSettings()
    objects: ObjectSettings = ObjectSettings()
    index: IndexSettings = IndexSettings()
    gateway: GatewaySettings = GatewaySettings()
    bridge: BridgeSettings = BridgeSettings()
    ray: RaySettings = RaySettings()


def check_exposure(field: str, address: str, allowed: bool) -> None:
    """Refuses to bind beyond loopback while nothing checks who calls. Raises InvalidField."""
    host = address.rpartition(":")[0].strip("[]")
    if allowed or address.startswith("unix:") or not address or host == "localhost":
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass  # a name: whatever it means, it may be reached from elsewhere
    raise InvalidField(
        f"{address} can be reached from other machines, and nothing checks who calls. Listen on "
        "127.0.0.1, or say --allow-unauthenticated where the network is trusted.",
        field=field,
        metadata={"listen": address},
    )


def to_environment(settings: Settings) -> dict[str, str]:
    """The variables from which another process reads the same settings, secrets in the clear.

    A field that is None is left out: that is every such field's default.
    """
    return dict(_variables("RAGMESH_", settings))


def _variables(prefix: str, part: BaseModel) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name in type(part).model_fields:
        value, key = getattr(part, name), f"{prefix}{name.upper()}"
        if isinstance(value, BaseModel):
            found += _variables(f"{key}__", value)
        elif value is not None:
            plain = _plain(value)
            found.append((key, plain if isinstance(plain, str) else json.dumps(plain)))
    return found


def _plain(value: Any) -> Any:
    """The value in JSON's terms."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
