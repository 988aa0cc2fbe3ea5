"""What suites of one run share: the mesh, and the collection of vectors in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
from ragmesh import Client, HnswSettings, Point

from benchmarks import fused, sentences
from benchmarks.data import DataMissing, Matrix, RetrievalSet, VectorSet, clustered, scifact
from benchmarks.mesh import RunningMesh, running_mesh
from benchmarks.requests import SEARCH_EF
from benchmarks.settled import until_settled
from services.local.mesh import Addresses

Say = Callable[[str], None]
COLLECTION = "vectors"
SENTENCES = "SciFact's sentences"
MADE = "made, 100 to a cluster, seed 0"


@dataclass(frozen=True, slots=True)
class Options:
    """What a run was told. `quick` sizes judge nothing. For the suite `scale`: how many points its
    largest collection has (0 for its own size), the minutes of sustained writes, and which of its
    parts run (all if empty). `data` are folders of data sets in BEIR's layout that `quality`
    measures in place of its own; `peers` the addresses of servers that run elsewhere, by name."""

    quick: bool = False
    points: int = 0
    minutes: float = 5.0
    parts: tuple[str, ...] = ()
    data: tuple[Path, ...] = ()
    peers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedVectors:
    """A collection in the mesh and what loading it took.

    `source` says what the vectors are. `upsert_s`: until the last write was durable;
    `searchable_s`: until a read saw it; `settled_s`: until the index changed no more;
    `segments` and `buffered` points then.
    """

    vectors: VectorSet
    source: str
    upsert_s: float
    searchable_s: float
    settled_s: float
    segments: int
    buffered: int
    memory_kib: int


@dataclass(frozen=True, slots=True)
class LoadedTexts:
    """SciFact as a collection in the mesh; `upsert_s` is what embedding and writing it took."""

    data: RetrievalSet
    upsert_s: float


class Bench:
    """One run; a context that stops the mesh. `say` tells whoever waits what is being done."""

    def __init__(self, options: Options, say: Say) -> None:
        self.options = options
        self.quick = options.quick
        self.say = say
        self._stack = ExitStack()

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @cached_property
    def running(self) -> RunningMesh:
        """Started when first asked for."""
        self.say("starting a mesh")
        return self._stack.enter_context(running_mesh())

    @property
    def mesh(self) -> Addresses:
        """Of the mesh, which is started if none runs."""
        return self.running.addresses

    @property
    def gateway(self) -> str:
        """`host:port` of Envoy."""
        return self.mesh.rest.removeprefix("http://")

    @cached_property
    def client(self) -> Client:
        """The SDK, on the node's own port."""
        return self._stack.enter_context(Client(self.mesh.nodes[0], timeout_s=120))

    @cached_property
    def data(self) -> tuple[VectorSet, str]:
        """Vectors with queries, and what they are: SciFact's sentences, embedded by the service
        the first time, or vectors made here where SciFact is not at hand (2,000 in a quick run).
        """
        if not self.quick:
            try:
                return self._sentences(), SENTENCES
            except DataMissing as error:
                self.say(f"vectors are made instead: {error}")
        count, queries = (2_000, 200) if self.quick else (50_000, 1_400)
        self.say(f"making {count:,} vectors and searching them exactly")
        return clustered(count, queries, clusters=count // 100), MADE

    @cached_property
    def vectors(self) -> LoadedVectors:
        """`data` as a collection, loaded and settled."""
        vectors, source = self.data
        return self._load(vectors, source)

    @cached_property
    def scifact(self) -> LoadedTexts:
        """Its abstracts (some in a quick run), embedded by the service. Raises DataMissing."""
        data = scifact()
        if self.quick:
            data = data.part(documents=300, queries=40)
        self.say(f"upserting and embedding {len(data.documents):,} abstracts")
        self.client.create_collection(fused.COLLECTION)
        begin_s = time.perf_counter()
        fused.upsert(self.client, data.documents)
        upsert_s = time.perf_counter() - begin_s
        self.client.count_points(fused.COLLECTION)
        return LoadedTexts(data, upsert_s)

    def _sentences(self) -> VectorSet:
        data = scifact()

        def embed(texts: Sequence[str]) -> Matrix:
            found = self.client.embed_texts(texts, truncate=True, lane="bulk", timeout_s=300)
            return np.stack([np.frombuffer(one.packed, np.float32) for one in found.vectors])

        fingerprint = self.client.embed_texts(["What space is this?"]).fingerprint
        return sentences.vector_set(data, embed, fingerprint=fingerprint, say=self.say)

    def _load(self, vectors: VectorSet, source: str) -> LoadedVectors:
        client, points = self.client, vectors.points
        self.say(f"upserting {len(points):,} points")
        client.create_collection(
            COLLECTION, dimensions=points.shape[1], hnsw=HnswSettings(ef_search=SEARCH_EF)
        )
        begin_s = time.perf_counter()
        client.upsert_points(COLLECTION, as_points(points))
        upsert_s = time.perf_counter() - begin_s
        count = client.count_points(COLLECTION, timeout_s=120).count
        if count != len(points):
            raise AssertionError(f"{len(points)} points were written and {count} are there")
        searchable_s = time.perf_counter() - begin_s
        self.say("waiting until the index has settled")
        stats, at_s = until_settled(client, COLLECTION, self.running.node_pid())
        return LoadedVectors(
            vectors,
            source,
            upsert_s,
            searchable_s,
            at_s - begin_s,
            stats.segments,
            stats.buffered_points,
            stats.memory_kib,
        )


def as_points(vectors: Matrix) -> list[Point]:
    """Points whose ids are the rows' numbers, with a small payload."""
    return [Point(str(n), row, payload={"n": n}) for n, row in enumerate(vectors)]
