"""Snapshots prove themselves, and the resources say what they must."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.gateway.bootstrap import BootstrapValues, grpc_bootstrap, render
from services.gateway.contract import Contract, HttpRule, read_contract
from services.gateway.routes import retry_policy
from services.gateway.settings import GatewaySettings, origin_pattern
from services.gateway.snapshot import Group, Resource, Snapshot, build, fixed_resources, problems
from services.gateway.xds import CLUSTER, ENDPOINT, ROUTE, pack
from services.mesh.lease import NodeLease
from tests.services.gateway.harness import TEMPLATE

SETTINGS = GatewaySettings()
CONTRACT = read_contract(SETTINGS.descriptor)
NODE = NodeLease("a", CONTRACT.areas, "10.0.0.1:50051", "SERVING", "zone-1")


def made(group: Group, *nodes: NodeLease, contract: Contract = CONTRACT) -> Snapshot:
    return build(group, fixed_resources(group, SETTINGS, contract), contract, nodes)


def changed(snapshot: Snapshot, type_url: str, name: str, value: Any) -> Snapshot:
    """The same with one resource replaced, or left out for None."""
    kept = {n: r for n, r in snapshot.resources[type_url].items() if n != name}
    if value is not None:
        kept[name] = Resource(name, value, pack(type_url, value), "x")
    return replace(snapshot, resources={**snapshot.resources, type_url: kept})


@pytest.mark.parametrize("group", ["gateway", "mesh"])
def test_what_is_built_is_consistent_with_and_without_nodes(group: Group) -> None:
    assert problems(made(group), CONTRACT) == ()
    assert problems(made(group, NODE), CONTRACT) == ()


@pytest.mark.parametrize("group", ["gateway", "mesh"])
def test_the_version_follows_the_content_only(group: Group) -> None:
    other = replace(NODE, node_id="b", address="10.0.0.2:50051")
    assert made(group, NODE, other).version == made(group, other, NODE).version
    assert made(group, NODE).version == made(group, replace(NODE, load=0.7)).version
    assert made(group, NODE).version != made(group, other).version


def test_a_route_to_no_cluster_is_found() -> None:
    snapshot = changed(made("gateway", NODE), CLUSTER, "chat", None)
    found = problems(snapshot, CONTRACT)
    assert any("routes to the cluster 'chat', which does not exist" in p for p in found)
    assert any("'chat' belongs to no cluster" in p for p in found)


def test_a_cluster_without_endpoints_resource_is_found() -> None:
    snapshot = changed(made("gateway", NODE), ENDPOINT, "chat", None)
    assert problems(snapshot, CONTRACT) == ("cluster 'chat' has no endpoint assignment",)


def test_missing_routes_and_no_clusters_are_found() -> None:
    snapshot = changed(made("gateway", NODE), ROUTE, "gateway", None)
    assert any("wants the routes 'gateway'" in p for p in problems(snapshot, CONTRACT))
    empty = replace(snapshot, resources={**snapshot.resources, CLUSTER: {}})
    assert "there are no clusters" in problems(empty, CONTRACT)


def test_two_rpcs_on_one_http_rule_are_found() -> None:
    first, *rest = CONTRACT.services
    shared = HttpRule("get", "/v1/{name=embeddingModels/*}", "")
    method = replace(first.methods[0], rules=(shared,))
    contract = Contract((replace(first, methods=(method, *first.methods[1:])), *rest))
    assert any(
        "share the HTTP rule" in p for p in problems(made("gateway", contract=contract), contract)
    )


def test_endpoints_must_be_ip_addresses_once() -> None:
    twin = replace(NODE, node_id="b")
    named = replace(NODE, node_id="c", address="node:1")
    found = problems(made("gateway", NODE, twin, named), CONTRACT)
    assert any("'10.0.0.1:50051' of 'chat' is there twice" in p for p in found)
    assert any("'node:1' of 'chat' has no IP address" in p for p in found)


def test_draining_nodes_are_told_to_envoy_and_hidden_from_grpc_clients() -> None:
    draining = replace(NODE, state="DRAINING")
    envoy = made("gateway", draining).resources[ENDPOINT]["chat"].value
    assert envoy["endpoints"][0]["lb_endpoints"][0]["health_status"] == "DRAINING"
    assert made("mesh", draining).resources[ENDPOINT]["chat"].value["endpoints"] == []


def test_streams_have_no_15_s_timeout_and_only_safe_calls_are_repeated() -> None:
    routes = made("gateway").resources[ROUTE]["gateway"].value["virtual_hosts"][0]["routes"]
    by_path = {r["match"].get("path"): r for r in routes}
    for service in CONTRACT.services:
        for method in service.methods:
            action = by_path[method.path]["route"]
            assert (action["timeout"] == "0s") == method.streaming
            retried = "unavailable" in action["retry_policy"]["retry_on"]
            assert retried == method.safe
            assert "connect-failure" in retry_policy(method)["retry_on"]


def test_openapi_is_valid_and_has_every_http_rule() -> None:
    document = json.loads(SETTINGS.openapi)
    OpenAPIV31SpecValidator(document).validate()
    operations = {
        op["operationId"]: op for path in document["paths"].values() for op in path.values()
    }
    expected = {m.name for s in CONTRACT.services for m in s.methods if m.rules}
    assert set(operations) == expected | {"UploadDocument"}  # which the bridge takes
    for service in CONTRACT.services:
        for method in service.methods:
            if method.rules:
                answer = operations[method.name]["responses"]
                stream = "text/event-stream" in answer["200"]["content"]
                assert stream == method.server_streaming
                assert answer["default"] == {"$ref": "#/components/responses/Error"}
                assert operations[method.name]["description"]


def test_openapi_follows_the_json_mapping() -> None:
    schemas = json.loads(SETTINGS.openapi)["components"]["schemas"]
    document = schemas["ragmesh.api.documents.v1.Document"]["properties"]
    assert document["createTime"]["format"] == "date-time"
    assert document["payload"]["type"] == "object"
    request = schemas["ragmesh.api.retrieval.v1.Filter"]
    inner = request["properties"]["allOf"]
    assert inner["$ref"] == "#/components/schemas/ragmesh.api.retrieval.v1.FilterList"
    assert inner["description"]
    assert len(request["allOf"][0]["oneOf"]) == 13


def test_the_bootstrap_template_renders_to_what_envoy_knows(tmp_path: Path) -> None:
    values = BootstrapValues("127.0.0.1", 18000, node_id='a"b').as_mapping()
    bootstrap = json.loads(render(TEMPLATE, values))
    assert bootstrap["node"] == {"id": 'a"b', "cluster": "gateway"}
    assert bootstrap["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    with pytest.raises(ValueError, match="needs a value for 'ads_port'"):
        render(TEMPLATE, {k: v for k, v in values.items() if k != "ads_port"})
    with pytest.raises(ValueError, match="no place for 'colour'"):
        render(TEMPLATE, {**values, "colour": 1})
    broken = tmp_path / "broken.json"
    broken.write_text('{"nope": 1}')
    with pytest.raises(ValueError, match="nope"):
        render(broken, {})


def test_an_origin_with_any_port() -> None:
    pattern = re.compile(origin_pattern("https://my-app.example:*"))
    assert pattern.fullmatch("https://my-app.example:8443")
    assert pattern.fullmatch("https://my-app.example")
    assert not pattern.fullmatch("https://my-appxexample")
    assert not re.fullmatch(origin_pattern("http://a.example"), "http://a.example:80")
    with pytest.raises(ValueError, match="only stand for the port"):
        origin_pattern("*")


def test_grpc_clients_get_the_mesh_group() -> None:
    bootstrap = json.loads(grpc_bootstrap("127.0.0.1:18000", "node-1"))
    assert bootstrap["node"] == {"id": "node-1", "cluster": "mesh"}
    assert bootstrap["xds_servers"][0]["server_uri"] == "127.0.0.1:18000"
