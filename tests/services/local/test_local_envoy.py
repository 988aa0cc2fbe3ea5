"""Envoy from its wheel: ready when it says so, and no open request is lost by a stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from engine.errors import InvalidField
from services.local.directory import hold
from services.local.envoy import ask_admin, envoy_part
from services.local.ports import choose_ports
from services.local.supervisor import PartEvent, Supervisor

FILTERS = "envoy.filters.http"
TYPES = "type.googleapis.com/envoy.extensions.filters"
ACTIVE = "/stats?filter=http.ingress.downstream_rq_active"


def bootstrap(admin: str, port: int) -> str:
    """One listener that answers after two seconds."""
    fault = {
        "@type": f"{TYPES}.http.fault.v3.HTTPFault",
        "delay": {"fixed_delay": "2s", "percentage": {"numerator": 100}},
    }
    router = {"@type": f"{TYPES}.http.router.v3.Router"}
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [answer]}]},
        "http_filters": [
            {"name": f"{FILTERS}.fault", "typed_config": fault},
            {"name": f"{FILTERS}.router", "typed_config": router},
        ],
    }
    listener = {
        "name": "slow",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    }
    return json.dumps(
        {
            "admin": {"address": {"pipe": {"path": admin}}},
            "static_resources": {"listeners": [listener]},
        }
    )


def test_a_stop_waits_for_open_requests_and_a_kill_is_healed(tmp_path: Path) -> None:
    async def main() -> None:
        with hold(tmp_path / "data") as held:
            directory = held.directory
            port = choose_ports({"gateway": 0}, directory.ports_file)["gateway"]
            admin = str(directory.socket("envoy-admin.sock"))
            file = directory.run / "envoy.json"
            file.write_text(bootstrap(admin, port))
            events: list[PartEvent] = []
            part = envoy_part(directory, file, admin)
            supervisor = Supervisor([part], on_event=events.append)
            await supervisor.start()
            assert (await ask_admin(admin, "GET", "/ready")) == (200, "LIVE\n")
            killed = supervisor.states()[0].pid
            os.kill(killed, signal.SIGKILL)
            while supervisor.states()[0].pid == killed or not supervisor.states()[0].ready:
                await asyncio.sleep(0.02)
            async with httpx.AsyncClient() as client:
                request = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
                while "rq_active: 1" not in (await ask_admin(admin, "GET", ACTIVE))[1]:
                    await asyncio.sleep(0.02)
                await supervisor.stop()
                assert (await request).status_code == 200

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("address", ["", "9901", "localhost:", "a:b:1", "http:x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidField, match="admin address"):
        asyncio.run(ask_admin(address, "GET", "/ready"))
