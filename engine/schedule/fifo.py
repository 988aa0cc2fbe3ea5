"""The plain policy, as text-embeddings-inference has it (core/src/queue.rs, padded models).

In the order of arrival; a batch is filled until longest times count would pass the budget, and
ends at the first item that does not fit. No lanes, no deadlines, no limit in time. It is here to
be compared with `lanes` on one trace.
"""

from __future__ import annotations

from engine.schedule.items import Batch, Item, Limits
from engine.schedule.policy import Moment
from engine.schedule.waiting import Waiting


def next_batch(waiting: Waiting, limits: Limits, moment: Moment) -> Batch:
    """The next batch out of `waiting`; the moment does not matter."""
    chosen: list[Item] = []
    longest = 0
    for item in waiting:
        longest = max(longest, item.tokens)
        fits = longest * (len(chosen) + 1) <= limits.batch_padded_tokens_max
        if chosen and (not fits or len(chosen) == limits.batch_items_max):
            break
        chosen.append(item)
    return Batch(tuple(chosen))
