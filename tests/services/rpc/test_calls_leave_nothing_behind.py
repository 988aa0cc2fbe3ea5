"""What a call held goes when it ends, however it ends: nothing waits for the garbage collector,
which a node runs every ten minutes. A refused write would leave its points and the index that was
looked at."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import grpc
import pytest
import pytest_asyncio
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb
from ragmesh.api.generation.v1 import generation_service_pb2 as generation

from engine.errors import QueueFull, RagmeshError
from services.config import MIB
from services.rpc.call import Call, DefaultIdentity
from services.rpc.chain import Chain, Gate
from services.rpc.server import Server

METHOD = "/ragmesh.api.embedding.v1.EmbeddingService/EmbedTexts"
STREAM = "/ragmesh.api.generation.v1.GenerationService/StreamGenerateText"
REQUEST = pb.EmbedTextsRequest(texts=["x"]).SerializeToString()


class Held:
    """Something large."""


class Servicer:
    """Holds something while it does what `work` says."""

    def __init__(self) -> None:
        self.held: weakref.ref[Held] | None = None
        self.work: Callable[[], Awaitable[None]] | None = None

    async def StreamGenerateText(
        self, request: generation.StreamGenerateTextRequest, call: Call
    ) -> AsyncIterator[generation.StreamGenerateTextResponse]:
        held = Held()
        self.held = weakref.ref(held)
        assert self.work is not None
        yield generation.StreamGenerateTextResponse()
        await self.work()

    async def EmbedTexts(self, request: pb.EmbedTextsRequest, call: Call) -> pb.EmbedTextsResponse:
        held = Held()
        self.held = weakref.ref(held)
        assert self.work is not None
        await self.work()
        return pb.EmbedTextsResponse()


@pytest_asyncio.fixture
async def served() -> AsyncIterator[tuple[Servicer, str]]:
    servicer = Servicer()
    server = Server(
        {"embedding": servicer, "generation": servicer},
        Chain(Gate(16), {}, 16 * MIB),
        DefaultIdentity(),
        16 * MIB,
    )
    address = f"127.0.0.1:{server.bind('127.0.0.1:0')}"
    await server.start()
    yield servicer, address
    await server.stop(0)


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def gone(servicer: Servicer) -> None:
    """Waits until what the servicer held is gone."""
    assert servicer.held is not None
    for _ in range(100):
        if servicer.held() is None:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"held by {gc.get_referrers(servicer.held())}")


async def refuse() -> None:
    raise QueueFull("Full.", retry_after_s=1)


async def refuse_late() -> None:
    await asyncio.sleep(0.01)
    await refuse()


async def refuse_in_a_thread() -> None:
    def work() -> None:
        raise QueueFull("Full.", retry_after_s=1)

    await asyncio.to_thread(work)


async def refuse_with_a_cause() -> None:
    try:
        await refuse_late()
    except RagmeshError as error:
        raise QueueFull("Fuller.", retry_after_s=1) from error


async def fail() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(ValueError("A mistake."))
    await future


async def wait() -> None:
    await asyncio.sleep(60)


async def answer() -> None:
    pass


@pytest.mark.parametrize(
    ("work", "timeout_s"),
    [
        (answer, None),
        (refuse, None),
        (refuse, 20.0),
        (refuse_late, 20.0),
        (refuse_in_a_thread, 20.0),
        (refuse_with_a_cause, 20.0),
        (fail, 20.0),
        (wait, 0.2),
    ],
)
async def test_a_call_that_ended_holds_nothing(
    served: tuple[Servicer, str],
    work: Callable[[], Awaitable[None]],
    timeout_s: float | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    servicer, address = served
    servicer.work = work
    caplog.set_level("CRITICAL")  # pytest keeps what is logged, with the error
    async with grpc.aio.insecure_channel(address) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        try:
            await method(REQUEST, timeout=timeout_s)
        except grpc.aio.AioRpcError:
            assert work is not answer
    await gone(servicer)


@pytest.mark.parametrize("work", [answer, refuse, refuse_with_a_cause, fail, wait])
async def test_a_stream_that_ended_holds_nothing(
    served: tuple[Servicer, str],
    work: Callable[[], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    servicer, address = served
    servicer.work = work
    caplog.set_level("CRITICAL")
    async with grpc.aio.insecure_channel(address) as channel:
        method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(STREAM)
        stream = method(b"", timeout=1.0)
        try:
            assert len([event async for event in stream]) == 1
        except grpc.aio.AioRpcError:
            assert work is not answer
    await gone(servicer)


async def test_refused_requests_take_no_memory(served: tuple[Servicer, str]) -> None:
    servicer, address = served
    servicer.work = refuse
    large = pb.EmbedTextsRequest(texts=["x" * MIB]).SerializeToString()
    async with grpc.aio.insecure_channel(address) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        tracemalloc.start()
        try:
            for _ in range(20):
                with pytest.raises(grpc.aio.AioRpcError):
                    await method(large)
            await asyncio.sleep(0.1)
            held_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert held_bytes < 4 * MIB
