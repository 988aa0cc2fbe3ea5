"""How wide searches by graph look, by the share of points that their filter lets through.

A filter changes how hard a graph search is, so what is learned of one band of selectivity says
little of another. The beams of a collection are stored with it: nodes with equal beams and equal
watermarks answer alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

EXACT = -1
"""In place of a beam: no graph, every row that counts is scanned."""

OWN = 0
"""In place of a beam: the collection's own `ef_search`."""

BEAM_MAX = 1_024
"""The widest beam that is learned; a band that needs more is searched exactly."""


class Band(IntEnum):
    """Bands of selectivity: which share of the live points may be found."""

    ALL = 0
    HALF = 1
    TENTH = 2
    HUNDREDTH = 3
    RARE = 4

    @property
    def share_min(self) -> float:
        """The least share of the band, which belongs to it."""
        return _SHARES_MIN[self]


_SHARES_MIN = (1.0, 0.5, 0.1, 0.01, 0.0)


def band_of(matches: int | None, points: int) -> Band:
    """The band of a search whose filter lets `matches` of `points` through, None for no filter."""
    if matches is None or matches >= points:
        return Band.ALL
    return next(band for band in Band if matches >= band.share_min * points)


@dataclass(frozen=True, slots=True)
class Beams:
    """A beam for each band: `OWN`, `EXACT`, or 1 to BEAM_MAX candidates."""

    efs: tuple[int, ...] = (OWN,) * len(Band)

    def __post_init__(self) -> None:
        """Raises ValueError for beams that are none."""
        if len(self.efs) != len(Band) or not all(EXACT <= ef <= BEAM_MAX for ef in self.efs):
            raise ValueError(f"no beams: {self.efs}")

    @classmethod
    def of(cls, efs: Sequence[int]) -> Beams:
        """As stored."""
        return cls(tuple(efs))

    @property
    def are_own(self) -> bool:
        """Whether every band takes the collection's own beam."""
        return not any(self.efs)

    def with_band(self, band: Band, ef: int) -> Beams:
        """With another beam for one band."""
        return Beams(tuple(ef if one == band else old for one, old in enumerate(self.efs)))


OWN_BEAMS = Beams()
