"""The same over a socket: a stream to another node ends when its reader leaves, and says how it
ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from engine.errors import DeadlineExceeded, UpstreamFailed
from services.config import MIB
from services.errors import from_status
from services.generation.servicer import GenerationServicer
from services.mesh.mesh import Mesh
from services.rpc.call import DefaultIdentity
from services.rpc.chain import Chain, Gate
from services.rpc.server import Server
from tests.services.generation.generation_mesh import KEY, GenerationNode, call, streamed, unary
from tests.services.generation.openai_endpoint import Answer, Broken, Refusal


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def remote(generation_node: GenerationNode) -> AsyncIterator[Mesh]:
    """A node without the service, which finds it on another one."""
    chain = Chain(Gate(16), dict(GenerationServicer.checks), 16 * MIB)
    servicer = generation_node.servicer
    server = Server({"generation": servicer}, chain, DefaultIdentity(), 16 * MIB)
    address = f"127.0.0.1:{server.bind('127.0.0.1:0')}"
    await server.start()
    mesh = Mesh(Chain(Gate(16), {}, 16 * MIB), {"generation": address}, 16 * MIB)
    yield mesh
    await mesh.close()
    await server.stop(0)


async def test_a_reader_who_leaves_closes_the_request_at_the_endpoint(
    generation_node: GenerationNode, remote: Mesh
) -> None:
    generation_node.endpoint.will(Broken(["The railway "], hang=True))
    stream = remote.generation.StreamGenerateText(streamed(), call(None))
    async for event in stream:
        if event.HasField("delta"):
            break
    await stream.aclose()
    await asyncio.wait_for(generation_node.endpoint.gone.wait(), 5)


async def test_a_cancelled_caller_closes_the_request_at_the_endpoint(
    generation_node: GenerationNode, remote: Mesh
) -> None:
    generation_node.endpoint.will(Broken(["The railway "], hang=True))
    task = asyncio.ensure_future(remote.generation.GenerateText(unary(), call(None)))
    await asyncio.wait_for(generation_node.endpoint.heard.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(generation_node.endpoint.gone.wait(), 5)


async def test_a_stalled_stream_says_so_before_the_deadline(
    generation_node: GenerationNode, remote: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.rpc.events.LAST_WORD_S", 0.2)
    generation_node.endpoint.will(Broken(["The railway "], hang=True))
    begin_s = time.monotonic()
    stream = remote.generation.StreamGenerateText(streamed(), call(2.0))
    events = [event async for event in stream]
    assert time.monotonic() - begin_s < 2.0
    assert isinstance(from_status(events[-1].failed), DeadlineExceeded)


async def test_an_answer_and_a_refusal_are_the_same_as_in_process(
    generation_node: GenerationNode, remote: Mesh
) -> None:
    generation_node.endpoint.will(Answer(["The railway reached the town ", "in 1847 [2]."]))
    events = [e async for e in remote.generation.StreamGenerateText(streamed(), call())]
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["started", "delta", "delta", "citation", "finished"]
    told = []
    for mesh in (generation_node.mesh, remote):
        generation_node.endpoint.will(Refusal(401))
        with pytest.raises(UpstreamFailed) as caught:
            await anext(mesh.generation.StreamGenerateText(streamed(), call()))
        told.append((caught.value.message, caught.value.metadata))
        assert KEY not in str(told)
    assert told[0] == told[1]
