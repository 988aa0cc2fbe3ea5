"""What the gateway can be told."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

MIB = 1024 * 1024

LOCAL_ORIGINS = (r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?",)
"""Origins that browsers may call from by default: this machine, any port."""


def origin_pattern(origin: str) -> str:
    """The regular expression of an origin in which `*` stands for any port:
    `http://localhost:*` is also `http://localhost`, whose port is not written."""
    fixed, any_port, rest = origin.partition(":*")
    if rest or "*" in fixed:
        raise ValueError(f"origin {origin!r}: `*` can only stand for the port, at the end")
    return re.escape(fixed) + ("(:[0-9]+)?" if any_port else "")


def committed_descriptor() -> bytes:
    """The contract as `buf build` made it, without source information."""
    return (files("ragmesh.api") / "api.binpb").read_bytes()


def committed_openapi() -> bytes:
    """The OpenAPI document that `protos/generate.py` made from the same contract."""
    return (files("ragmesh.api") / "openapi.json").read_bytes()


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Settings of the control plane and, through it, of Envoy's whole configuration."""

    ads_address: str = "127.0.0.1:18000"
    """`host:port` where the control plane serves ADS, without TLS: keep it on a private network."""
    listen_address: str = "127.0.0.1:8080"
    """`host:port` of Envoy's listener. Anything but an IP address is refused by Envoy."""
    bridge_address: str = ""
    """`host:port` of the bridge, an IP address; empty for none, and no uploads over REST."""
    lease_ttl_s: float = 5.0
    """The life of a lease. Longer holds dead nodes longer; shorter reads a slow Redis as death."""
    cors_origins: tuple[str, ...] = LOCAL_ORIGINS
    """Regular expressions (RE2, whole match) of the origins that browsers may call from."""
    requests_per_s: int = 2000
    """Refill of Envoy's token bucket, for the whole listener; more is refused, RATE_LIMITED."""
    requests_burst: int = 4000
    """Size of that bucket."""
    body_bytes_max: int = 16 * MIB
    """Largest REST body, each way. Envoy holds a whole body in memory while it translates it."""
    unary_timeout_s: float = 120.0
    """Longest call that is no stream, for callers without a deadline of their own."""
    stream_idle_timeout_s: float = 300.0
    """Longest silence of a stream, either way."""
    stream_duration_max_s: float = 3600.0
    """Longest stream."""
    concurrent_streams_max: int = 256
    """Open calls on one HTTP/2 connection."""
    tenant_header_trusted: bool = False
    """Whether `x-ragmesh-tenant` of a caller passes. Only for tests and behind a proxy that sets
    it: whoever may send it may be anyone."""
    access_log_path: str = "/dev/stdout"
    """Where Envoy writes one JSON object per request, without bodies or credentials."""
    state_path: Path | None = None
    """File of the last good set of nodes, read when the registry cannot be; None for none."""
    descriptor: bytes = field(default_factory=committed_descriptor, repr=False)
    """The contract, a serialized FileDescriptorSet."""
    openapi: bytes = field(default_factory=committed_openapi, repr=False)
    """What `GET /openapi.json` returns."""
