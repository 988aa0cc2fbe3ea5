"""Our policy. What is true of every answer:

- a batch holds items of one lane, so that a query never pays for a passage's padding;
- the interactive lane goes first, but while bulk items wait, a bulk batch is taken at least every
  `bulk_age_s_max`, so neither lane starves the other;
- within a lane the most urgent item is always in the batch;
- the rest of the batch are items close to it in length, that which adds least padding first, for
  as long as the budget lasts and none adds more than a run by itself would cost;
- a batch is over the budget only if it holds one item;
- an item whose deadline has passed is returned as expired, never run.

Example: budget 100, waiting (by tokens) bulk 30, interactive 12, 40, 11. The first batch is
anchored at the interactive 12, if it is the most urgent, and takes 11; 40 is too different in
length and comes with the second; bulk 30 with the third.

A batch is run at once unless waiting is expected to pay: only right after a run, if the batch
would leave nothing behind, and if those who usually come back that soon would make the batch run
more texts a second, the wait included. It ends as soon as they are there. On a CPU, where a run's
fixed cost is 1 to 3 ms and most of its time goes by tokens, that is never so; where the fixed cost
prevails, as on an accelerator, callers with one text each would else run in two alternating halves.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from engine.schedule.cost import Cost
from engine.schedule.items import Batch, Item, Lane, Limits
from engine.schedule.policy import Moment
from engine.schedule.waiting import Waiting

OVERHEAD_SHARE_MAX = 0.2
"""A time limit may not make batches so small that a larger share of a run is its fixed cost."""

GAIN_MIN = 1.1
"""Waiting must raise the texts a second by so much; less is not worth anybody's delay."""

PATIENCE = 1.5
"""How many times the usual time is allowed to those who are expected."""


def next_batch(waiting: Waiting, limits: Limits, moment: Moment) -> Batch:
    """The next batch out of `waiting`. Takes about 50 µs, however much waits."""
    expired = waiting.expired(moment.now_s)
    anchor = _anchor(waiting, limits, moment)
    if anchor is None:
        return Batch((), expired)
    batch = Batch(tuple(_fill(anchor, waiting, limits, moment)), expired)
    if len(batch.items) + len(expired) == len(waiting):
        until_s = _wait_until_s(batch, limits, moment)
        if until_s > moment.now_s:
            return Batch((), expired, until_s)
    return batch


def tokens_max(limits: Limits, cost: Cost) -> int:
    """The padded tokens that a batch may have, from its limits in tokens and in time."""
    if not cost.runs:
        return limits.batch_padded_tokens_max
    efficient = cost.overhead_s / OVERHEAD_SHARE_MAX
    within = cost.tokens_within(max(limits.batch_s_max, efficient))
    return max(1, min(limits.batch_padded_tokens_max, within))


def padding_tokens_max(limits: Limits, cost: Cost) -> float:
    """The padding that one more item may bring into a batch: what a run by itself would cost."""
    return max(limits.padding_tokens, cost.overhead_s / cost.token_s if cost.measured else 0.0)


def _anchor(waiting: Waiting, limits: Limits, moment: Moment) -> Item | None:
    first: Lane = "interactive"
    # A long backlog is old as a whole: its age alone must not put it before every query. What
    # ages is the time for which the lane has waited in vain.
    ignored_s = moment.now_s - max(waiting.since_s("bulk"), moment.bulk_served_s)
    if ignored_s >= limits.bulk_age_s_max:
        first = "bulk"
    then: Lane = "bulk" if first == "interactive" else "interactive"
    return waiting.most_urgent(first, moment.now_s) or waiting.most_urgent(then, moment.now_s)


def _fill(anchor: Item, waiting: Waiting, limits: Limits, moment: Moment) -> list[Item]:
    """The anchor and its neighbors in length. A shorter one adds padding to itself alone, a longer
    one to all the others."""
    padding_max = padding_tokens_max(limits, moment.cost)
    budget = tokens_max(limits, moment.cost)
    chosen, longest = [anchor], anchor.tokens
    below, above = waiting.shorter(anchor), waiting.longer(anchor)
    down, up = _live(below, moment.now_s), _live(above, moment.now_s)
    while len(chosen) < limits.batch_items_max:
        adds_down = longest - down.tokens if down else inf
        adds_up = (up.tokens - longest) * len(chosen) if up else inf
        if min(adds_down, adds_up) > padding_max:
            break
        taken = down if adds_down <= adds_up else up
        if taken is None or max(longest, taken.tokens) * (len(chosen) + 1) > budget:
            break
        chosen.append(taken)
        longest = max(longest, taken.tokens)
        if taken is down:
            down = _live(below, moment.now_s)
        else:
            up = _live(above, moment.now_s)
    return chosen


def _live(items: Iterator[Item], now_s: float) -> Item | None:
    """The next that has not expired."""
    return next((i for i in items if i.deadline_s is None or i.deadline_s > now_s), None)


def _wait_until_s(batch: Batch, limits: Limits, moment: Moment) -> float:
    """Until when waiting for more is expected to pay, before a batch that leaves nothing behind;
    a time that has passed if it is not."""
    pace, cost = moment.pace, moment.cost
    until_s = pace.ended_s + min(PATIENCE * pace.usual_last_s, limits.wait_s_max)
    texts, longest = len(batch.items), batch.padded_tokens // len(batch.items)
    room = min(limits.batch_items_max, tokens_max(limits, cost) // longest) - texts
    coming = min(pace.coming, room)
    if coming < 1 or until_s <= moment.now_s or not cost.measured:
        return -inf
    # Both as seen when the last run ended, so that the answer stays while the expected come in.
    first, all_of = max(1, texts - pace.came), texts + coming
    apart_s = max(cost.seconds(longest * first), pace.usual_last_s)
    apart_s += cost.seconds(longest * (all_of - first))
    if apart_s < GAIN_MIN * (pace.usual_last_s + cost.seconds(longest * all_of)):
        return -inf
    deadline_s = min((i.deadline_s for i in batch.items if i.deadline_s is not None), default=inf)
    return min(until_s, deadline_s - cost.seconds(batch.padded_tokens))
