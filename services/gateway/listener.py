"""Envoy's one listener: gRPC, gRPC-Web, REST and SSE on one port."""

from __future__ import annotations

import base64

from services.gateway.contract import Contract
from services.gateway.replies import local_reply_config
from services.gateway.settings import MIB, GatewaySettings
from services.gateway.xds import Json, duration, typed

LISTENER_NAME = "gateway"
ROUTES_NAME = "gateway"
ADS: Json = {"ads": {}, "resource_api_version": "V3"}
TENANT_HEADER = "x-ragmesh-tenant"

RATE_LIMIT = "envoy.filters.http.local_ratelimit"
BODY_LIMIT = "envoy.filters.http.buffer"
TRANSCODER = "envoy.filters.http.grpc_json_transcoder"

_HTTP = "envoy.extensions.filters.http"
_FRAMING_BYTES = 64 * 1024
"""What gRPC's framing and a message's fixed fields may add to a body of the largest size."""


def listener(settings: GatewaySettings, contract: Contract) -> Json:
    """The listener. Filters run in this order: health, CORS, gRPC-Web, rate limit, body limit,
    transcoder."""
    return {
        "name": LISTENER_NAME,
        "address": socket_address(settings.listen_address),
        "per_connection_buffer_limit_bytes": MIB,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _connection_manager(settings, contract),
                    }
                ]
            }
        ],
    }


def socket_address(address: str) -> Json:
    """`host:port` or `[host]:port` as Envoy writes it. Raises ValueError where it is neither."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"address {address!r} is not host:port with a port of 1 to 65535")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def _connection_manager(settings: GatewaySettings, contract: Contract) -> Json:
    return typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="gateway",
        codec_type="AUTO",
        rds={"config_source": ADS, "route_config_name": ROUTES_NAME},
        http_filters=_filters(settings, contract),
        local_reply_config=local_reply_config(settings),
        access_log=[_access_log(settings)],
        early_header_mutation_extensions=[_strip_forged(settings)],
        # The edge settings of Envoy's guide "Configuring Envoy as an edge proxy".
        use_remote_address=True,
        internal_address_config={"unix_sockets": False},
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        common_http_protocol_options={
            "idle_timeout": "3600s",
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        http2_protocol_options={
            "max_concurrent_streams": settings.concurrent_streams_max,
            "initial_stream_window_size": 256 * 1024,
            "initial_connection_window_size": MIB,
        },
        # Off except on the one route that says otherwise: its bytes pass no filter that holds them.
        upgrade_configs=[
            {
                "upgrade_type": "websocket",
                "enabled": False,
                "filters": [_local_limit(settings), _router()],
            }
        ],
        request_headers_timeout="10s",
        stream_idle_timeout=duration(settings.stream_idle_timeout_s),
        server_header_transformation="PASS_THROUGH",
        # A request id comes in by header or is made here, and goes out in every answer.
        generate_request_id=True,
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        request_id_extension={
            "typed_config": typed(
                "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", pack_trace_reason=False
            )
        },
    )


def _strip_forged(settings: GatewaySettings) -> Json:
    """Headers that only Envoy, or whoever checks identity, may set."""
    names = ["x-envoy-original-path", "x-envoy-original-method"]
    if not settings.tenant_header_trusted:
        names.append(TENANT_HEADER)
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            mutations=[{"remove": name} for name in names],
        ),
    }


def _filters(settings: GatewaySettings, contract: Contract) -> list[Json]:
    return [
        {"name": "readyz", "typed_config": _readiness(contract)},
        {"name": "envoy.filters.http.cors", "typed_config": typed(f"{_HTTP}.cors.v3.Cors")},
        {
            "name": "envoy.filters.http.grpc_web",
            "typed_config": typed(f"{_HTTP}.grpc_web.v3.GrpcWeb"),
        },
        _local_limit(settings),
        {
            # Off except on the route of REST paths: it holds a body until it is whole, which
            # no stream survives. The transcoder's own limit is only on what it has not read yet.
            "name": BODY_LIMIT,
            "typed_config": typed(
                f"{_HTTP}.buffer.v3.Buffer", max_request_bytes=settings.body_bytes_max
            ),
            "disabled": True,
        },
        {"name": TRANSCODER, "typed_config": _transcoder(settings, contract)},
        _router(),
    ]


def _local_limit(settings: GatewaySettings) -> Json:
    return {"name": RATE_LIMIT, "typed_config": _rate_limit(settings)}


def _router() -> Json:
    return {"name": "envoy.filters.http.router", "typed_config": typed(f"{_HTTP}.router.v3.Router")}


def _readiness(contract: Contract) -> Json:
    """`GET /readyz`: 200 while every service has healthy nodes (at least one, and at least 1 %:
    Envoy reads smaller numbers as 0), else 503."""
    return typed(
        f"{_HTTP}.health_check.v3.HealthCheck",
        pass_through_mode=False,
        headers=[{"name": ":path", "string_match": {"exact": "/readyz"}}],
        cluster_min_healthy_percentages={area: {"value": 1} for area in contract.areas},
    )


def _rate_limit(settings: GatewaySettings) -> Json:
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return typed(
        f"{_HTTP}.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="gateway",
        token_bucket={
            "max_tokens": settings.requests_burst,
            "tokens_per_fill": settings.requests_per_s,
            "fill_interval": "1s",
        },
        filter_enabled=always,
        filter_enforced=always,
        rate_limited_as_resource_exhausted=True,
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
    )


def _transcoder(settings: GatewaySettings, contract: Contract) -> Json:
    """REST for the services' HTTP rules and nothing else.

    JSON is frozen as: proto3 JSON names (camelCase), fields with default values printed, enums by
    name, 64-bit integers and bytes as strings, server streams as SSE.
    """
    return typed(
        f"{_HTTP}.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor_bin=base64.b64encode(settings.descriptor).decode(),
        services=[service.full_name for service in contract.services],
        convert_grpc_status=True,
        print_options={
            "always_print_primitive_fields": True,
            "stream_sse_style_delimited": True,
        },
        request_validation_options={
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
        max_request_body_size=settings.body_bytes_max,
        max_response_body_size=settings.body_bytes_max + _FRAMING_BYTES,
    )


def _access_log(settings: GatewaySettings) -> Json:
    """One JSON object per request; neither bodies nor queries nor credentials are in it."""
    fields = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ)%",
        "protocol": "%PROTOCOL%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "received_bytes": "%BYTES_RECEIVED%",
        "sent_bytes": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "node": "%UPSTREAM_HOST%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "peer": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    }
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": typed(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=settings.access_log_path,
            log_format={"json_format": fields},
        ),
    }
