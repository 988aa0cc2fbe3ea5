"""Which nodes are wanted, and what each takes: a pure reading of the settings."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from engine.errors import InvalidField
from services.config import RaySettings

SURGE_PERCENT = 25
"""Of the nodes of a placement, at least one: how many more there may be while all are replaced."""

_REPLICAS_MAX = 1_000
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Placement:
    """Nodes that host the same services: from `replicas_min` to `replicas_max` of them (equal
    where the number is fixed), each with so many of Ray's logical CPUs and GPUs."""

    services: tuple[str, ...]
    replicas_min: int = 1
    replicas_max: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    @property
    def name(self) -> str:
        """What its nodes are called, such as `embedding` or `generation-chat`."""
        return "-".join(self.services)


def parse_amounts(text: str) -> dict[str, str]:
    """`embedding=2,retrieval=1..3` as a mapping. Raises InvalidField for anything else."""
    amounts: dict[str, str] = {}
    for pair in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, amount = pair.partition("=")
        if not equals or not name.strip() or not amount.strip():
            raise InvalidField(
                f"{pair!r} is no amount of a service; write such as embedding=2,retrieval=1",
                field="ray",
                metadata={"given": pair},
            )
        amounts[name.strip()] = amount.strip()
    return amounts


def placements(nodes: Sequence[Sequence[str]], ray: RaySettings) -> tuple[Placement, ...]:
    """One placement for every group of services, in their order.

    Raises InvalidField for a service that no group hosts, a group hosted twice, two different
    amounts within a group, or an amount that is none.
    """
    groups = [tuple(node) for node in nodes]
    if len(set(groups)) != len(groups):
        raise InvalidField(
            "two groups of nodes host the same services; name the group once, and say with "
            "--ray-replicas how many there are",
            field="nodes",
        )
    for field in ("replicas", "cpus", "gpus"):
        named = getattr(ray, field)
        strange = sorted(set(named) - {service for group in groups for service in group})
        if strange:
            raise InvalidField(
                f"ray.{field} names {strange[0]}, which no node hosts",
                field=f"ray.{field}",
                metadata={"service": strange[0]},
            )
    return tuple(_placement(group, ray) for group in groups)


def cpus_needed(wanted: Sequence[Placement]) -> int:
    """Logical CPUs for all of them at once, with those that are more while they are replaced."""
    return math.ceil(
        sum(
            one.cpus * (one.replicas_max + math.ceil(one.replicas_max * SURGE_PERCENT / 100))
            for one in wanted
        )
    )


def _placement(group: tuple[str, ...], ray: RaySettings) -> Placement:
    low, high = _range(_one(group, ray.replicas, "replicas", 1))
    cpus = _one(group, ray.cpus, "cpus", 1.0)
    gpus = _one(group, ray.gpus, "gpus", 0.0)
    if cpus < 0 or gpus < 0:
        raise InvalidField(
            f"a node of {', '.join(group)} would take {cpus:g} CPUs and {gpus:g} GPUs; "
            "neither may be negative",
            field="ray.cpus" if cpus < 0 else "ray.gpus",
        )
    return Placement(group, low, high, cpus, gpus)


def _one(
    group: tuple[str, ...], named: Mapping[str, _Value], field: str, otherwise: _Value
) -> _Value:
    """The amount that the settings have for a group, whichever of its services they name."""
    found = {str(named[service]): named[service] for service in group if service in named}
    if len(found) > 1:
        raise InvalidField(
            f"ray.{field} has {' and '.join(found)} for services of one node ({', '.join(group)}); "
            "give one amount",
            field=f"ray.{field}",
        )
    return next(iter(found.values()), otherwise)


def _range(amount: int | str) -> tuple[int, int]:
    """`2` as (2, 2), `1..4` as (1, 4)."""
    match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", str(amount))
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= low <= high <= _REPLICAS_MAX:
        raise InvalidField(
            f"{amount!r} is no number of nodes; write such as 2, or 1..4 for a number that follows "
            f"the queue, from 1 to {_REPLICAS_MAX}",
            field="ray.replicas",
            metadata={"given": amount},
        )
    return low, high
