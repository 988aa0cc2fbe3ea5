"""Reciprocal rank fusion of ranked lists.

Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank
Learning Methods", SIGIR 2009: score(d) = sum over lists of weight / (k + rank of d), ranks from 1.
The paper uses k = 60 and no weights. Here k is 10 by default: with lists of about a hundred, the
first ranks should count for more.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)

RRF_K_DEFAULT = 10.0


def reciprocal_rank_fusion(
    legs: Sequence[tuple[Sequence[Item], float]], k: float = RRF_K_DEFAULT
) -> dict[Item, float]:
    """The fused score of every item in any of the legs, each a list, best first, and its weight.

    An item is counted once a leg, at its first rank. `k` > 0; weights >= 0.
    """
    fused: dict[Item, float] = {}
    for items, weight in legs:
        for rank, item in enumerate(dict.fromkeys(items), 1):
            fused[item] = fused.get(item, 0.0) + weight / (k + rank)
    return fused
