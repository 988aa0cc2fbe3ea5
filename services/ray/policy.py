"""How many nodes a queue of padded tokens needs.

Serve takes this module by value into its controller, so it imports nothing of ours. When a number
is acted on is Serve's part: up after UPSCALE_DELAY_S of being asked for, down after
DOWNSCALE_DELAY_S.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

QUEUE_S = 2.0
"""Seconds of work that may wait before there is another node. More makes callers wait longer in a
burst, less starts nodes for bursts that are over when they serve."""
BUSY_MAX = 0.8
"""Share of the nodes' speed that may be in use before one is given up, or another is wanted."""
CAPACITY_KEPT = 0.99
"""How much of the fastest speed is still believed after a look that saw a busy node be slower:
Serve looks ten times a second, and speeds change with texts."""
_SPEED_MIN = 1.0
"""Tokens a second below which a node has not begun to work."""
UPSCALE_DELAY_S = 4.0
DOWNSCALE_DELAY_S = 60.0
METRICS_INTERVAL_S = 2.0


@dataclass(frozen=True, slots=True)
class Decision:
    """So many nodes, and what one of them is believed to do at most, tokens a second."""

    nodes: int
    capacity: float


def decide(
    waiting: Sequence[float], speeds: Sequence[float], nodes: int, capacity: float
) -> Decision:
    """How many nodes empty the queue within QUEUE_S and are less busy than BUSY_MAX.

    `waiting` and `speeds` are the padded tokens that wait at each node, and its tokens a second;
    `nodes` how many are asked for now, `capacity` of the last decision, 0 at first. Nodes that say
    nothing change nothing, and until a node was seen busy, what one can do is not known: then a
    queue asks for one more.
    """
    if not waiting:
        return Decision(nodes, capacity)
    fastest = max(
        (speed for speed, tokens in zip(speeds, waiting, strict=True) if tokens > 0), default=0.0
    )
    if fastest >= _SPEED_MIN:
        capacity = max(CAPACITY_KEPT * capacity, fastest)
    if capacity < _SPEED_MIN:
        return Decision(nodes + bool(sum(waiting)), 0.0)
    for_queue = math.ceil(sum(waiting) / (capacity * QUEUE_S))
    for_speed = math.ceil(sum(speeds) / (capacity * BUSY_MAX))
    return Decision(max(1, for_queue, for_speed), capacity)


def policy(context: Any) -> tuple[int, dict[str, float]]:
    """`decide`, in Serve's terms (ray.serve.config.AutoscalingContext)."""
    metrics = context.aggregated_metrics or {}
    waiting = dict(metrics.get("tokens_waiting", {}))
    speeds = metrics.get("tokens_per_s", {})
    decision = decide(
        list(waiting.values()),
        [speeds.get(replica, 0.0) for replica in waiting],
        context.target_num_replicas,
        context.policy_state.get("capacity", 0.0),
    )
    return decision.nodes, {"capacity": decision.capacity}
