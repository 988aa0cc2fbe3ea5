"""A caller who leaves takes its texts out of the model's queue, a deadline that is over is
refused, and a full queue says when to come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import numpy as np
import prometheus_client
import pytest
import pytest_asyncio
import ragmesh
from google.rpc import status_pb2
from ragmesh import AsyncClient
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.embedding.v1 import embedding_service_pb2_grpc as embedding_grpc

from engine.errors import DeadlineExceeded, QueueFull
from engine.schedule import Limits
from services.app import Node
from services.config import ModelSettings, NodeSettings, Settings
from services.errors import from_status
from services.mesh.model_queue import ModelQueue
from services.rpc.call import Call
from services.rpc.chain import Chain, Gate
from services.rpc.methods import methods_of

QUEUE_TOKENS = 4_000
CANCELS, WAVES = 1_000, 10
LONG = "a text that keeps the model busy for a while " * 20


@pytest_asyncio.fixture(scope="module")
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A node with an embedding model whose queue is short and whose batches are long. Without a
    cache: every text goes through the queue."""
    node = Node(
        Settings(
            data_dir=tmp_path_factory.mktemp("models"),
            models=ModelSettings(
                queue_tokens_max=QUEUE_TOKENS, batch_ms_max=2000, cache_bytes_max=0
            ),
            node=NodeSettings(services=("embedding",), listen="127.0.0.1:0", calls_max=2 * CANCELS),
        )
    )
    await node.open()
    await node.serve()
    yield node.address
    await node.close()


def waiting() -> float:
    """Texts that wait for any model of this process, as Prometheus is told."""
    return _total("ragmesh_model_queue_waiting")


def tokens_waiting() -> float:
    """Tokens that wait or run, likewise."""
    return _total("ragmesh_model_queue_tokens_waiting")


def _total(metric: str) -> float:
    return sum(
        sample.value
        for family in prometheus_client.REGISTRY.collect()
        if family.name == metric
        for sample in family.samples
    )


async def test_callers_who_leave_are_forgotten_and_later_ones_answered_correctly(
    address: str,
) -> None:
    """Ten thousand of them, in waves; after each, somebody asks who stays."""
    async with AsyncClient(address) as client:
        alone = (await client.embed_texts(["a later question"])).embeddings[0]
        for _ in range(WAVES):
            calls = [
                asyncio.create_task(client.embed_texts([f"{number} never read"]))
                for number in range(CANCELS)
            ]
            async with asyncio.timeout(10):
                while not waiting():
                    await asyncio.sleep(0.005)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            later = (await client.embed_texts(["a later question"])).embeddings[0]
            assert np.allclose(np.asarray(later.vector), np.asarray(alone.vector), atol=1e-5)
        async with asyncio.timeout(10):
            while waiting() or tokens_waiting():
                await asyncio.sleep(0.01)


async def test_a_full_queue_says_when_to_come_back(address: str) -> None:
    request = embedding.EmbedTextsRequest(
        model="embeddingModels/default", texts=[LONG] * 8, truncate=True
    )
    async with grpc.aio.insecure_channel(address) as channel:
        stub = embedding_grpc.EmbeddingServiceStub(channel)
        calls = [stub.EmbedTexts(request, timeout=30) for _ in range(12)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert refused
    assert len(refused) < len(answers)
    for error in refused:
        trailers = dict(error.trailing_metadata() or ())
        details = trailers["grpc-status-details-bin"]
        assert isinstance(details, bytes)
        full = from_status(status_pb2.Status.FromString(details))
        assert isinstance(full, QueueFull)
        assert full.retry_after_s
        assert full.metadata["tokens_waiting_max"] == str(QUEUE_TOKENS)


async def test_a_deadline_that_passes_in_the_queue_ends_the_call(address: str) -> None:
    async with AsyncClient(address) as client:
        busy = asyncio.create_task(client.embed_texts([LONG] * 16, truncate=True))
        async with asyncio.timeout(10):
            while not waiting():
                await asyncio.sleep(0.001)
        begin_s = time.monotonic()
        with pytest.raises(ragmesh.DeadlineExceeded):
            await client.embed_texts(["short of time"], timeout_s=0.05)
        assert time.monotonic() - begin_s < 1.0
        await busy
    assert waiting() == 0


async def test_a_deadline_that_is_over_is_refused_before_it_queues() -> None:
    """As a sibling in the same process may send it: no transport stands before the queue."""
    chain = Chain(Gate(calls_max=1), {}, 1 << 20)
    method = methods_of("embedding")["ListEmbeddingModels"]
    asked: list[object] = []

    async def handler(request: object, call: Call) -> None:
        asked.append(request)

    late = Call("default", "late", deadline_s=time.monotonic() - 1)
    with pytest.raises(DeadlineExceeded):
        await chain.unary(method, handler, method.request(), late)
    assert asked == []


async def test_a_large_request_that_leaves_does_not_hold_up_the_others() -> None:
    queue = ModelQueue[int, int]("held", list, Limits(), tokens_waiting_max=10**9)
    texts = 5_000
    asking = asyncio.create_task(queue.submit(range(texts), [1] * texts, Call("default", "large")))
    await asyncio.sleep(0)
    begin_s = time.perf_counter()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    elapsed_s = time.perf_counter() - begin_s
    await queue.close()
    assert elapsed_s < 1.0
