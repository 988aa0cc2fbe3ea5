"""A small mesh of real parts: gRPC nodes, a registry that tests turn by hand, and real Envoy."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from ragmesh.api.chat.v1 import chat_service_pb2 as chat
from ragmesh.api.chat.v1 import chat_service_pb2_grpc as chat_grpc
from ragmesh.api.embedding.v1 import embedding_model_pb2 as models
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.embedding.v1 import embedding_service_pb2_grpc as embedding_grpc
from ragmesh.api.generation.v1 import generation_service_pb2 as generation

from services.gateway.bootstrap import BootstrapValues, render
from services.gateway.contract import read_contract
from services.gateway.control import run_control_plane
from services.gateway.settings import GatewaySettings, committed_descriptor
from services.local.envoy import envoy_argv
from services.mesh.lease import NodeLease, RegistryView
from tests.free_ports import free_port

TEMPLATE = Path(__file__).parents[3] / "deploy" / "envoy" / "bootstrap.json"
MIB = 1024 * 1024
SERVICES = tuple((s.area, s.full_name) for s in read_contract(committed_descriptor()).services)
AREAS = tuple(area for area, _ in SERVICES)
EVENT_PAUSE_S = 0.15


async def until(
    condition: Callable[[], Awaitable[bool]], within_s: float, message: str = "condition"
) -> float:
    """Waits for a condition and returns how long it took, in seconds."""
    start_s = time.monotonic()
    while not await condition():
        if time.monotonic() - start_s > within_s:
            raise AssertionError(f"{message}: not within {within_s} s")
        await asyncio.sleep(0.02)
    return time.monotonic() - start_s


async def _fail(context: Any, reason: str, message: str) -> None:
    """NOT_FOUND with an ErrorInfo, as services fail."""
    status = status_pb2.Status(code=5, message=message)
    info = error_details_pb2.ErrorInfo(reason=reason, domain="ragmesh")
    status.details.add().Pack(info)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    await context.abort(grpc.StatusCode.NOT_FOUND, message)


class Embedding(embedding_grpc.EmbeddingServiceServicer):
    """Says which node answered, in the display name of its one model."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.calls = 0
        self.metadata: dict[str, Any] = {}
        self.busy_s = 0.0

    async def ListEmbeddingModels(self, request: Any, context: Any) -> Any:
        self.calls += 1
        self.metadata = dict(context.invocation_metadata())
        await asyncio.sleep(self.busy_s)
        if request.page_token == "large":
            name = "x" * (17 * MIB)
            model = models.EmbeddingModel(name=name)
        else:
            model = models.EmbeddingModel(
                name="embeddingModels/one", display_name=self.node_id, dimensions=384
            )
        return embedding.ListEmbeddingModelsResponse(embedding_models=[model])

    async def GetEmbeddingModel(self, request: Any, context: Any) -> Any:
        if request.name.endswith("missing"):
            await _fail(context, "EMBEDDING_MODEL_NOT_FOUND", f"no model {request.name!r}")
        return embedding.GetEmbeddingModelResponse(
            embedding_model=models.EmbeddingModel(name=request.name)
        )

    async def CountTokens(self, request: Any, context: Any) -> Any:
        return embedding.CountTokensResponse(tokens=[len(text) for text in request.texts])

    async def EmbedTexts(self, request: Any, context: Any) -> Any:
        answers = [embedding.TextEmbedding(tokens=len(t)) for t in request.texts]
        return embedding.EmbedTextsResponse(embeddings=answers, fingerprint=request.model)

    async def RerankPassages(self, request: Any, context: Any) -> Any:
        ranked = [embedding.RankedPassage(index=i) for i in range(len(request.passages))]
        return embedding.RerankPassagesResponse(passages=ranked, fingerprint=request.model)


class Chat(chat_grpc.ChatServiceServicer):
    """Streams the words of the question, with a pause between."""

    async def AskQuestion(self, request: Any, context: Any) -> Any:
        return chat.AskQuestionResponse(answer=chat.Answer(question=request.question))

    async def StreamAnswer(self, request: Any, context: Any) -> AsyncIterator[Any]:
        words = request.question.split()
        for number, word in enumerate(words, start=1):
            delta = generation.TextDelta(text=word)
            yield chat.StreamAnswerResponse(event_id=number, delta=delta)
            await asyncio.sleep(EVENT_PAUSE_S)
        answer = chat.Answer(question=request.question)
        yield chat.StreamAnswerResponse(event_id=len(words) + 1, finished=answer)

    async def GetAnswer(self, request: Any, context: Any) -> Any:
        return chat.GetAnswerResponse(answer=chat.Answer(name=request.name))

    async def ListAnswers(self, request: Any, context: Any) -> Any:
        return chat.ListAnswersResponse()

    async def ResumeAnswer(self, request: Any, context: Any) -> AsyncIterator[Any]:
        answer = chat.Answer(name=request.name)
        last = request.after_event_id + 1
        event = chat.StreamAnswerResponse(event_id=last, finished=answer)
        yield chat.ResumeAnswerResponse(event=event)

    async def CancelAnswer(self, request: Any, context: Any) -> Any:
        return chat.CancelAnswerResponse(answer=chat.Answer(name=request.name))


