"""What Envoy and gRPC clients must know before they can ask the control plane."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.gateway.xds import check_bootstrap


@dataclass(frozen=True, slots=True)
class BootstrapValues:
    """The places of `deploy/envoy/bootstrap.json` that differ from run to run. Addresses are IP
    addresses, or names where the control plane is a container; the admin port is full control
    over Envoy: loopback only."""

    ads_host: str
    ads_port: int
    node_id: str = "gateway-1"
    admin_host: str = "127.0.0.1"
    admin_port: int = 9901
    connections_max: int = 10_000
    heap_bytes_max: int = 1024 * 1024 * 1024

    def as_mapping(self) -> dict[str, str | int]:
        """By the names that the template uses."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def render(template_path: Path, values: Mapping[str, str | int]) -> str:
    """The template with every string `"${name}"` replaced by the value of that name, a number
    staying a number. Raises ValueError for a place without a value, a value without a place, and
    a result that is no bootstrap of Envoy's."""
    text = template_path.read_text()
    for name, value in values.items():
        place = json.dumps("${" + name + "}")
        if place not in text:
            raise ValueError(f"{template_path} has no place for {name!r}")
        text = text.replace(place, json.dumps(value))
    if "${" in text:
        name = text.partition("${")[2].partition("}")[0]
        raise ValueError(f"{template_path} needs a value for {name!r}")
    check_bootstrap(json.loads(text))
    return text


def grpc_bootstrap(ads_address: str, node_id: str) -> str:
    """For `GRPC_XDS_BOOTSTRAP_CONFIG`, which must be set before a process makes its first channel
    to `xds:///…`. `node_id` is unique for each process."""
    server = {
        "server_uri": ads_address,
        "channel_creds": [{"type": "insecure"}],
        "server_features": ["xds_v3"],
    }
    node = {"id": node_id, "cluster": "mesh"}
    return json.dumps({"xds_servers": [server], "node": node}, separators=(",", ":"))
