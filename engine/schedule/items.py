"""What waits for a model, what a batch may be, and a batch.

A batch is padded to its longest item, so it costs longest times count tokens; these padded tokens
are the unit of every budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.errors import InvalidField

Lane = Literal["interactive", "bulk"]


@dataclass(frozen=True, slots=True)
class Item:
    """One text that waits for a model. Times are seconds of one clock, whichever it is."""

    id: int
    tokens: int
    lane: Lane
    arrived_s: float
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a batch may be. Raises InvalidField for a limit out of range.

    `batch_s_max` is how long a run may take, turned into tokens by what runs were seen to cost:
    the longest time that a query waits behind a run in progress. A CPU is no faster per token in
    longer runs: all-MiniLM-L6-v2 in fp32 on 2 cores is 4 % faster at 768 tokens than at 1,536.
    `batch_padded_tokens_max` holds besides, and alone before the first run.
    `padding_tokens` is the padding that one more item may bring into a batch, at least: about the
    fixed cost of a run on a CPU, in tokens. Where runs are seen to cost more than that before the
    first token, as on an accelerator, that counts.
    `interactive_age_s_max` and `bulk_age_s_max` are how far a deadline may bring an item forward;
    the latter is also the longest time for which bulk items may see only interactive batches.
    `wait_s_max` is how long a free worker may wait for more items under load; 0 for never.
    """

    batch_padded_tokens_max: int = 768
    batch_items_max: int = 64
    batch_s_max: float = 0.05
    padding_tokens: int = 16
    interactive_age_s_max: float = 0.25
    bulk_age_s_max: float = 1.0
    wait_s_max: float = 0.005

    def __post_init__(self) -> None:
        for name in ("batch_padded_tokens_max", "batch_items_max"):
            self._at_least(name, 1)
        for name in (
            "batch_s_max",
            "padding_tokens",
            "interactive_age_s_max",
            "bulk_age_s_max",
            "wait_s_max",
        ):
            self._at_least(name, 0)

    def age_s_max(self, lane: Lane) -> float:
        """How far a deadline may bring an item of this lane forward."""
        return self.bulk_age_s_max if lane == "bulk" else self.interactive_age_s_max

    def _at_least(self, name: str, bound: int) -> None:
        value = getattr(self, name)
        if not value >= bound:
            raise InvalidField(
                f"{name} is {value}; it must be at least {bound}",
                field=name,
                metadata={"value": value, "bound": bound},
            )


@dataclass(frozen=True, slots=True)
class Batch:
    """What to run now, and what to fail with DeadlineExceeded. Both leave the queue.

    Without `items`, `wait_until_s` may say when to decide again at the latest, because more items
    are expected before; whatever arrives earlier is a reason to decide earlier.
    """

    items: tuple[Item, ...] = ()
    expired: tuple[Item, ...] = ()
    wait_until_s: float | None = None

    @property
    def tokens(self) -> int:
        """The tokens of its texts."""
        return sum(item.tokens for item in self.items)

    @property
    def padded_tokens(self) -> int:
        """What the run costs."""
        return max((item.tokens for item in self.items), default=0) * len(self.items)
