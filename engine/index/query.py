"""What a search is asked, and what it answers beside its hits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from engine.errors import InvalidField
from engine.index.beams import OWN_BEAMS, Band, Beams
from engine.index.filters import Filter
from engine.index.fusion import RRF_K_DEFAULT, FusionMethod
from engine.types import Hit, SparseVector, Vector

LIMIT_MAX = 1_000
CANDIDATES_MAX = 10_000
EF_MAX = 4_096


class Mode(StrEnum):
    """Which legs search: one, or all that the query brings something for."""

    DENSE = "dense"
    LEXICAL = "lexical"
    SPARSE = "sparse"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class Query:
    """What to find.

    `mode` None follows from what is given: a vector, a text, a sparse vector, or several.
    `candidates` is how many each leg brings to the fusion, by default max(100, 4 x limit). A hit's
    `score` is the leg's own where one searches (see `exact` for metrics; BM25; the inner product),
    the fused one in hybrid; hits below `score_threshold` are left out. `ef` widens the graph search
    over the collection's own `ef_search`, never narrows it. `beams` do so by selectivity where `ef`
    is not given. `exact` scans every row. With `ids_only` the points of hits have their ids and
    their places in documents, and nothing else.
    """

    vector: Vector | None = None
    text: str | None = None
    filter: Filter | None = None
    limit: int = 10
    mode: Mode | None = None
    candidates: int | None = None
    rrf_k: float = RRF_K_DEFAULT
    dense_weight: float = 1.0
    lexical_weight: float = 1.0
    ef: int | None = None
    beams: Beams = OWN_BEAMS
    exact: bool = False
    score_threshold: float | None = None
    with_vectors: bool = False
    ids_only: bool = False
    sparse: SparseVector | None = None
    sparse_weight: float = 1.0
    fusion: FusionMethod = FusionMethod.RANK


@dataclass(slots=True)
class Explain:
    """How a search was done.

    `matches` is how many points satisfy the filter, None without one. `scanned` and `walked` are
    segments searched by scan and by graph; `widened` counts walks that were given up for a scan;
    `visited` rows whose distance was computed. `legs` are those that searched, with what each
    brought in `…_candidates`; `…_postings` are the entries of rows under the words or dimensions of
    the query. `band` is of the selectivity, `ef` the widest beam that walked.
    """

    mode: Mode
    matches: int | None = None
    segments: int = 0
    scanned: int = 0
    walked: int = 0
    widened: int = 0
    visited: int = 0
    dense_candidates: int = 0
    lexical_candidates: int = 0
    band: Band = Band.ALL
    ef: int = 0
    legs: tuple[Mode, ...] = ()
    sparse_candidates: int = 0
    lexical_postings: int = 0
    sparse_postings: int = 0


@dataclass(frozen=True, slots=True)
class Results:
    """Hits, best first, of the view whose watermark this is."""

    hits: tuple[Hit, ...]
    explain: Explain
    watermark: int


_NEEDS = {Mode.DENSE: "vector", Mode.LEXICAL: "text", Mode.SPARSE: "sparse_vector"}


_DENSE = (Mode.DENSE,)


def legs_of(query: Query) -> tuple[Mode, tuple[Mode, ...]]:
    """The mode, and the modes of its legs. Raises InvalidField for a mode that the query brings
    nothing for."""
    mode = query.mode
    if mode is Mode.DENSE and query.vector is not None:
        return mode, _DENSE  # what comes most often, and what 5 us count in
    given = tuple(
        leg
        for leg, has in (
            (Mode.DENSE, query.vector is not None),
            (Mode.LEXICAL, bool(query.text)),
            (Mode.SPARSE, query.sparse is not None),
        )
        if has
    )
    if mode is None:
        if not given:
            raise InvalidField(
                "the search has neither text nor vector nor sparse vector; give one", field="query"
            )
        return (Mode.HYBRID if len(given) > 1 else given[0]), given
    if mode is Mode.HYBRID:
        if len(given) > 1:
            return mode, given
        missing = "text" if Mode.DENSE in given else "vector"
    else:
        if mode in given:
            return mode, (mode,)
        missing = _NEEDS[mode]
    raise InvalidField(
        f"a {mode} search needs a {missing}; give one, or choose another mode",
        field=missing,
        metadata={"mode": mode, "missing": missing},
    )


def check(query: Query) -> None:
    """Raises InvalidField for a number out of its range."""
    for name, value, least, most in (
        ("limit", query.limit, 1, LIMIT_MAX),
        ("candidates", query.candidates, 1, CANDIDATES_MAX),
        ("ef", query.ef, 1, EF_MAX),
        ("rrf_k", query.rrf_k, 0.001, 10_000),
        ("dense_weight", query.dense_weight, 0, 1_000),
        ("lexical_weight", query.lexical_weight, 0, 1_000),
        ("sparse_weight", query.sparse_weight, 0, 1_000),
    ):
        if value is not None and not least <= value <= most:
            raise InvalidField(
                f"{name} is {value}; give {least} to {most}",
                field=name,
                metadata={"name": name, "value": value, "least": least, "most": most},
            )
    if query.score_threshold is not None and math.isnan(query.score_threshold):
        raise InvalidField("score_threshold is not a number; give one", field="score_threshold")
