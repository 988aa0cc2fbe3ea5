"""Rates of several ways to do one thing, taken in turns, a round each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.samples import Median

Measured = Callable[[int], float]
"""Does round `i` and returns its rate."""


@dataclass(frozen=True, slots=True)
class Rates:
    """The rate of one side in each round."""

    values: tuple[float, ...]

    @property
    def median(self) -> Median:
        """Over the rounds, which stay with it."""
        return Median(self.values)

    def over(self, other: Rates) -> Rates:
        """The ratio in each round, so that a slow round counts against both sides or neither."""
        pairs = zip(self.values, other.values, strict=True)
        return Rates(tuple(own / theirs for own, theirs in pairs))

    @property
    def spread(self) -> str:
        """The least and the most, for a note."""
        return f"{_short(min(self.values))} to {_short(max(self.values))}"


def rounds_in_turns(sides: Mapping[str, Measured], rounds: int) -> dict[str, Rates]:
    """Every side once in each round; who goes first changes from round to round."""
    names = list(sides)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(sides[name](number))
    return {name: Rates(tuple(values)) for name, values in found.items()}


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
