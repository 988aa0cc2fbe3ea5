"""A node with the retrieval service alone, in a mesh of its own, and what suites do to it: write,
search meanwhile, restart, kill."""

from __future__ import annotations

import base64
import contextlib
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
from ragmesh import Client
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh.api.retrieval.v1 import retrieval_service_pb2_grpc as stubs

from benchmarks import requests
from benchmarks.data import Matrix
from benchmarks.load import poisson
from benchmarks.mesh import RunningMesh, running_mesh
from benchmarks.pressure import Load, Outcome, Pressure, put

SEARCHES_PER_S = 40.0
WRITERS = 4
BATCH = 500
ANSWER_TIMEOUT_S = 600.0
_POLL_S = 0.01


class Stage:
    """The mesh and a client of its node."""

    def __init__(self, mesh: RunningMesh, client: Client) -> None:
        self.mesh = mesh
        self.client = client

    @property
    def address(self) -> str:
        """Of the node; it stays over restarts."""
        return self.mesh.addresses.nodes[0]

    @property
    def pid(self) -> int:
        """Of the node now."""
        return self.mesh.node_pid()

    def write(
        self,
        collection: str,
        vectors: Matrix,
        *,
        first_id: int = 0,
        payload_bytes: int = 0,
        arrivals_s: Sequence[float] = (),
        writers: int = WRITERS,
    ) -> tuple[Outcome, str]:
        """Upserts rows in batches of 500, by several writers or at given times, from a process of
        its own; what came of it, and the last commit. Raises RuntimeError where one failed."""
        made = requests.upserts(
            collection, vectors, batch=BATCH, first_id=first_id, payload_bytes=payload_bytes
        )
        with prepared(made) as file:
            outcome = put(self.load(file, arrivals_s=arrivals_s, writers=writers)).check()
        return outcome, last_watermark(outcome)

    def load(self, file: Path, *, arrivals_s: Sequence[float] = (), writers: int = WRITERS) -> Load:
        """Prepared upserts for this node."""
        return Load(
            self.address,
            requests.UPSERT,
            str(file),
            in_flight=writers,
            arrivals_s=arrivals_s,
            keep_replies=True,
            retry=True,
        )

    def restart_s(self, request: pb.SearchCollectionRequest, expected: Sequence[str]) -> float:
        """Stops the node and starts it again: seconds from the beginning of its process to its
        first answer with these ids, and with no others."""
        self.mesh.stop_node()
        with ThreadPoolExecutor(1) as starter:
            started = starter.submit(self.mesh.start_node)
            seconds = self._answered_s(request, expected)
            started.result()
        return seconds

    def crash_s(self, request: pb.SearchCollectionRequest, expected: Sequence[str]) -> float:
        """Kills the node: the same of the process that the mesh starts then."""
        dead = self.pid
        self.mesh.kill_node()
        while self.pid in (dead, 0):  # the next one is started after a pause
            time.sleep(_POLL_S)
        return self._answered_s(request, expected)

    def _answered_s(self, request: pb.SearchCollectionRequest, expected: Sequence[str]) -> float:
        begin_s = time.monotonic()
        while answer_ids(self.address, request) != list(expected):
            if time.monotonic() - begin_s > ANSWER_TIMEOUT_S:
                raise RuntimeError(f"no right answer within {ANSWER_TIMEOUT_S:.0f} s of the start")
            time.sleep(_POLL_S)
        # Both by the clock that the kernel counts a process's start with.
        return time.time() - psutil.Process(self.pid).create_time()


@contextmanager
def staged() -> Iterator[Stage]:
    """Starts it; stops everything when the context ends."""
    with (
        running_mesh(["retrieval"]) as mesh,
        Client(mesh.addresses.nodes[0], timeout_s=120) as client,
    ):
        yield Stage(mesh, client)


@contextmanager
def prepared(made: Iterable[bytes]) -> Iterator[Path]:
    """A file of requests that goes away."""
    with tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as name:
        file = Path(name) / "requests"
        requests.write(file, made)
        yield file


@contextmanager
def searching(
    address: str, collection: str, queries: Matrix, seconds: float, seed: int = 0
) -> Iterator[Pressure]:
    """Poisson searches, 40 a second, that go on beside what is done in the context."""
    made = (requests.search_request(collection, row).SerializeToString() for row in queries)
    with prepared(made) as file:
        arrivals_s = poisson(SEARCHES_PER_S, seconds, seed)
        with Pressure(Load(address, requests.SEARCH, str(file), arrivals_s=arrivals_s)) as pressure:
            yield pressure


def evenly(count: int, seconds: float) -> list[float]:
    """`count` times in [0, seconds)."""
    return [i * seconds / count for i in range(count)]


def last_watermark(outcome: Outcome) -> str:
    """The highest commit among the replies of upserts."""
    replies = (base64.b64decode(one) for one in outcome.replies)
    return max((pb.UpsertPointsResponse.FromString(one).watermark for one in replies), key=int)


def answer_ids(address: str, request: pb.SearchCollectionRequest) -> list[str] | None:
    """The ids that a search finds; None where it is not answered. On a connection of its own,
    which does not wait because an earlier one failed."""
    with (
        grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
        contextlib.suppress(grpc.RpcError),
    ):
        found = stubs.RetrievalServiceStub(channel).SearchCollection(request, timeout=2)
        return [hit.point.id for hit in found.hits]
    return None
