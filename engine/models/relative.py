"""MPNet's bias by relative position, as part of a graph.

Song et al. 2020 take it from Raffel et al. 2020 (T5, section 2.1): near distances have a bucket
each, farther ones share buckets that widen logarithmically, with half of them for either side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.models.nodes import Builder

DISTANCE_MAX = 128
"""From here on all distances share one bucket, in every MPNet checkpoint."""


def position_bias(b: Builder, table: NDArray[np.float32]) -> str:
    """Adds the bias (1, heads, tokens, tokens) to a graph. `table` is (buckets, heads)."""
    reach = DISTANCE_MAX
    distances = np.arange(-reach, reach + 1)
    rows = table[buckets(distances, len(table))].T  # (heads, 2 · reach + 1)
    count = b.add("Squeeze", ["tokens.count"], "relative.count")
    zero, one = (b.constant(f"relative.{n}", np.array(n, np.int64)) for n in (0, 1))
    places = b.add("Range", [zero, count, one], "relative.places")
    down = b.add("Unsqueeze", [places, _axis(b, 1)], "relative.down")
    across = b.add("Unsqueeze", [places, _axis(b, 0)], "relative.across")
    apart = b.add("Sub", [across, down], "relative.apart")  # of the key from the query
    low, high = (b.constant(f"relative.{n}", np.array(n, np.int64)) for n in (-reach, reach))
    near = b.add("Clip", [apart, low, high], "relative.near")
    index = b.add("Add", [near, high], "relative.index")
    bias = b.add("Gather", [b.weight("relative.rows", rows), index], "relative.heads", axis=1)
    return b.add("Unsqueeze", [bias, _axis(b, 0)], "relative.bias")


def buckets(distances: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The bucket of each distance (key place minus query place), 0 to `count` - 1."""
    half = count // 2
    exact = half // 2
    size = np.abs(distances)
    ratios = np.maximum(size, exact).astype(np.float32) / np.float32(exact)
    far = np.log(ratios) / np.float32(np.log(DISTANCE_MAX / exact)) * np.float32(half - exact)
    wide = np.minimum(exact + far.astype(np.int64), half - 1)
    side = np.where(distances > 0, half, 0)
    return np.asarray(side + np.where(size < exact, size, wide), np.int64)


def _axis(b: Builder, number: int) -> str:
    return b.constant(f"axis.{number}", np.array([number], np.int64))
