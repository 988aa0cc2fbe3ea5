"""What a collection must answer, in plain Python: a dictionary of points and no index."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from engine.index.bm25 import K1, B

Scores = Mapping[str, float]
Sparse = tuple[tuple[int, float], ...]
"""Indices, ascending, with their values."""
Wanted = Callable[["Row"], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """A point as it was last written. `text` is words that no analyzer changes."""

    id: str
    vector: tuple[float, ...] | None
    text: str
    n: int
    tag: str
    sparse: Sparse = ()


@dataclass(slots=True)
class Oracle:
    """The points of one collection, by id."""

    rows: dict[str, Row] = field(default_factory=dict)

    def upsert(self, rows: list[Row]) -> None:
        """Of an id that is given twice, the last counts."""
        self.rows |= {row.id: row for row in rows}

    def delete(self, ids: list[str]) -> int:
        """How many there were."""
        return sum(self.rows.pop(id, None) is not None for id in set(ids))

    def matching(self, wanted: Wanted) -> list[str]:
        """The ids of rows that a filter lets through, in order."""
        return sorted(row.id for row in self.rows.values() if wanted(row))

    def dense(self, vector: tuple[float, ...], wanted: Wanted) -> Scores:
        """Cosines of the rows that have a vector and are let through."""
        return {
            row.id: _cosine(vector, row.vector)
            for row in self.rows.values()
            if row.vector is not None and wanted(row)
        }

    def sparse(self, query: Sparse, wanted: Wanted) -> Scores:
        """Inner products of the rows that have an index of the query and are let through."""
        asked = dict(query)
        return {
            row.id: sum(asked.get(index, 0.0) * value for index, value in row.sparse)
            for row in self.rows.values()
            if asked.keys() & dict(row.sparse).keys() and wanted(row)
        }

    def lexical(self, text: str, wanted: Wanted) -> Scores:
        """BM25 over all rows with words, of those that are let through and have a word of it."""
        counts = {row.id: Counter(row.text.split()) for row in self.rows.values() if row.text}
        mean = sum(count.total() for count in counts.values()) / max(1, len(counts))
        scores: dict[str, float] = {}
        for word, times in Counter(text.split()).items():
            having = [id for id, count in counts.items() if word in count]
            idf = math.log(1 + (len(counts) - len(having) + 0.5) / (len(having) + 0.5))
            for id in having:
                often, length = counts[id][word], counts[id].total()
                held_back = K1 * (1 - B + B * length / mean)
                gain = times * idf * often * (K1 + 1) / (often + held_back)
                scores[id] = scores.get(id, 0.0) + gain
        return {id: score for id, score in scores.items() if wanted(self.rows[id])}


def _cosine(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other))


def check_ranking(found: list[tuple[str, float]], scores: Scores, limit: int) -> None:
    """Raises AssertionError unless these are the best `limit` with their scores, ties by id, as far
    as float32 can tell scores apart."""
    ids = [id for id, _ in found]
    assert len(set(ids)) == len(ids) == min(limit, len(scores)), (ids, sorted(scores))
    assert found == sorted(found, key=lambda hit: (-hit[1], hit[0]))
    for (id, score), best in zip(found, sorted(scores.values(), reverse=True), strict=False):
        assert math.isclose(score, scores[id], rel_tol=2e-5, abs_tol=2e-6), (id, score, scores[id])
        assert math.isclose(score, best, rel_tol=2e-5, abs_tol=2e-6), (id, score, best)
