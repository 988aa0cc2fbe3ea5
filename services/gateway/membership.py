"""Which nodes are in the mesh: a pure decision over what the registry showed and when.

A node leaves only by saying so (DRAINING, then gone) or by a lease that ran out while the
registry was readable for a whole TTL. After a disturbance (the registry was unreadable, or showed
nobody at all where there was somebody: a restarted or flushed Redis) nobody is given up for two
TTLs; a dead node among them is found by Envoy's health checks and by gRPC's connections.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from services.mesh.lease import NodeLease, RegistryView


@dataclass(frozen=True, slots=True)
class Member:
    """A node that counts. `missing_since_s` is None while the registry shows its lease."""

    lease: NodeLease
    missing_since_s: float | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """The nodes that count, by node id. `disturbed_s`: the last moment of a disturbance."""

    members: tuple[Member, ...] = ()
    disturbed_s: float = float("-inf")
    empty_seen: bool = True

    @property
    def leases(self) -> tuple[NodeLease, ...]:
        """What the members last said."""
        return tuple(m.lease for m in self.members)


def merge(previous: Membership, view: RegistryView, now_s: float, ttl_s: float) -> Membership:
    """The membership after a look at the registry. `now_s` is on the clock of the view's
    `readable_since_s`."""
    if not view.readable:
        held = tuple(replace(m, missing_since_s=None) for m in previous.members)
        return Membership(held, now_s, previous.empty_seen)
    emptied = not view.leases and not previous.empty_seen
    disturbed_s = now_s if emptied else previous.disturbed_s
    shown = {lease.node_id: Member(lease) for lease in view.leases}
    taken = {lease.address for lease in view.leases}
    for member in previous.members:
        lease = member.lease
        if lease.node_id in shown or lease.address in taken or lease.state == "DRAINING":
            continue
        since_s = now_s if member.missing_since_s is None else member.missing_since_s
        readable_s = now_s - max(since_s, view.readable_since_s)
        if readable_s < ttl_s or now_s - disturbed_s < 2 * ttl_s:
            shown[lease.node_id] = Member(lease, since_s)
    members = tuple(shown[node_id] for node_id in sorted(shown))
    return Membership(members, disturbed_s, not view.leases)


def restore(leases: Iterable[NodeLease], now_s: float) -> Membership:
    """A membership from the last good set of an earlier run: held as after a disturbance."""
    members = sorted((Member(lease) for lease in leases), key=lambda m: m.lease.node_id)
    return Membership(tuple(members), now_s, not members)


def to_json(leases: Iterable[NodeLease]) -> str:
    """The form kept on disk."""
    return json.dumps({"nodes": [asdict(lease) for lease in leases]}, indent=1)


def from_json(text: str) -> tuple[NodeLease, ...]:
    """Reads what `to_json` wrote. Raises ValueError, KeyError or TypeError on anything else."""
    return tuple(NodeLease.from_json(json.dumps(node)) for node in json.loads(text)["nodes"])
