"""Which waiting items form the next batch of a model: pure decisions, no clock and no thread.

    items      Item, Limits, Batch: the values
    waiting    Waiting: what waits, kept in the orders that decisions ask for
    cost       Cost, Pace: what a run costs and how often requests come, learned from what was seen
    policy     Moment, Policy: what a decision may know, and the form of a policy
    lanes      our policy          fifo     the plain one, to compare with
    scheduler  Scheduler: all of it for one model, driven by whoever owns the clock
    offline    batches of texts that are all there already

`services/mesh/model_queue.py` drives a Scheduler with the real clock, `engine/simulate.py` with a
computed one, so that both decide alike.
"""

from engine.schedule.cost import Cost, Pace
from engine.schedule.items import Batch, Item, Lane, Limits
from engine.schedule.offline import in_batches
from engine.schedule.policy import Moment, Policy
from engine.schedule.scheduler import POLICIES, Load, PolicyName, Scheduler
from engine.schedule.waiting import Waiting

__all__ = [
    "POLICIES",
    "Batch",
    "Cost",
    "Item",
    "Lane",
    "Limits",
    "Load",
    "Moment",
    "Pace",
    "Policy",
    "PolicyName",
    "Scheduler",
    "Waiting",
    "in_batches",
]
