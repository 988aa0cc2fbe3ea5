"""The only place that knows Envoy's generated messages: plain JSON values become packed ones.

Resources are built as plain dicts in the proto3 JSON form that Envoy's documentation uses, and
parsed here, so a misspelled field fails where it is built and not in Envoy.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, TypeAlias

from google.protobuf import any_pb2, json_format
from google.protobuf.message import Message

Json: TypeAlias = dict[str, Any]
"""A resource in its proto3 JSON form."""

_PREFIX = "type.googleapis.com/"
LISTENER = _PREFIX + "envoy.config.listener.v3.Listener"
ROUTE = _PREFIX + "envoy.config.route.v3.RouteConfiguration"
CLUSTER = _PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT = _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"

_EXTENSIONS = (
    "access_loggers.file.v3.file",
    "access_loggers.filters.cel.v3.cel",
    "filters.http.buffer.v3.buffer",
    "filters.http.cors.v3.cors",
    "filters.http.grpc_json_transcoder.v3.transcoder",
    "filters.http.grpc_web.v3.grpc_web",
    "filters.http.health_check.v3.health_check",
    "filters.http.local_ratelimit.v3.local_rate_limit",
    "filters.http.router.v3.router",
    "filters.network.http_connection_manager.v3.http_connection_manager",
    "http.early_header_mutation.header_mutation.v3.header_mutation",
    "request_id.uuid.v3.uuid",
    "resource_monitors.downstream_connections.v3.downstream_connections",
    "resource_monitors.fixed_heap.v3.fixed_heap",
    "retry.host.previous_hosts.v3.previous_hosts",
    "upstreams.http.v3.http_protocol_options",
)
# Importing makes the messages known to the descriptor pool, which is how `Any` finds them.
for _name in _EXTENSIONS:
    import_module(f"envoy.extensions.{_name}_pb2")

_DISCOVERY = import_module("envoy.service.discovery.v3.discovery_pb2")
DiscoveryRequest: Any = _DISCOVERY.DiscoveryRequest
DiscoveryResponse: Any = _DISCOVERY.DiscoveryResponse
_CLASSES: dict[str, Any] = {
    LISTENER: import_module("envoy.config.listener.v3.listener_pb2").Listener,
    ROUTE: import_module("envoy.config.route.v3.route_pb2").RouteConfiguration,
    CLUSTER: import_module("envoy.config.cluster.v3.cluster_pb2").Cluster,
    ENDPOINT: import_module("envoy.config.endpoint.v3.endpoint_pb2").ClusterLoadAssignment,
}
_Bootstrap: Any = import_module("envoy.config.bootstrap.v3.bootstrap_pb2").Bootstrap


def pack(type_url: str, resource: Json) -> any_pb2.Any:
    """The resource as it travels; equal values give equal bytes. Raises ValueError where it is
    not a message of that type."""
    packed = any_pb2.Any(type_url=type_url)
    packed.value = _parse(_CLASSES[type_url](), resource).SerializeToString(deterministic=True)
    return packed


def check_bootstrap(bootstrap: Json) -> None:
    """Raises ValueError where Envoy's bootstrap message has no such field or value."""
    _parse(_Bootstrap(), bootstrap)


def _parse(message: Message, value: Json) -> Message:
    try:
        return json_format.ParseDict(value, message)
    except json_format.ParseError as error:
        raise ValueError(f"not a {message.DESCRIPTOR.full_name}: {error}") from error


def typed(message: str, **fields: Any) -> Json:
    """An `Any` of an extension, in JSON form."""
    return {"@type": _PREFIX + message, **fields}


def duration(seconds: float) -> str:
    """A google.protobuf.Duration in JSON form."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
