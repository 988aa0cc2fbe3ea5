"""An immutable, versioned set of resources that proves itself consistent before anyone sees it."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from google.protobuf import any_pb2

from services.gateway import clusters, listener, proxyless, routes
from services.gateway.contract import Contract
from services.gateway.settings import GatewaySettings
from services.gateway.xds import CLUSTER, ENDPOINT, LISTENER, ROUTE, Json, pack
from services.mesh.lease import NodeLease

Group: TypeAlias = Literal["gateway", "mesh"]
"""`node.cluster` of a client: Envoy's, or that of proxyless gRPC clients."""

ORDER = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
"""The order in which types are sent: what is referred to before what refers to it."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource, as built and as it travels. Equal digests mean equal bytes."""

    name: str
    value: Json
    packed: any_pb2.Any
    digest: str


Resources: TypeAlias = Mapping[str, Resource]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All resources of one group, by type and name. `version` is a hash of the content."""

    group: Group
    resources: Mapping[str, Resources]
    version: str


def version_of(resources: Iterable[Resource]) -> str:
    """A hash of a set of resources, whatever their order."""
    lines = sorted(f"{r.name}={r.digest}" for r in resources)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def fixed_resources(
    group: Group, settings: GatewaySettings, contract: Contract
) -> dict[str, dict[str, Resource]]:
    """What does not depend on nodes; built once, because the packed descriptor is large. Raises
    ValueError where a setting does not fit a resource."""
    if group == "mesh":
        listeners, routing = proxyless.api_listeners(contract), []
        made = proxyless.clusters(contract)
    else:
        listeners = [listener.listener(settings, contract)]
        routing, made = [routes.routes(settings, contract)], clusters.clusters(settings, contract)
    return {
        CLUSTER: _resources(CLUSTER, made),
        LISTENER: _resources(LISTENER, listeners),
        ROUTE: _resources(ROUTE, routing),
    }


def build(
    group: Group,
    fixed: Mapping[str, Resources],
    contract: Contract,
    nodes: tuple[NodeLease, ...],
) -> Snapshot:
    """The snapshot of a group for a set of nodes. Raises ValueError for an address that is
    not host:port."""
    made = [
        clusters.assignment(area, nodes, with_draining=group == "gateway")
        for area in contract.areas
    ]
    resources = {**fixed, ENDPOINT: _resources(ENDPOINT, made)}
    everything = (r for type_url in ORDER for r in resources[type_url].values())
    return Snapshot(group, resources, version_of(everything))


def _resources(type_url: str, values: Iterable[Json]) -> dict[str, Resource]:
    found: dict[str, Resource] = {}
    for value in values:
        name = str(value["cluster_name"] if type_url == ENDPOINT else value["name"])
        packed = pack(type_url, value)
        digest = hashlib.sha256(packed.value).hexdigest()[:16]
        found[name] = Resource(name, value, packed, digest)
    return found


def problems(snapshot: Snapshot, contract: Contract) -> tuple[str, ...]:
    """What would make the snapshot fail where it is used; empty for a consistent one."""
    return (
        *_cluster_problems(snapshot),
        *_reference_problems(snapshot),
        *_endpoint_problems(snapshot),
        *_contract_problems(snapshot, contract),
    )


def _cluster_problems(snapshot: Snapshot) -> Iterator[str]:
    made, assigned = snapshot.resources[CLUSTER], snapshot.resources[ENDPOINT]
    if not made:
        yield "there are no clusters"
    if not snapshot.resources[LISTENER]:
        yield "there are no listeners"
    names = [
        c.value["eds_cluster_config"]["service_name"]
        for c in made.values()
        if c.value["type"] == "EDS"
    ]
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield f"two clusters share the endpoints {name!r}"
    for name in sorted(set(names) - set(assigned)):
        yield f"cluster {name!r} has no endpoint assignment"
    for name in sorted(set(assigned) - set(names)):
        yield f"the endpoint assignment {name!r} belongs to no cluster"


def _reference_problems(snapshot: Snapshot) -> Iterator[str]:
    made, routing = snapshot.resources[CLUSTER], snapshot.resources[ROUTE]
    for kind in (ROUTE, LISTENER):
        for resource in snapshot.resources[kind].values():
            for target in _found(resource.value, "route"):
                if (name := target.get("cluster")) not in made:
                    yield f"{resource.name!r} routes to the cluster {name!r}, which does not exist"
    for resource in snapshot.resources[LISTENER].values():
        for rds in _found(resource.value, "rds"):
            if (name := rds.get("route_config_name")) not in routing:
                yield f"listener {resource.name!r} wants the routes {name!r}, which do not exist"


def _endpoint_problems(snapshot: Snapshot) -> Iterator[str]:
    for resource in snapshot.resources[ENDPOINT].values():
        seen = set()
        for socket in _found(resource.value, "socket_address"):
            address = f"{socket['address']}:{socket['port_value']}"
            try:
                ipaddress.ip_address(socket["address"])
            except ValueError:
                yield f"endpoint {address!r} of {resource.name!r} has no IP address"
            if address in seen:
                yield f"endpoint {address!r} of {resource.name!r} is there twice"
            seen.add(address)


def _contract_problems(snapshot: Snapshot, contract: Contract) -> Iterator[str]:
    described = {service.full_name for service in contract.services}
    for resource in snapshot.resources[LISTENER].values():
        for names in _found(resource.value, "services"):
            for name in sorted(set(names) - described):
                yield f"the transcoder wants the service {name!r}, which the descriptor lacks"
    areas = [service.area for service in contract.services]
    for area in sorted({a for a in areas if areas.count(a) > 1}):
        yield f"two services share the area {area!r}"
    rules: dict[tuple[str, str], str] = {}
    for service in contract.services:
        if service.area not in snapshot.resources[CLUSTER]:
            yield f"service {service.full_name!r} has no cluster"
        for method in service.methods:
            for rule in method.rules:
                key = (rule.verb, _shape(rule.template))
                if key in rules:
                    # Envoy answers 404 for both, without a word.
                    yield f"{method.path!r} and {rules[key]!r} share the HTTP rule {key}"
                rules[key] = method.path


def _shape(template: str) -> str:
    """A path template without the names of its variables: `/v1/{name=a/*}` → `/v1/a/*`."""
    parts = template.split("{")
    shape = parts[0]
    for part in parts[1:]:
        variable, _, rest = part.partition("}")
        shape += (variable.partition("=")[2] or "*") + rest
    return shape


def _found(value: Any, key: str) -> Iterator[Any]:
    """Every value under `key`, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from _found(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _found(inner, key)
