"""Which way to search a segment: scan the rows that count, or walk the graph and filter after.

The count of eligible rows (alive and matching the filter) is known exactly before the choice, so
the choice is between two costs. To find `k` eligible rows among `count` of which `eligible` count,
the graph has to be asked for about k * count / eligible neighbors, if the filter is independent of
the query; where it is opposed to it, for more, and the search widens up to the point where the
scan is cheaper. So the worst case costs about twice the scan.
"""

from __future__ import annotations

from dataclasses import dataclass

GRAPH_NS_PER_NEIGHBOR = 2_500.0
"""What one neighbor more in the beam costs: 0.16 ms at ef 64, 384 dimensions, M 16."""

SCAN_NS_PER_ROW = 220.0
"""What one row more in a scan of scattered rows costs, at 384 dimensions."""

OVERFETCH = 1.5
"""How many times the expected number of neighbors the graph is first asked for."""

WIDENING = 4
"""By how much a search widens that found too few."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`neighbors` to ask the graph for first; None to scan. `neighbors_max` is the last widening
    that is worth it."""

    neighbors: int | None
    neighbors_max: int


def choose(*, count: int, eligible: int, k: int, ef: int) -> Plan:
    """The cheaper way to the best `k` of `eligible` rows in a graph of `count` rows.

    All rows being eligible, one search for max(k, ef) is always enough.
    """
    neighbors_max = min(count, max(1, int(eligible * SCAN_NS_PER_ROW / GRAPH_NS_PER_NEIGHBOR)))
    if eligible >= count:
        neighbors = max(k, ef)
        return Plan(None, 0) if k >= count else Plan(min(neighbors, count), count)
    neighbors = max(ef, int(OVERFETCH * k * count / max(eligible, 1)) + 1)
    if neighbors > neighbors_max:
        return Plan(None, 0)
    return Plan(neighbors, neighbors_max)
