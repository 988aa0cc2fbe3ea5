"""The stages of a search after its legs: what a caller asked for beyond a list of the best.

    legs -> fusion -> formula -> threshold -> reranking -> diversity -> groups -> the first `limit`

Each stage sees what the one before left. `find` does the first three, `by_sentences` of
`reranking` or a model the fourth, `finish` the rest; between them hits are plain lists, so a
reranking that has to wait for another service fits in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.index import examples
from engine.index.conditions import Analyze, plain_words
from engine.index.diversity import diversify
from engine.index.exact import prepare
from engine.index.formula import Effect, Formula, canonical_formula, effect
from engine.index.grouping import Group, Grouping, group, is_full
from engine.index.laps import Laps, Stage
from engine.index.reranking import Reranked, by_sentences, by_tokens
from engine.index.search import LIMIT_MAX, Explain, Mode, Query, Results, search
from engine.index.view import View
from engine.types import Hit, TokenVectors, Vector

CANDIDATES_MIN = 100
DIVERSE_CANDIDATES_MIN = 50
WIDENING = 4
"""How much further a stage looks than `limit`, and by how much a search for groups widens."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """`weight` of relevance, 0 to 1; from how many `candidates` to choose, None for four times the
    limit, at least 50."""

    weight: float = 0.5
    candidates: int | None = None


@dataclass(frozen=True, slots=True)
class Staged:
    """A search with its stages; those that are None or empty are left out.

    `query.limit` counts hits, or groups with `grouping`; `query.score_threshold` holds for scores
    after `formula`. `rerank` is how many candidates are reranked, 0 for none. `exclude` are ids
    that are not found. `positive` and `negative` are examples searched by best score in place of
    `query.vector`.
    """

    query: Query
    formula: Formula | None = None
    rerank: int = 0
    diversity: Diversity | None = None
    grouping: Grouping | None = None
    exclude: frozenset[str] = frozenset()
    positive: tuple[Vector, ...] = ()
    negative: tuple[Vector, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether `search(view, query)` alone answers it."""
        return not (
            self.rerank
            or self.exclude
            or self.positive
            or self.negative
            or self.formula
            or self.diversity
            or self.grouping
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What `find` found: hits, the best first, and what the formula does to each, for scores that
    come later."""

    hits: tuple[Hit, ...]
    effects: tuple[Effect, ...]
    explain: Explain
    watermark: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer: hits, the best first, group by group if there are groups."""

    hits: tuple[Hit, ...]
    groups: tuple[Group, ...] = ()


def find(
    view: View,
    staged: Staged,
    now_s: float,
    analyze: Analyze = plain_words,
    laps: Laps | None = None,
) -> Found:
    """Candidates for the later stages, with the formula's scores, from the threshold up.

    `now_s` counts from 1970. `analyze` gives words as the collection's language has them. `laps`
    takes the time. Raises as `search` does.
    """
    depth = _depth(staged)
    visited = 0
    while True:
        found = _scored(_first(view, staged, depth, laps), staged, now_s, analyze)
        visited += found.explain.visited
        found.explain.visited = visited
        if laps is not None and staged.formula is not None:
            laps.end(Stage.FORMULA)
        wanted = staged.grouping
        limit = staged.query.limit
        if wanted is None or depth >= LIMIT_MAX or found.explain.segments == 0:
            return found
        if len(found.hits) < depth - len(staged.exclude):  # there are no more
            return found
        if is_full(group(found.hits, wanted, limit), wanted, limit):
            return found
        depth = min(LIMIT_MAX, depth * WIDENING)


def rerank_by_sentences(
    found: Found, staged: Staged, vector: Vector | None, text: str, analyze: Analyze
) -> Found | None:
    """The first `staged.rerank` candidates by what their sentences say of the query, the others
    after them; None if none has sentences."""
    count = min(staged.rerank, len(found.hits))
    reranked = by_sentences(found.hits[:count], vector, text, analyze)
    return None if reranked is None else reordered(found, reranked)


def rerank_by_tokens(found: Found, staged: Staged, query: TokenVectors) -> Found | None:
    """The same by how well the tokens of the query meet with those of the candidates."""
    count = min(staged.rerank, len(found.hits))
    reranked = by_tokens(found.hits[:count], query)
    return None if reranked is None else reordered(found, reranked)


def reordered(found: Found, reranked: Reranked) -> Found:
    """The hits that were reranked, by their new scores with the formula's effect; then the others
    in their order."""
    rows = []
    for place, score in zip(reranked.order, reranked.scores, strict=True):
        moved = found.effects[place].on(score)
        rows.append((found.hits[place]._replace(rerank_score=moved), found.effects[place]))
    # Stable: equal scores keep the reranking's order.
    rows.sort(key=lambda row: -(row[0].rerank_score or 0.0))
    done = set(reranked.order)
    rest = [n for n in range(len(found.hits)) if n not in done]
    return replace(
        found,
        hits=(*(hit for hit, _ in rows), *(found.hits[n] for n in rest)),
        effects=(*(one for _, one in rows), *(found.effects[n] for n in rest)),
    )


def finish(hits: Sequence[Hit], staged: Staged) -> Finished:
    """Diversity, groups and the cut."""
    limit = staged.query.limit
    if staged.diversity is not None:
        hits = hits[: _diverse_depth(staged, staged.diversity)]
        # By places, because a reranking's scores and the search's have different units.
        relevance = _relevance(hits)
        vectors = [hit.point.vector for hit in hits]
        k = limit if staged.grouping is None else len(hits)
        hits = [hits[n] for n in diversify(relevance, vectors, k, staged.diversity.weight)]
    if staged.grouping is None:
        return Finished(tuple(hits[:limit]))
    groups = tuple(group(hits, staged.grouping, limit))
    return Finished(tuple(hit for one in groups for hit in one.hits), groups)


def _relevance(hits: Sequence[Hit]) -> list[float]:
    """Scores in the order of the hits; where some were reranked and some not, those that were not
    stand as the least of those that were."""
    reranked = [hit.rerank_score for hit in hits if hit.rerank_score is not None]
    if not reranked:
        return [hit.score for hit in hits]
    least = min(reranked)
    return [least if hit.rerank_score is None else hit.rerank_score for hit in hits]


def _depth(staged: Staged) -> int:
    """How many points the first stage has to bring."""
    limit = staged.query.limit
    depth = max(limit, staged.rerank)
    if staged.formula is not None:
        depth = max(depth, CANDIDATES_MIN, WIDENING * limit)
    if staged.diversity is not None:
        depth = max(depth, _diverse_depth(staged, staged.diversity))
    if staged.grouping is not None:
        depth = max(depth, WIDENING * limit * staged.grouping.hits_per_group)
    return min(LIMIT_MAX, depth + len(staged.exclude))


def _diverse_depth(staged: Staged, diversity: Diversity) -> int:
    limit = staged.query.limit
    wanted = diversity.candidates or max(DIVERSE_CANDIDATES_MIN, WIDENING * limit)
    return max(limit, wanted)


def _first(view: View, staged: Staged, depth: int, laps: Laps | None) -> Results:
    """The `depth` best of the legs, without what is excluded."""
    asked = staged.query
    query = replace(
        asked,
        limit=depth,
        candidates=asked.candidates or max(CANDIDATES_MIN, WIDENING * asked.limit, depth),
        score_threshold=None,
        with_vectors=asked.with_vectors or staged.diversity is not None,
    )
    if staged.positive:
        results = _by_examples(view, staged, query, laps)
    else:
        results = search(view, query, laps)
    kept = tuple(hit for hit in results.hits if hit.point.id not in staged.exclude)
    return replace(results, hits=kept)


def _by_examples(view: View, staged: Staged, query: Query, laps: Laps | None) -> Results:
    """The best by their best score with any positive example."""
    metric = view.metric

    def prepared(vectors: tuple[Vector, ...]) -> list[Vector]:
        return [prepare(metric, view.dimensions, one, "examples") for one in vectors]

    positive, negative = prepared(staged.positive), prepared(staged.negative)
    near = [
        search(view, replace(query, vector=one, mode=Mode.DENSE, with_vectors=True), laps)
        for one in positive
    ]
    hits = {hit.point.id: hit for results in near for hit in results.hits}
    found = [hit for _, hit in sorted(hits.items())]
    if not found:
        return near[0]
    rows = np.stack([hit.point.vector for hit in found if hit.point.vector is not None])
    scores, kept = examples.best_scores(metric, rows, positive, negative)
    scored = [
        Hit(hit.point, score, score)
        for hit, score, keep in zip(found, scores.tolist(), kept.tolist(), strict=True)
        if keep
    ]
    scored.sort(key=lambda hit: -hit.score)
    explain = replace(
        near[0].explain,
        scanned=sum(one.explain.scanned for one in near),
        walked=sum(one.explain.walked for one in near),
        widened=sum(one.explain.widened for one in near),
        visited=sum(one.explain.visited for one in near),
        ef=max(one.explain.ef for one in near),
        dense_candidates=len(found),
    )
    return Results(tuple(scored[: query.limit]), explain, near[0].watermark)


def _scored(results: Results, staged: Staged, now_s: float, analyze: Analyze) -> Found:
    """With the formula's scores, from the threshold up."""
    formula = None if staged.formula is None else canonical_formula(staged.formula, analyze)
    rows = []
    for hit in results.hits:
        if formula is None:
            rows.append((hit, Effect(1.0, 0.0)))
            continue
        one = effect(formula, hit.point.payload, now_s, analyze)
        rows.append((hit._replace(score=one.on(hit.score)), one))
    if formula is not None:
        rows.sort(key=lambda row: (-row[0].score, row[0].point.id))
    threshold = staged.query.score_threshold
    if threshold is not None:
        rows = [row for row in rows if row[0].score >= threshold]
    return Found(
        tuple(hit for hit, _ in rows),
        tuple(one for _, one in rows),
        results.explain,
        results.watermark,
    )
