"""More nodes than this machine has cores, simulated from service times that were measured on it.

Method. A node works on one call at a time, in the order of arrival. A call takes a service time
drawn from those measured, one caller at a time, through the gateway; so what gateway, transport and
node cost is in it, and what grows with the number of nodes is not: one gateway's own ceiling, and
the network between machines. Callers are a fixed number for each node and call again as soon as
they are answered. A call goes to the less busy of two nodes chosen at random, which is what Envoy
does for LEAST_REQUEST. What is lost against so many single nodes is what that choice leaves idle.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence

SEED = 7


def calls_per_s(service_s: Sequence[float], nodes: int, callers: int, calls: int) -> float:
    """Calls a second that `nodes` answer to so many callers, over so many calls."""
    chance = random.Random(SEED)
    busy_until_s = [0.0] * nodes
    waiting = [0] * nodes
    answered: list[tuple[float, int]] = []
    now_s = 0.0
    for number in range(calls):
        if number >= callers:
            now_s, node = heapq.heappop(answered)
            waiting[node] -= 1
        pair = chance.sample(range(nodes), min(2, nodes))
        node = min(pair, key=waiting.__getitem__)
        waiting[node] += 1
        begin_s = max(now_s, busy_until_s[node])
        busy_until_s[node] = begin_s + chance.choice(service_s)
        heapq.heappush(answered, (busy_until_s[node], node))
    return calls / max(busy_until_s)
