"""How well two views of the same rows are searched: what decides whether a rebuilt index is taken.

Recall is of the ten nearest, against a scan of every living row, for queries near living vectors.
A hit that ties with the tenth counts as found, whichever id it has.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.index.exact import Metric
from engine.index.search import Mode, Query, search
from engine.index.segment import SegmentView
from engine.index.storage import Kept, Storage
from engine.index.view import View
from engine.types import Hit, Vector

DEPTH: Final = 10
"""Recall is of so many nearest rows."""

FALL_MAX: Final = 0.01
"""How much recall may fall before what was built is thrown away."""

_SEED: Final = 100
_NOISE: Final = 0.1
"""Of a query beside its row, as a share of the row's norm: a query that is a row finds itself."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two views find of the rows that a scan finds: `wanted` of them for all `queries`."""

    queries: int
    wanted: int
    found_before: int
    found_after: int

    @property
    def recall_before(self) -> float:
        """0 to 1; 1 where nothing was to be found."""
        return self.found_before / self.wanted if self.wanted else 1.0

    @property
    def recall_after(self) -> float:
        """0 to 1; 1 where nothing was to be found."""
        return self.found_after / self.wanted if self.wanted else 1.0

    def plus(self, other: Comparison) -> Comparison:
        """Of the queries of both."""
        return Comparison(
            self.queries + other.queries,
            self.wanted + other.wanted,
            self.found_before + other.found_before,
            self.found_after + other.found_after,
        )

    @property
    def worse(self) -> bool:
        """Whether recall falls by more than FALL_MAX."""
        return self.found_before - self.found_after > FALL_MAX * self.wanted


def sample_queries(view: View, count: int) -> list[Vector]:
    """Vectors near living rows, at most `count` and the same ones for the same view.

    Fewer where fewer rows have a vector; none where none has.
    """
    rng = np.random.default_rng(_SEED)
    ends = np.cumsum([segment.eligible_count for segment in view.segments], dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    chosen = np.sort(rng.choice(total, min(count, total), replace=False))
    queries = []
    for index, segment in enumerate(view.segments):
        first = int(ends[index]) - segment.eligible_count
        here = chosen[(chosen >= first) & (chosen < ends[index])] - first
        if len(here):
            positions = np.flatnonzero(segment.eligible)[here]
            queries += [
                _near(segment.vector(int(position)), view.metric, rng) for position in positions
            ]
    return queries


def compare(before: View, after: View, queries: Sequence[Vector]) -> Comparison:
    """Search both views, which must have the same living rows, for each query."""
    wanted = found_before = found_after = 0
    for vector in queries:
        best = _hits(before, vector, exact=True)
        if not best:
            continue
        # By id too: vectors that are kept otherwise do not score the same.
        ids, least = {hit.point.id for hit in best}, best[-1].score
        wanted += len(best)
        found_before += sum(_is_found(hit, ids, least) for hit in _hits(before, vector))
        found_after += sum(_is_found(hit, ids, least) for hit in _hits(after, vector))
    return Comparison(len(queries), wanted, found_before, found_after)


def compare_storage(view: View, storage: Storage, count: int) -> Comparison:
    """What searches find in the segments of a view, and would find were their vectors kept as
    `storage`, by about `count` queries, of which each segment has its share.

    Graphs are walked as they are: a graph built over the other vectors finds as much. One segment's
    vectors at a time are copied.
    """
    total = sum(one.eligible_count for one in view.segments)
    outcome = Comparison(0, 0, 0, 0)
    for segment in view.segments:
        if not segment.eligible_count:
            continue
        before = part(view, [segment])
        queries = sample_queries(before, math.ceil(count * segment.eligible_count / total))
        kept = Kept.copied(storage, segment.vectors)
        found = compare(before, part(view, [dataclasses.replace(segment, kept=kept)]), queries)
        outcome = outcome.plus(found)
    return outcome


def part(view: View, segments: Sequence[SegmentView]) -> View:
    """Some segments of a view, searched as they are within it: what chooses between a walk and a
    scan goes by the points of the whole."""
    return dataclasses.replace(view, segments=tuple(segments))


def _near(vector: Vector, metric: Metric, rng: np.random.Generator) -> Vector:
    norm = float(np.linalg.norm(vector))
    noise = rng.normal(size=len(vector)) * (_NOISE * norm / np.sqrt(len(vector)))
    query: Vector = (vector + noise).astype(np.float32)
    # The row itself where the sum is no vector that can be asked for.
    usable = np.isfinite(query).all() and (metric is not Metric.COSINE or query.any())
    return query if usable else np.array(vector, np.float32)


def _is_found(hit: Hit, ids: Set[str], least: float) -> bool:
    return hit.score >= least or hit.point.id in ids


def _hits(view: View, vector: Vector, *, exact: bool = False) -> tuple[Hit, ...]:
    return search(view, Query(vector, limit=DEPTH, mode=Mode.DENSE, exact=exact)).hits
