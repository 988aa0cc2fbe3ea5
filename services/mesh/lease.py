"""What a node says of itself, and what the registry knows of all nodes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

LeaseState: TypeAlias = Literal["SERVING", "DRAINING"]


@dataclass(frozen=True, slots=True)
class NodeLease:
    """A node's announcement: renewed while it lives, DRAINING before it goes.

    `address` is `host:port` of its gRPC server, `metrics_address` of its Prometheus port. `load`
    is the share of its request limit in use, 0 to 1.
    """

    node_id: str
    services: tuple[str, ...]
    address: str
    state: LeaseState
    locality: str = ""
    load: float = 0.0
    version: str = ""
    metrics_address: str = ""

    def to_json(self) -> str:
        """As kept in Redis."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str | bytes) -> NodeLease:
        """Reads what `to_json` wrote; ignores fields that a newer node added. Raises ValueError,
        KeyError or TypeError on anything else."""
        data = json.loads(text)
        known = {k: data[k] for k in NodeLease.__dataclass_fields__ if k in data}
        return NodeLease(**{**known, "services": tuple(known["services"])})


@dataclass(frozen=True, slots=True)
class RegistryView:
    """What the registry shows at one moment.

    `readable` is False when Redis does not answer; `leases` is then what was last seen.
    `readable_since_s` is the monotonic time since which every read has succeeded: a Redis that
    was restarted or flushed starts anew, so that its emptiness is not read as death.
    """

    leases: tuple[NodeLease, ...]
    readable: bool
    readable_since_s: float
