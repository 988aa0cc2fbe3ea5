"""What a run costs and how often requests come, learned from what was seen. Immutable values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf

GUESSED_TOKENS_PER_S = 2_000.0
"""What is believed until a run was seen: a slow CPU."""

_KEEP = 0.95  # of the weight of what was seen before, at every run: about 20 runs count
_CLIP = 3.0  # a run that took longer than so many times the expected counts as so many times
_SLOPE_MIN = 0.001  # of the mean time a token: no token is for nothing
_RUNS_MEASURED = 4
_NEWS = 0.3  # the weight of the last run in a pace: it changes within some runs
_RIDGE = 0.001  # runs of about one size say nothing of the slope: then it stays as it was


@dataclass(frozen=True, slots=True)
class Cost:
    """seconds = overhead_s + token_s * padded tokens, a line through recent runs. The other fields
    are sums over them: of weights, tokens (x), seconds (y) and their products.

    A least-squares fit with forgetting. A single run that was disturbed is clipped; a machine
    that became slower is followed within some runs.
    """

    runs: int = 0
    weight: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    token_s: float = 1 / GUESSED_TOKENS_PER_S

    def seen(self, padded_tokens: int, seconds: float) -> Cost:
        """The cost after one more run."""
        if self.measured:
            seconds = min(seconds, _CLIP * self.seconds(padded_tokens))
        weight, x, y, xx, xy = (
            _KEEP * before + new
            for before, new in (
                (self.weight, 1.0),
                (self.x, padded_tokens),
                (self.y, seconds),
                (self.xx, padded_tokens * padded_tokens),
                (self.xy, padded_tokens * seconds),
            )
        )
        mean = y / x
        before_s = self.token_s if self.runs else mean
        variance, covariance, ridge = xx - x * x / weight, xy - x * y / weight, _RIDGE * x * x
        slope = (covariance + ridge * before_s) / (variance + ridge)
        token_s = min(max(slope, _SLOPE_MIN * mean), mean)
        return Cost(self.runs + 1, weight, x, y, xx, xy, token_s)

    @property
    def measured(self) -> bool:
        """Whether enough runs were seen to refuse something for it."""
        return self.runs >= _RUNS_MEASURED

    @property
    def tokens_per_s(self) -> float:
        """Padded tokens a second of recent runs."""
        return self.x / self.y if self.y > 0 else GUESSED_TOKENS_PER_S

    @property
    def overhead_s(self) -> float:
        """Seconds that a run takes however short it is."""
        if not self.runs:
            return 0.0
        return max(0.0, (self.y - self.token_s * self.x) / self.weight)

    def seconds(self, padded_tokens: int) -> float:
        """What a run is expected to take."""
        return self.overhead_s + self.token_s * padded_tokens

    def tokens_within(self, seconds: float) -> int:
        """The padded tokens of a run of `seconds`, 0 or more."""
        return max(0, int((seconds - self.overhead_s) / self.token_s))

    def drain_s(self, tokens: int, batch_tokens: int) -> float:
        """What it takes to run so many tokens in batches of `batch_tokens`."""
        return self.token_s * tokens + self.overhead_s * ceil(tokens / batch_tokens)


@dataclass(frozen=True, slots=True)
class Pace:
    """How many texts come soon after a run, as a share of those it answered, and how soon the last
    of them: callers who wait for each answer come back together. `answered`, `came` and `last_s`
    are of the run that ended at `ended_s`; the usual ones are moving averages over runs before it.
    """

    ended_s: float = -inf
    answered: int = 0
    came: int = 0
    last_s: float = 0.0
    usual_share: float = 0.0
    usual_last_s: float = 0.0

    @property
    def coming(self) -> int:
        """How many more are expected after the run that ended last."""
        return round(self.usual_share * self.answered) - self.came

    def arrived(self, texts: int, now_s: float, soon_s: float) -> Pace:
        """The pace after texts came; later than `soon_s` after the last run they do not count."""
        if now_s - self.ended_s > soon_s:
            return self
        return replace(self, came=self.came + texts, last_s=now_s - self.ended_s)

    def ended(self, answered: int, now_s: float) -> Pace:
        """The pace when one more run ends, which answered so many texts."""
        share, last_s = self.usual_share, self.usual_last_s
        if self.answered:
            share += _NEWS * (min(1.0, self.came / self.answered) - share)
        if self.came:
            last_s += _NEWS * (self.last_s - last_s)
        return Pace(now_s, answered, usual_share=share, usual_last_s=last_s)
