"""What suites of one run share: the mesh, and the collection of vectors in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType

from ragmesh import Client, Point

from benchmarks import fused
from benchmarks.data import Matrix, RetrievalSet, VectorSet, clustered, scifact
from benchmarks.mesh import running_mesh
from services.local.mesh import Addresses

Say = Callable[[str], None]
SETTLE_S = 180.0
COLLECTION = "vectors"


@dataclass(frozen=True, slots=True)
class LoadedVectors:
    """A collection in the mesh and what loading it took.

    `upsert_s`: until the last write was durable; `searchable_s`: until a read saw it;
    `settled_s`: until the index was one graph, as the node says; `segments` then.
    """

    vectors: VectorSet
    upsert_s: float
    searchable_s: float
    settled_s: float
    segments: int
    memory_kib: int


@dataclass(frozen=True, slots=True)
class LoadedTexts:
    """SciFact as a collection in the mesh; `upsert_s` is what embedding and writing it took."""

    data: RetrievalSet
    upsert_s: float


class Bench:
    """One run; a context that stops the mesh. `say` tells whoever waits what is being done."""

    def __init__(self, *, quick: bool, say: Say) -> None:
        self.quick = quick
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
    def mesh(self) -> Addresses:
        """Started when first asked for."""
        self.say("starting a mesh")
        return self._stack.enter_context(running_mesh())

    @property
    def gateway(self) -> str:
        """`host:port` of Envoy."""
        return self.mesh.rest.removeprefix("http://")

    @cached_property
    def client(self) -> Client:
        """The SDK, on the node's own port."""
        return self._stack.enter_context(Client(self.mesh.nodes[0], timeout_s=120))

    @cached_property
    def vectors(self) -> LoadedVectors:
        """50,000 x 384 (2,000 in a quick run) with 1,400 queries, loaded and settled."""
        count, queries = (2_000, 200) if self.quick else (50_000, 1_400)
        self.say(f"making {count:,} vectors and searching them exactly")
        return self._load(clustered(count, queries, clusters=count // 100))

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

    def _load(self, vectors: VectorSet) -> LoadedVectors:
        client, points = self.client, vectors.points
        self.say(f"upserting {len(points):,} points")
        client.create_collection(COLLECTION, dimensions=points.shape[1])
        begin_s = time.perf_counter()
        client.upsert_points(COLLECTION, as_points(points))
        upsert_s = time.perf_counter() - begin_s
        count = client.count_points(COLLECTION, timeout_s=SETTLE_S).count
        if count != len(points):
            raise AssertionError(f"{len(points)} points were written and {count} are there")
        searchable_s = time.perf_counter() - begin_s
        self.say("waiting until the index is one graph")
        while True:
            stats = client.get_collection_stats(COLLECTION)
            settled_s = time.perf_counter() - begin_s
            done = stats.segments == 1 and not stats.buffered_points and not stats.lag_commits
            if done or settled_s > SETTLE_S:
                return LoadedVectors(
                    vectors, upsert_s, searchable_s, settled_s, stats.segments, stats.memory_kib
                )
            time.sleep(0.25)


def as_points(vectors: Matrix) -> list[Point]:
    """Points whose ids are the rows' numbers, with a small payload."""
    return [Point(str(n), row, payload={"n": n}) for n, row in enumerate(vectors)]
