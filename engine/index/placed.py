"""What a search found before any of it is read: the places of rows in a view, with their scores.

Whoever needs points has them made; whoever only passes them on reads the columns of the segments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.index.query import Explain, Mode, Query
from engine.index.view import View
from engine.types import Hit, Point

Place = tuple[int, int]
"""Segment index and position: a row of a view."""

Leg = list[tuple[Place, float]]
"""Candidates with their scores, best first, ties by id."""


@dataclass(frozen=True, slots=True)
class Placed:
    """The `best` rows of a view for a query, and what each of its `legs` found on the way."""

    view: View
    query: Query
    best: Leg
    legs: Mapping[Mode, Leg]
    explain: Explain

    @property
    def watermark(self) -> int:
        """That of the view."""
        return self.view.watermark

    def hits(self) -> tuple[Hit, ...]:
        """The best as points, with the scores that each leg gave."""
        point = self._point_getter()
        if self.legs.keys() == {Mode.DENSE}:
            return tuple([Hit(point(place), score, score) for place, score in self.best])
        dense, lexical, sparse = (
            dict(self.legs.get(mode, ())) for mode in (Mode.DENSE, Mode.LEXICAL, Mode.SPARSE)
        )
        return tuple(
            Hit(
                point(place),
                score,
                dense.get(place),
                lexical.get(place),
                sparse_score=sparse.get(place),
            )
            for place, score in self.best
        )

    def _point_getter(self) -> Callable[[Place], Point]:
        segments = self.view.segments
        if self.query.ids_only:
            return lambda place: segments[place[0]].rows.named(place[1])
        if self.query.with_vectors:
            return lambda place: segments[place[0]].point(place[1], with_vector=True)
        return lambda place: segments[place[0]].rows.point(place[1])
