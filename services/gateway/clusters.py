"""Envoy's clusters and their endpoints: one cluster per service of the contract, always."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from services.gateway.contract import Contract, Service
from services.gateway.listener import ADS, socket_address
from services.gateway.settings import MIB, GatewaySettings
from services.gateway.xds import Json, typed
from services.mesh.lease import NodeLease

BRIDGE = "bridge"
"""The bridge's cluster; no service has this name."""


def cluster(service: Service) -> Json:
    """A service's cluster. Its endpoints come by EDS, so it never changes while the mesh runs."""
    return {
        "name": service.area,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": ADS, "service_name": service.area},
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {
            "healthy_panic_threshold": {"value": 0},
            # Envoy's default holds changes of health back for up to 1 s to merge them: /readyz
            # would say yes, and calls fail, and a draining node would get calls for that long.
            "update_merge_window": "0s",
        },
        # Nodes leave the set only for good reasons (membership.py), so a removal is obeyed at
        # once, whatever the health check says.
        "ignore_health_on_host_removal": True,
        "per_connection_buffer_limit_bytes": MIB,
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_time": 30, "keepalive_interval": 5}
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={
                    "http2_protocol_options": {
                        "initial_stream_window_size": MIB,
                        "initial_connection_window_size": 16 * MIB,
                    }
                },
            )
        },
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "1s",
                # Otherwise 60 s while a cluster has had no traffic.
                "no_traffic_interval": "1s",
                "no_traffic_healthy_interval": "1s",
                "unhealthy_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "grpc_health_check": {"service_name": service.full_name},
            }
        ],
        "outlier_detection": _outlier_detection(),
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 1024,
                    "max_pending_requests": 1024,
                    "max_requests": 4096,
                    "track_remaining": True,
                    "retry_budget": {
                        "budget_percent": {"value": 20},
                        "min_retry_concurrency": 10,
                    },
                }
            ]
        },
    }


def _outlier_detection() -> Json:
    """Ejects nodes that cannot be reached. An UNAVAILABLE that a node answers counts for nothing:
    it means draining, or a dependency that all nodes share, and ejecting the last node would hide
    the reason from callers."""
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 5,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": "5s",
        "max_ejection_percent": 50,
        "always_eject_one_host": True,
    }


def assignment(area: str, nodes: Iterable[NodeLease], *, with_draining: bool) -> Json:
    """The endpoints of a service. Envoy is told of draining ones, so that what they have begun
    can end; gRPC clients are not, for whom to be absent means the same. Locality weights are
    the numbers of nodes, so that gRPC spreads calls over nodes evenly."""
    chosen = [
        node
        for node in sorted(nodes, key=lambda n: n.address)
        if area in node.services and (with_draining or node.state == "SERVING")
    ]
    sizes = Counter(node.locality for node in chosen)
    localities = [
        {
            "locality": {"region": locality},
            "load_balancing_weight": size,
            "lb_endpoints": [_endpoint(n) for n in chosen if n.locality == locality],
        }
        for locality, size in sorted(sizes.items())
    ]
    return {"cluster_name": area, "endpoints": localities}


def _endpoint(node: NodeLease) -> Json:
    status = "HEALTHY" if node.state == "SERVING" else "DRAINING"
    return {
        "endpoint": {"address": socket_address(node.address)},
        "health_status": status,
        "load_balancing_weight": 1,
    }


def bridge_cluster(settings: GatewaySettings) -> Json:
    """The bridge's cluster: one process beside Envoy, whose address does not change."""
    endpoint = {"endpoint": {"address": socket_address(settings.bridge_address)}}
    return {
        "name": BRIDGE,
        "type": "STATIC",
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": MIB,
        "load_assignment": {
            "cluster_name": BRIDGE,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
        # Beyond these Envoy refuses by itself; the bridge refuses earlier, and says more.
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": 1024, "max_pending_requests": 1024, "max_requests": 2048}
            ]
        },
    }


def clusters(settings: GatewaySettings, contract: Contract) -> list[Json]:
    """All of Envoy's clusters."""
    found = [cluster(service) for service in contract.services]
    return [*found, bridge_cluster(settings)] if settings.bridge_address else found
