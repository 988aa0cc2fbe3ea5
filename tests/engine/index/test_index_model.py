"""What users may rely on of writes: after any history the index holds what a dict would hold.

A machine applies batches, freezes, seals, merges and reloads at tiny bounds, keeps some old views,
and compares all that can be asked of an index with a dict.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.index import (
    CollectionIndex,
    GraphSettings,
    IndexSettings,
    MaintenanceSettings,
    Metric,
    Mode,
    Query,
    View,
    count,
    get,
    list_points,
    search,
    stats,
)
from engine.index.filters import Equals, Filter, Not, matches
from engine.index.maintenance import Work
from engine.index.sealed import Sealed
from engine.types import Point
from tests.engine.index.sealing import built, install, loaded, maintain

IDS = st.integers(0, 30).map(lambda n: f"id{n:02d}")
WORDS = ["alpha", "beta", "gamma", "delta"]
# Coordinates from a small set: equal vectors and ties are common.
VECTORS = st.none() | st.lists(st.sampled_from([-1.0, 0.5, 2.0]), min_size=3, max_size=3)
POINTS = st.builds(
    lambda id, vector, words, n: Point(
        id,
        None if vector is None else np.array(vector, np.float32),
        " ".join(words),
        {"n": n},
    ),
    IDS,
    VECTORS,
    st.lists(st.sampled_from(WORDS), max_size=3),
    st.integers(0, 2),
)
BATCHES = st.lists(POINTS, max_size=12)
FILTERS: list[Filter | None] = [None, Equals("n", 1), Not(Equals("n", 1))]
QUERY = np.array([1.0, -0.3, 0.2], np.float32)


class IndexMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Point] = {}
        self.watermark = 0
        self.old: list[tuple[View, dict[str, Point]]] = []
        self.work: Work | None = None
        self.built: Sealed | None = None

    @initialize(
        metric=st.sampled_from(Metric), bulk=st.lists(POINTS, max_size=25), loads=st.booleans()
    )
    def start(self, metric: Metric, bulk: list[Point], loads: bool) -> None:
        bounds = MaintenanceSettings(
            seal_rows=6, segments_max=2, merge_width=2, segment_rows_max=20, quiet_seal_rows=2
        )
        self.index = CollectionIndex(
            IndexSettings(3, metric, maintenance=bounds, graph=GraphSettings(exact_values=0))
        )
        if loads:
            self.watermark = 7
            self.index = loaded(self.index.settings, bulk, self.watermark)
            self.model = {point.id: point for point in bulk}

    @rule(upserts=BATCHES, deletes=st.lists(IDS, max_size=8))
    def apply(self, upserts: list[Point], deletes: list[str]) -> None:
        self.watermark += 1
        self.index.apply(upserts, deletes, self.watermark, f"change {self.watermark}")
        model = {id: point for id, point in self.model.items() if id not in deletes}
        self.model = model | {point.id: point for point in upserts}

    @rule()
    def remember_a_view(self) -> None:
        if len(self.old) < 3:
            self.old.append((self.index.view, self.model))

    @rule(quiet=st.booleans(), merges=st.booleans())
    def choose(self, quiet: bool, merges: bool) -> None:
        if self.work is None:
            choose = self.index.merge_work if merges else self.index.seal_work
            self.work = choose(quiet=quiet)

    @rule()
    def build(self) -> None:
        if self.work is not None and self.built is None:
            self.built = built(self.index, self.work)

    @rule(gives_up=st.booleans())
    def finish(self, gives_up: bool) -> None:
        if self.work is None:
            return
        if self.built is not None and not gives_up:
            sealed_seq = max(self.index.sealed_seq, self.work.sealed_seq)
            self.index.adopt([self.built], self.work.retired, sealed_seq)
        elif not gives_up:
            return
        self.work = self.built = None

    @rule(quiet=st.booleans())
    def maintain_until_all_is_well(self, quiet: bool) -> None:
        if self.work is None:
            maintain(self.index, quiet=quiet)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "index"):
            return
        assert self.index.view.watermark == self.watermark
        for view, model in [(self.index.view, self.model), *self.old]:
            check(view, model)


def check(view: View, model: dict[str, Point]) -> None:
    numbers = stats(view)
    assert numbers.points == view.points == count(view) == len(model)
    assert numbers.tombstones >= 0
    assert numbers.heap_bytes + numbers.mapped_bytes > 0 or not view.segments
    for filter in FILTERS:
        wanted = {
            id: point
            for id, point in model.items()
            if filter is None or matches(filter, point.payload)
        }
        assert count(view, filter) == len(wanted)
        listed = list_points(view, limit=100, filter=filter)
        assert [described(point) for point in listed] == [
            described(wanted[id]) for id in sorted(wanted)
        ]
        check_legs(view, wanted, filter)
    page = list_points(view, after_id="id10", limit=3)
    assert [point.id for point in page] == sorted(id for id in model if id > "id10")[:3]
    asked = ["id03", "nobody", "id00"]
    assert [point.id for point in get(view, asked)] == [id for id in asked if id in model]


def described(point: Point) -> tuple[str, str, Any]:
    return point.id, point.text, point.payload


def check_legs(view: View, wanted: dict[str, Point], filter: Filter | None) -> None:
    dense = {id for id, point in wanted.items() if point.vector is not None}
    query = Query(QUERY, "alpha", filter, limit=100, mode=Mode.DENSE)
    hits = search(view, query).hits
    assert {hit.point.id for hit in hits} == dense
    assert [hit.point.id for hit in hits] == [
        hit.point.id for hit in sorted(hits, key=lambda hit: (-hit.score, hit.point.id))
    ]
    for hit in hits:
        vector = wanted[hit.point.id].vector
        assert vector is not None
        assert abs(hit.score - score(view.metric, vector)) < 1e-5
    lexical = {id for id, point in wanted.items() if "alpha" in point.text.split()}
    query = Query(QUERY, "alpha", filter, limit=100, mode=Mode.LEXICAL)
    assert {hit.point.id for hit in search(view, query).hits} == lexical
    hybrid = search(view, Query(QUERY, "alpha", filter, limit=100)).hits
    assert {hit.point.id for hit in hybrid} == dense | lexical
    for hit in hybrid:
        assert (hit.dense_score is not None) == (hit.point.id in dense)
        assert (hit.lexical_score is not None) == (hit.point.id in lexical)


def score(metric: Metric, vector: np.ndarray[Any, Any]) -> float:
    a, b = vector.astype(np.float64), QUERY.astype(np.float64)
    if metric is Metric.EUCLIDEAN:
        return -float(np.linalg.norm(a - b))
    product = float(a @ b)
    return (
        product / float(np.linalg.norm(a) * np.linalg.norm(b))
        if metric is Metric.COSINE
        else product
    )


TestIndexModel = IndexMachine.TestCase
TestIndexModel.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)


@pytest.mark.parametrize("points", [250, 246])
def test_an_index_written_in_parts_becomes_one_graph_when_nobody_writes(points: int) -> None:
    bounds = MaintenanceSettings(seal_rows=40, segments_max=8, quiet_seal_rows=5)
    index = CollectionIndex(IndexSettings(4, maintenance=bounds))
    vectors = np.random.default_rng(0).normal(size=(points, 4)).astype(np.float32)
    for start in range(0, points, 10):
        part = [Point(f"{n:03d}", vectors[n]) for n in range(start, min(start + 10, points))]
        index.apply(part, [], start + 1, "")
        if (work := index.seal_work()) is not None:
            install(index, work)
    busy = stats(index.view)
    assert busy.segments > 1
    maintain(index, quiet=True)
    quiet = stats(index.view)
    assert (quiet.segments, quiet.buffered, quiet.points) == (1, 0, points)
    assert quiet.watermark == busy.watermark
