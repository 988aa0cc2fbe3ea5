"""Traffic follows the nodes: they come, drain and go, and callers lose nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import grpc
from grpc_health.v1 import health_pb2
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.embedding.v1 import embedding_service_pb2_grpc as embedding_grpc

from tests.services.gateway.harness import Gateway, Node, until

MakeGateway = Callable[..., Awaitable[Gateway]]
FOLLOW_S = 2.0
"""Endpoints follow leases within this."""


class Load:
    """Calls over REST and gRPC until told to stop; remembers every failure."""

    def __init__(self, gateway: Gateway, callers: int = 4) -> None:
        self.calls = 0
        self.failures: list[str] = []
        self._stop = False
        self._stub = embedding_grpc.EmbeddingServiceStub(gateway.channel)
        self._http = gateway.http
        self._tasks = [asyncio.create_task(self._call(n % 2 == 0)) for n in range(callers)]

    async def _call(self, over_rest: bool) -> None:
        while not self._stop:
            if over_rest:
                answer = await self._http.get("/v1/embeddingModels")
                if answer.status_code != 200:
                    self.failures.append(answer.text)
            else:
                try:
                    await self._stub.ListEmbeddingModels(embedding.ListEmbeddingModelsRequest())
                except grpc.aio.AioRpcError as error:
                    self.failures.append(f"{error.code()} {error.details()}")
            self.calls += 1
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)


async def answered_by(gateway: Gateway, *node_ids: str) -> float:
    """Waits until exactly these nodes answer."""

    async def condition() -> bool:
        return await gateway.answering() == set(node_ids)

    return await until(condition, FOLLOW_S, f"answers by {node_ids}")


async def test_new_nodes_get_traffic_and_gone_ones_none(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway("first")
    assert await gateway.answering() == {"first"}
    await gateway.add_node("second")
    await answered_by(gateway, "first", "second")
    first, second = gateway.nodes
    gateway.registry.show(second.lease)
    # Its lease is gone; the registry stays readable for a whole TTL.
    await asyncio.sleep(gateway.settings.lease_ttl_s)
    await answered_by(gateway, "second")
    gateway.registry.show(first.lease, second.lease)
    await answered_by(gateway, "first", "second")


async def test_a_rolling_restart_under_load_drops_nothing(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway("old-1", "old-2")
    for node in gateway.nodes:
        node.embedding.busy_s = 0.02
    load = Load(gateway)
    for number, old in enumerate(list(gateway.nodes)):
        new = await gateway.add_node(f"new-{number}")
        new.embedding.busy_s = 0.02
        await asyncio.sleep(0.6)
        await _drain(gateway, old)
    before = load.calls
    await asyncio.sleep(0.3)
    await load.stop()
    assert load.failures == []
    assert load.calls > before > 50
    await answered_by(gateway, "new-0", "new-1")


async def test_a_stream_outlives_the_draining_of_its_node(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway("old")
    old = gateway.nodes[0]
    request = {"question": "a b c d e f g h i j", "collections": ["collections/x"]}
    async with gateway.http.stream("POST", "/v1/chat:stream", json=request) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        await gateway.add_node("new")
        draining = asyncio.create_task(_drain(gateway, old))
        await answered_by(gateway, "new")
        rest = [line async for line in lines if line]
        await draining
    assert len(rest) == 10
    assert "finished" in rest[-1]


async def test_a_trusted_proxy_may_say_the_tenant(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway("a", tenant_header_trusted=True)
    await gateway.http.get("/v1/embeddingModels", headers={"x-ragmesh-tenant": "someone"})
    assert gateway.nodes[0].embedding.metadata["x-ragmesh-tenant"] == "someone"


async def _drain(gateway: Gateway, node: Node) -> None:
    """What a node does when it stops: NOT_SERVING, DRAINING, finish, exit."""
    await node.set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
    node.lease = replace(node.lease, state="DRAINING")
    gateway.registry.show(*(n.lease for n in gateway.nodes))
    await asyncio.sleep(0.5)
    await node.stop(grace_s=2)
    gateway.nodes.remove(node)
    gateway.registry.show(*(n.lease for n in gateway.nodes))


async def test_a_killed_node_is_left_before_its_lease_ends(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway("stays", "dies")
    await gateway.nodes[1].stop()
    # The registry still shows it: retries, health checks and outlier detection decide.
    assert await gateway.answering() == {"stays"}


async def test_without_a_registry_all_nodes_keep_their_traffic(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway("a", "b")
    leases = gateway.registry.leases
    load = Load(gateway)
    gateway.registry.lose()
    await asyncio.sleep(3 * gateway.settings.lease_ttl_s)
    assert await gateway.answering() == {"a", "b"}
    # It comes back empty, as after a flush, and fills one beat later.
    gateway.registry.find()
    await asyncio.sleep(0.5 * gateway.settings.lease_ttl_s)
    assert await gateway.answering() == {"a", "b"}
    gateway.registry.find(*leases)
    assert await gateway.answering() == {"a", "b"}
    await load.stop()
    assert load.failures == []


async def test_a_flushed_registry_costs_no_node(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway("a", "b", lease_ttl_s=1.5)
    a, b = gateway.registry.leases
    load = Load(gateway)
    gateway.registry.show()
    await asyncio.sleep(1.1 * gateway.settings.lease_ttl_s)
    gateway.registry.show(a)
    await asyncio.sleep(0.3)
    assert gateway.control.status["held"] == ("b",)
    assert await gateway.answering() == {"a", "b"}
    gateway.registry.show(a, b)
    await load.stop()
    assert load.failures == []
