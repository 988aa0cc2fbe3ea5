"""Envoy's routes: one per service, with exceptions for streams and for calls safe to repeat."""

from __future__ import annotations

from services.gateway.clusters import BRIDGE
from services.gateway.contract import Contract, Method, Service
from services.gateway.listener import BODY_LIMIT, RATE_LIMIT, ROUTES_NAME, TRANSCODER
from services.gateway.settings import GatewaySettings
from services.gateway.xds import Json, duration, typed

_HTTP = "envoy.extensions.filters.http"
_OPENAPI_HEADROOM_BYTES = 1024

_CORS_HEADERS = (
    "authorization,content-disposition,content-type,grpc-timeout,last-event-id,x-grpc-web,"
    "x-request-id,"
    "x-ragmesh-lane,x-ragmesh-watermark,x-user-agent,traceparent,tracestate"
)
_CORS_EXPOSED = (
    "grpc-status,grpc-message,grpc-status-details-bin,retry-after,x-request-id,"
    "x-ragmesh-watermark,x-ratelimit-limit,x-ratelimit-remaining,x-ratelimit-reset"
)


def routes(settings: GatewaySettings, contract: Contract) -> Json:
    """The route configuration. The transcoder has turned REST paths into gRPC paths before the
    route is chosen, so one rule serves both faces."""
    found = [_direct("/healthz", 200, "ok", "text/plain")]
    found.append(_direct("/openapi.json", 200, settings.openapi.decode(), "application/json"))
    if settings.bridge_address:
        found.append(_upload_route(settings))
        found += _bridge_routes(settings)
    for service in contract.services:
        found += [_method_route(settings, service, m) for m in service.methods]
    found.append(_rest_route(settings, contract))
    found.append({"match": {"prefix": "/"}, "direct_response": {"status": 404}})
    return {
        "name": ROUTES_NAME,
        "validate_clusters": True,
        "max_direct_response_body_size_bytes": len(settings.openapi) + _OPENAPI_HEADROOM_BYTES,
        "virtual_hosts": [
            {
                "name": "ragmesh",
                "domains": ["*"],
                "routes": found,
                "typed_per_filter_config": {"envoy.filters.http.cors": _cors(settings)},
            }
        ],
    }


def _direct(path: str, status: int, body: str, content_type: str) -> Json:
    """A fixed answer. The transcoder, which would not know the path, is off, and so is the rate
    limit: a busy gateway is alive."""
    off = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
    return {
        "match": {
            "path": path,
            "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
        },
        "direct_response": {"status": status, "body": {"inline_string": body}},
        "response_headers_to_add": [
            {
                "header": {"key": "content-type", "value": content_type},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
        "typed_per_filter_config": {TRANSCODER: off, RATE_LIMIT: off},
    }


def _upload_route(settings: GatewaySettings) -> Json:
    """Uploads go to the bridge as they come: neither transcoded nor held in Envoy, and, as what was
    sent is gone, never tried again."""
    off = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
    return {
        "match": {
            "safe_regex": {"regex": "/v1/collections/[^/]+/documents:upload"},
            "headers": [{"name": ":method", "string_match": {"exact": "POST"}}],
        },
        "route": {
            "cluster": BRIDGE,
            "timeout": "0s",
            "idle_timeout": duration(settings.stream_idle_timeout_s),
            "max_stream_duration": {
                "max_stream_duration": duration(settings.stream_duration_max_s),
            },
        },
        "typed_per_filter_config": {TRANSCODER: off},
    }


def _bridge_routes(settings: GatewaySettings) -> list[Json]:
    """What else the bridge speaks: events with ids, the socket, and OpenAI's API. A body of the
    last is held until it is whole, as of REST calls. Nothing is tried again here: readers come back
    by themselves."""
    off = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
    limit = typed(
        f"{_HTTP}.buffer.v3.BufferPerRoute",
        buffer={"max_request_bytes": settings.body_bytes_max},
    )
    action: Json = {
        "cluster": BRIDGE,
        "timeout": "0s",
        "idle_timeout": duration(settings.stream_idle_timeout_s),
        "max_stream_duration": {"max_stream_duration": duration(settings.stream_duration_max_s)},
    }
    get = [{"name": ":method", "string_match": {"exact": "GET"}}]
    upgrade = {"upgrade_configs": [{"upgrade_type": "websocket"}]}
    return [
        {
            "match": {"safe_regex": {"regex": "/v1/answers/[^/]+:events"}, "headers": get},
            "route": action,
            "typed_per_filter_config": {TRANSCODER: off},
        },
        {
            "match": {"path": "/v1/chat:connect", "headers": get},
            "route": {**action, **upgrade},
            "typed_per_filter_config": {TRANSCODER: off},
        },
        {
            "match": {
                "prefix": "/v1/openai/",
                # A preflight is answered by the route of REST paths.
                "headers": [
                    {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|POST"}}}
                ],
            },
            "route": action,
            "typed_per_filter_config": {TRANSCODER: off, BODY_LIMIT: limit},
        },
    ]


def _rest_route(settings: GatewaySettings, contract: Contract) -> Json:
    """What a REST path matches before the transcoder: it brings the CORS policy (a direct
    response would have none) and the limit of bodies. Its cluster is never called: the transcoder
    refuses unknown paths, and known ones match again as gRPC paths."""
    limit = typed(
        f"{_HTTP}.buffer.v3.BufferPerRoute",
        buffer={"max_request_bytes": settings.body_bytes_max},
    )
    return {
        "match": {
            "prefix": "/v1/",
            "headers": [
                {
                    "name": "content-type",
                    "string_match": {"prefix": "application/grpc"},
                    "invert_match": True,
                    "treat_missing_header_as_empty": True,
                }
            ],
        },
        "route": {"cluster": contract.areas[0]},
        "typed_per_filter_config": {BODY_LIMIT: limit},
    }


def _method_route(settings: GatewaySettings, service: Service, method: Method) -> Json:
    action: Json = {"cluster": service.area, "retry_policy": retry_policy(method)}
    if method.streaming:
        # The default of 15 s would cut every long answer.
        action["timeout"] = "0s"
        action["idle_timeout"] = duration(settings.stream_idle_timeout_s)
        longest_s = settings.stream_duration_max_s
    else:
        action["timeout"] = duration(settings.unary_timeout_s)
        longest_s = settings.unary_timeout_s
    # A header maximum of 0 honors the caller's grpc-timeout whatever it is.
    action["max_stream_duration"] = {
        "max_stream_duration": duration(longest_s),
        "grpc_timeout_header_max": "0s",
    }
    return {"match": {"path": method.path}, "route": action}


def retry_policy(method: Method) -> Json:
    """Another node is tried where the first cannot have begun; calls without side effects are
    also repeated where it may have."""
    retry_on = "connect-failure,refused-stream"
    if method.safe:
        retry_on += ",unavailable,reset-before-request"
    return {
        "retry_on": retry_on,
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": typed(
                    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                ),
            }
        ],
        "host_selection_retry_max_attempts": 3,
    }


def _cors(settings: GatewaySettings) -> Json:
    return typed(
        f"{_HTTP}.cors.v3.CorsPolicy",
        allow_origin_string_match=[
            {"safe_regex": {"regex": origin}} for origin in settings.cors_origins
        ],
        allow_methods="GET,POST,PATCH,PUT,DELETE,OPTIONS",
        allow_headers=_CORS_HEADERS,
        expose_headers=_CORS_EXPOSED,
        max_age="600",
        forward_not_matching_preflights=False,
    )
