"""The control plane fails static, and says what clients made of its configuration."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from services.gateway.control import ControlPlane
from services.gateway.settings import GatewaySettings
from services.gateway.xds import LISTENER, DiscoveryRequest, DiscoveryResponse
from services.mesh.lease import NodeLease, RegistryView
from tests.free_ports import free_port
from tests.services.gateway.harness import ControlRun, Envoy, Gateway, HandRegistry, until

MakeGateway = Callable[..., Awaitable[Gateway]]


def types_of(status: dict[str, Any]) -> dict[str, Any]:
    """What Envoy accepted and rejected, by type."""
    clients = [c for c in status.get("clients", ()) if c["group"] == "gateway"]
    return {t["type_url"]: t for t in clients[0]["types"]} if clients else {}


async def test_status_shows_what_envoy_accepted(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway("a")

    async def accepted() -> bool:
        types = types_of(gateway.control.status)
        return len(types) == 4 and all(t["accepted_version"] for t in types.values())

    await until(accepted, 3, "all types accepted")
    status = gateway.control.status
    assert (status["problems"], status["rejected"], status["held"]) == ((), [], ())
    assert [n["node_id"] for n in status["nodes"]] == ["a"]
    assert status["registry_readable"]
    json.dumps(status)


async def test_a_rejected_configuration_is_shown_and_the_old_one_serves(
    make_gateway: MakeGateway,
) -> None:
    gateway = await make_gateway("a")
    await gateway.control.stop()
    assert await gateway.answering() == {"a"}
    # No regular expression: our model of a route cannot know, Envoy does.
    bad = replace(gateway.settings, cors_origins=("(",), requests_burst=4001)
    gateway.control = ControlRun(bad, gateway.registry)

    async def rejected() -> bool:
        return bool(gateway.control.status.get("rejected"))

    await until(rejected, 10, "rejection shown")
    (line,) = gateway.control.status["rejected"]
    assert line.startswith("gateway-1 rejected RouteConfiguration")
    assert "missing )" in line
    assert await gateway.answering() == {"a"}
    # Endpoints still follow, although the routes are rejected.
    await gateway.add_node("b")

    async def both() -> bool:
        return await gateway.answering() == {"a", "b"}

    await until(both, 2, "new node in spite of the rejection")
    await gateway.control.stop()
    gateway.control = ControlRun(gateway.settings, gateway.registry)

    async def healed() -> bool:
        types = types_of(gateway.control.status)
        return len(types) == 4 and all(t["accepted_version"] for t in types.values())

    await until(healed, 10, "accepted again")
    assert gateway.control.status["rejected"] == []


async def test_traffic_goes_on_without_a_control_plane(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway("a", "b")
    await gateway.control.stop()
    assert await gateway.answering() == {"a", "b"}
    gateway.control = ControlRun(gateway.settings, gateway.registry)
    await gateway.add_node("c")

    async def all_three() -> bool:
        return await gateway.answering() == {"a", "b", "c"}

    await until(all_three, 8, "follows again after a restart")


async def test_a_start_without_registry_uses_the_last_good_set(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway("a", "b")
    await gateway.control.stop()
    gateway.envoy.stop()
    lost = HandRegistry()
    lost.lose()
    gateway.control = ControlRun(gateway.settings, lost)
    gateway.envoy = Envoy(gateway.directory, gateway.settings.ads_address)
    await until(gateway.ready, 10, "ready without a registry")
    assert await gateway.answering() == {"a", "b"}
    assert not gateway.control.status["registry_readable"]


def lease(node_id: str, address: str) -> NodeLease:
    return NodeLease(node_id, ("embedding",), address, "SERVING")


async def test_a_node_without_a_usable_address_is_left_out_and_named() -> None:
    plane = ControlPlane(GatewaySettings(ads_address=f"127.0.0.1:{free_port()}"))
    await plane.start()
    try:
        leases = (
            lease("good", "127.0.0.1:1"),
            lease("named", "localhost:2"),
            lease("bad", "nowhere"),
            lease("lost", "no-such-host.invalid:3"),
        )
        await plane.observe(RegistryView(leases, True, 0.0))
        status = plane.status()
    finally:
        await plane.stop()
    assert [p.split("'")[1] for p in status.problems] == ["bad", "lost"]
    assert set(status.versions) == {"gateway", "mesh"}


async def test_an_inconsistent_snapshot_is_reported_and_never_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plane = ControlPlane(GatewaySettings(ads_address=f"127.0.0.1:{free_port()}"))
    await plane.start()
    try:
        await plane.observe(RegistryView((lease("a", "127.0.0.1:1"),), True, 0.0))
        good = plane.status().versions
        listeners = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
        monkeypatch.setitem(plane._fixed["gateway"], listeners, {})
        await plane.observe(RegistryView((lease("a", "127.0.0.1:2"),), True, 0.0))
        status = plane.status()
    finally:
        await plane.stop()
    assert status.versions["gateway"] == good["gateway"]
    assert status.versions["mesh"] != good["mesh"]
    assert "gateway: there are no clusters" in status.problems


async def test_a_client_of_an_unknown_group_is_refused() -> None:
    plane = ControlPlane(GatewaySettings(ads_address=f"127.0.0.1:{free_port()}"))
    port = await plane.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.stream_stream(
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
                request_serializer=DiscoveryRequest.SerializeToString,
                response_deserializer=DiscoveryResponse.FromString,
            )()
            node = {"id": "x", "cluster": "nobody"}
            await call.write(DiscoveryRequest(node=node, type_url=LISTENER))
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "'nobody'" in await call.details()
    finally:
        await plane.stop()


async def test_a_taken_address_fails_loudly() -> None:
    settings = GatewaySettings(ads_address=f"127.0.0.1:{free_port()}")
    plane = ControlPlane(settings)
    await plane.start()
    try:
        with pytest.raises(RuntimeError):
            await ControlPlane(settings).start()
    finally:
        await plane.stop()
        await asyncio.sleep(0)
