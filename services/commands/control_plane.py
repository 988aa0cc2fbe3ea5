"""`ragmesh control-plane`: the ADS server alone, as `up` and `gateway` run it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands import options

if TYPE_CHECKING:
    from services.config import Settings
    from services.gateway.settings import GatewaySettings


def control_plane(
    redis_url: options.RedisUrl = None,
    listen: Annotated[str | None, typer.Option(help="host:port where it serves ADS.")] = None,
    gateway_listen: Annotated[str | None, typer.Option(help="host:port of Envoy.")] = None,
    state_file: Annotated[
        Path | None, typer.Option(help="Where the last good set of nodes is kept.")
    ] = None,
    log_level: options.LogLevel = None,
) -> None:
    """Serve configuration to Envoy and to gRPC clients, from what the registry shows."""
    import uvloop

    from services.commands.settings import load
    from services.logs import configure

    settings = load(
        log_level=log_level,
        gateway__ads_listen=listen,
        gateway__listen=gateway_listen,
        store__redis_url=redis_url,
    )
    configure(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings, state_file))


async def _run(settings: Settings, state_file: Path | None) -> None:
    from engine.errors import InvalidField
    from services.commands.board import publisher
    from services.commands.signals import stop_event
    from services.gateway.control import run_control_plane
    from services.mesh.registry import Registry
    from services.store.redis import connect

    url = settings.store.redis_url.get_secret_value()
    if not url:
        raise InvalidField(
            "The control plane reads the registry in Redis. Give --redis-url or "
            "RAGMESH_STORE__REDIS_URL, or use `ragmesh up`, which starts one.",
            field="store.redis_url",
        )
    redis = connect(url)
    try:
        await run_control_plane(
            _gateway_settings(settings, state_file),
            Registry(redis, settings.node.lease_ttl_s),
            stop_event(),
            publisher(redis),
        )
    except (RuntimeError, ValueError) as error:
        raise InvalidField(
            f"the control plane cannot serve {settings.gateway.ads_listen}: {error}",
            field="gateway",
            metadata={"listen": settings.gateway.ads_listen},
        ) from error
    finally:
        await redis.aclose()


def _gateway_settings(settings: Settings, state_file: Path | None) -> GatewaySettings:
    from services.gateway.settings import GatewaySettings

    given = settings.gateway
    return GatewaySettings(
        ads_address=given.ads_listen,
        listen_address=given.listen,
        bridge_address=settings.bridge.listen,
        lease_ttl_s=settings.node.lease_ttl_s,
        cors_origins=tuple(origin_pattern(origin) for origin in given.cors_origins),
        requests_per_s=given.requests_per_s,
        requests_burst=2 * given.requests_per_s,
        body_bytes_max=settings.node.message_bytes_max,
        tenant_header_trusted=given.trust_tenant_header,
        state_path=state_file,
    )


def origin_pattern(origin: str) -> str:
    """A regular expression (RE2, whole match) for an origin: `*` alone is any origin, `*` as the
    port any port or none, and `*` elsewhere one label or more of a host name."""
    if origin == "*":
        return ".*"
    host, wildcard_port = (origin[:-2], True) if origin.endswith(":*") else (origin, False)
    pattern = re.escape(host).replace(r"\*", r"[A-Za-z0-9.-]+")
    return pattern + ("(:[0-9]+)?" if wildcard_port else "")
