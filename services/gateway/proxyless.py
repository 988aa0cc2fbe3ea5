"""Resources for gRPC clients on `xds:///<area>`: only what gRPC's own xDS client knows, because
it rejects a whole response for one resource that it does not."""

from __future__ import annotations

from services.gateway.contract import Contract, Service
from services.gateway.listener import ADS
from services.gateway.xds import Json, typed

_REQUESTS_MAX = 100_000
"""gRPC would otherwise allow 1,024 calls at a time to a cluster (A32); nodes bound themselves."""


def api_listener(service: Service) -> Json:
    """What `xds:///<area>` resolves to, with its routes inline."""
    router = typed("envoy.extensions.filters.http.router.v3.Router")
    manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        route_config=route_configuration(service),
        http_filters=[{"name": "router", "typed_config": router}],
    )
    return {"name": service.area, "api_listener": {"api_listener": manager}}


def route_configuration(service: Service) -> Json:
    """Everything goes to the service's cluster; calls without side effects are repeated once
    where no node answered."""
    action: Json = {"cluster": service.area}
    retry = {"retry_policy": {"retry_on": "unavailable", "num_retries": 1}}
    found: list[Json] = [
        {"match": {"path": m.path}, "route": {**action, **retry}}
        for m in service.methods
        if m.safe and not m.streaming
    ]
    found.append({"match": {"prefix": ""}, "route": action})
    host = {"name": service.area, "domains": ["*"], "routes": found}
    return {"name": service.area, "virtual_hosts": [host]}


def cluster(service: Service) -> Json:
    """A service's cluster: round robin, and no health checks, which gRPC does not do over xDS."""
    return {
        "name": service.area,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": ADS, "service_name": service.area},
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": {"thresholds": [{"max_requests": _REQUESTS_MAX}]},
    }


def api_listeners(contract: Contract) -> list[Json]:
    """One for each service."""
    return [api_listener(service) for service in contract.services]


def clusters(contract: Contract) -> list[Json]:
    """One for each service."""
    return [cluster(service) for service in contract.services]
