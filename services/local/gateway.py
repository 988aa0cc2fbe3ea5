"""The gateway on one machine: our control plane, and the Envoy that it configures."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engine.errors import FailedPrecondition
from services.config import GatewaySettings, Settings, to_environment
from services.local.directory import DataDirectory
from services.local.envoy import envoy_part
from services.local.process import own_argv
from services.local.supervisor import Part

_TEMPLATE = Path(__file__).parents[2] / "deploy" / "envoy" / "bootstrap.json"


def gateway_parts(
    directory: DataDirectory, settings: Settings, *, depends_on: tuple[str, ...] = ()
) -> tuple[Part, Part, Part]:
    """The parts `control-plane`, `bridge` and `envoy`; writes Envoy's bootstrap.

    `settings.gateway` and `settings.bridge` name the addresses, `settings.store.redis_url` the
    registry. Raises FailedPrecondition where the template or a binary is missing or cannot be
    used.
    """
    gateway = settings.gateway
    bootstrap = directory.run / "envoy.json"
    bootstrap.write_text(_bootstrap(gateway))
    state_file = directory.run / "nodes.json"

    control_plane = Part(
        name="control-plane",
        argv=lambda: own_argv("control-plane", "--state-file", str(state_file)),
        env=to_environment(settings),
        ready=lambda: _listens(gateway.ads_listen),
        log_file=directory.logs / "control-plane.log",
        depends_on=depends_on,
        stop_grace_s=5.0,
    )
    bridge = Part(
        name="bridge",
        argv=lambda: own_argv("bridge"),
        env=to_environment(settings),
        ready=lambda: _listens(settings.bridge.listen),
        log_file=directory.logs / "bridge.log",
        depends_on=("control-plane",),
        stop_grace_s=15.0,
    )
    envoy = envoy_part(
        directory,
        bootstrap,
        gateway.admin_listen,
        depends_on=("control-plane", "bridge"),
        concurrency=gateway.concurrency,
    )
    return control_plane, bridge, envoy


async def _listens(address: str) -> bool:
    host, port = split_address(address)
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return True


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`; a host in brackets loses them."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _bootstrap(gateway: GatewaySettings) -> str:
    from services.gateway.bootstrap import BootstrapValues, render  # half a second of xDS types

    template = gateway.bootstrap or _TEMPLATE
    ads_host, ads_port = split_address(gateway.ads_listen)
    admin_host, admin_port = split_address(gateway.admin_listen)
    values = BootstrapValues(
        ads_host=ads_host, ads_port=ads_port, admin_host=admin_host, admin_port=admin_port
    )
    try:
        return render(template, values.as_mapping())
    except (OSError, ValueError) as error:
        raise FailedPrecondition(
            f"the template {template} of Envoy's bootstrap cannot be used: {error}; name one with "
            "RAGMESH_GATEWAY__BOOTSTRAP (a checkout has deploy/envoy/bootstrap.json)",
            metadata={"path": str(template), "problem": str(error)},
        ) from error
