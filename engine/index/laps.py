"""Where the time of a search goes, by stages. The clock is the caller's: the engine has none."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Stage(StrEnum):
    """What a search does, in this order; what it need not do is left out."""

    EMBED = "embed"
    WATERMARK = "watermark"
    EXAMPLES = "examples"
    FILTER = "filter"
    DENSE = "dense"
    LEXICAL = "lexical"
    SPARSE = "sparse"
    FUSION = "fusion"
    DECODE = "decode"
    FORMULA = "formula"
    RERANK = "rerank"
    FINISH = "finish"


class Laps:
    """Takes the time of one search. `clock` counts seconds from anywhere."""

    __slots__ = ("_clock", "_last_s", "spent_s")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last_s = clock()
        self.spent_s: dict[Stage, float] = {}

    def end(self, stage: Stage) -> None:
        """What was done since the end before was this stage."""
        now_s = self._clock()
        self.spent_s[stage] = self.spent_s.get(stage, 0.0) + now_s - self._last_s
        self._last_s = now_s