class Node:
    """One gRPC node with health. All services are healthy, two of them do something."""

    def __init__(self, node_id: str, areas: tuple[str, ...] = AREAS) -> None:
        self.lease = NodeLease(node_id, areas, "", "SERVING", "here")
        self.embedding = Embedding(node_id)
        self.health = health.aio.HealthServicer()

    async def start(self) -> NodeLease:
        size = 16 * MIB
        self.server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", size),
                ("grpc.max_send_message_length", 32 * MIB),
            ]
        )
        embedding_grpc.add_EmbeddingServiceServicer_to_server(self.embedding, self.server)
        chat_grpc.add_ChatServiceServicer_to_server(Chat(), self.server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        await self.set_health(health_pb2.HealthCheckResponse.SERVING)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.lease = replace(self.lease, address=f"127.0.0.1:{port}")
        return self.lease

    async def set_health(self, status: Any) -> None:
        for area, name in SERVICES:
            if area in self.lease.services:
                await self.health.set(name, status)

    async def stop(self, grace_s: float = 0) -> None:
        await self.server.stop(grace_s)


class HandRegistry:
    """A registry that shows what the test puts in, when it does."""

    def __init__(self) -> None:
        self.leases: tuple[NodeLease, ...] = ()
        self.readable = True
        self.readable_since_s = time.monotonic()
        self._changed: list[asyncio.Event] = []

    def show(self, *leases: NodeLease) -> None:
        self.leases = leases
        for event in self._changed:
            event.set()

    def lose(self) -> None:
        self.readable = False
        self.show(*self.leases)

    def find(self, *leases: NodeLease) -> None:
        self.readable, self.readable_since_s = True, time.monotonic()
        self.show(*leases)

    async def watch(self) -> AsyncIterator[RegistryView]:
        event = asyncio.Event()
        self._changed.append(event)
        while True:
            event.clear()
            since_s = self.readable_since_s if self.readable else time.monotonic()
            yield RegistryView(self.leases, self.readable, since_s)
            try:
                async with asyncio.timeout(0.1):
                    await event.wait()
            except TimeoutError:
                continue


class ControlRun:
    """`run_control_plane` as a task, and the last status it published."""

    def __init__(self, settings: GatewaySettings, registry: HandRegistry) -> None:
        self.stop_event = asyncio.Event()
        self.status: dict[str, Any] = {}
        self.task = asyncio.create_task(
            run_control_plane(settings, registry, self.stop_event, self._take)
        )

    async def _take(self, status: dict[str, Any]) -> None:
        self.status = status

    async def stop(self) -> None:
        self.stop_event.set()
        await self.task


class Envoy:
    """The real Envoy of the wheel."""

    def __init__(self, directory: Path, ads_address: str, **values: Any) -> None:
        host, _, port = ads_address.rpartition(":")
        self.admin_port = free_port()
        made = BootstrapValues(host, int(port), admin_port=self.admin_port, **values)
        path = directory / "bootstrap.json"
        path.write_text(render(TEMPLATE, made.as_mapping()))
        self.log = directory / "envoy.log"
        with self.log.open("wb") as log:
            argv = [*envoy_argv(path, concurrency=1), "--file-flush-interval-msec", "200"]
            self.process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Gateway:
    """All of it together; one for the tests that leave it as they found it."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.settings = GatewaySettings(
            ads_address=f"127.0.0.1:{free_port()}",
            listen_address=f"127.0.0.1:{free_port()}",
            access_log_path=str(directory / "access.log"),
            state_path=directory / "nodes.json",
            **{"lease_ttl_s": 0.6, **settings},
        )
        self.directory = directory
        self.registry = HandRegistry()
        self.nodes: list[Node] = []

    async def start(self, *node_ids: str) -> None:
        for node_id in node_ids:
            await self.add_node(node_id)
        self.control = ControlRun(self.settings, self.registry)
        self.envoy = Envoy(self.directory, self.settings.ads_address)
        self.http = httpx.AsyncClient(base_url=f"http://{self.settings.listen_address}", timeout=10)
        self.channel = grpc.aio.insecure_channel(
            self.settings.listen_address,
            options=[("grpc.max_send_message_length", 32 * MIB)],
        )
        await until(self.ready, 10, "gateway ready")

    async def add_node(self, node_id: str) -> Node:
        node = Node(node_id)
        await node.start()
        self.nodes.append(node)
        self.registry.show(*(n.lease for n in self.nodes))
        return node

    async def ready(self) -> bool:
        try:
            return (await self.http.get("/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def answering(self, calls: int = 24) -> set[str]:
        """The nodes that answered some calls over REST, or the failures seen."""
        found = set()
        for _ in range(calls):
            answer = await self.http.get("/v1/embeddingModels")
            if answer.status_code != 200:
                found.add(f"{answer.status_code} {answer.text}")
            else:
                found.add(answer.json()["embeddingModels"][0]["displayName"])
        return found

    async def gone_within(self, within_s: float) -> None:
        """Waits until no node is left for REST callers."""

        async def gone() -> bool:
            return (await self.http.get("/v1/embeddingModels")).status_code == 503

        await until(gone, within_s, "no node left")

    async def stop(self) -> None:
        await self.http.aclose()
        await self.channel.close()
        self.envoy.stop()
        if not self.control.task.done():
            await self.control.stop()
        for node in self.nodes:
            await node.stop()
