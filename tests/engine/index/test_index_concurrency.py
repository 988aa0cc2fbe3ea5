"""What users may rely on while others write: each search sees a whole state, never half a batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from engine.errors import Cancelled, DataLoss
from engine.index import (
    CollectionIndex,
    GraphSettings,
    IndexSettings,
    MaintenanceSettings,
    Mode,
    Query,
    View,
    count,
    list_points,
    search,
    stats,
)
from engine.index.filters import Equals, Range
from engine.index.sealed import Sealed
from engine.types import Point
from tests.engine.index.sealing import built, install, loaded, maintain

DIMENSIONS = 8
PAIRS = 40
ROUNDS = 60


def _vectors(rows: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(5).normal(size=(rows, DIMENSIONS)).astype(np.float32)


def _pair(
    number: int, round: int, vector: np.ndarray[tuple[int], np.dtype[np.float32]]
) -> list[Point]:
    """Two points that are only ever written together, with the round in payload and text."""
    return [
        Point(f"{side}{number:03d}", vector, f"everything round{round}", {"round": round})
        for side in ("left", "right")
    ]


def _check_pairs(found: dict[str, str]) -> None:
    for id, round in found.items():
        other = (
            id.replace("left", "right") if id.startswith("left") else id.replace("right", "left")
        )
        assert found.get(other) == round, f"{id} is of round {round}, {other} of {found.get(other)}"


def _read_all(view: View) -> None:
    query = np.ones(DIMENSIONS, np.float32)
    reads: list[Callable[[], list[Point]]] = [
        lambda: list_points(view, limit=1_000),
        lambda: [h.point for h in search(view, Query(query, limit=1_000)).hits],
        lambda: [h.point for h in search(view, Query(text="everything", limit=1_000)).hits],
        lambda: [
            h.point
            for h in search(
                view,
                Query(query, "everything", Range("round", gte=0), limit=1_000, candidates=1_000),
            ).hits
        ],
    ]
    expected = count(view)
    for read in reads:
        points = read()
        assert len(points) == expected
        _check_pairs({point.id: str(point.payload["round"]) for point in points})
        for point in points:
            assert point.text == f"everything round{point.payload['round']}"
    assert count(view, Range("round", gte=0)) == expected
    newest = view.watermark
    hits = search(view, Query(text=f"round{newest}", limit=10, filter=Equals("round", newest))).hits
    assert count(view, Equals("round", newest)) == len(hits)


def test_readers_see_each_batch_whole_while_a_writer_and_a_builder_work() -> None:
    bounds = MaintenanceSettings(seal_rows=30, segments_max=3, merge_width=2)
    index = CollectionIndex(
        IndexSettings(DIMENSIONS, maintenance=bounds, graph=GraphSettings(exact_values=0))
    )
    vectors = _vectors(PAIRS)
    failures: list[BaseException] = []
    done = threading.Event()

    def guarded(body: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                body()
            except BaseException as error:
                failures.append(error)
                done.set()

        return threading.Thread(target=run)

    def write() -> None:
        rng = np.random.default_rng(7)
        for round in range(1, ROUNDS + 1):
            numbers = rng.choice(PAIRS, 3, replace=False).tolist()
            upserts = [point for n in numbers[:2] for point in _pair(n, round, vectors[n])]
            deletes = [f"{side}{numbers[2]:03d}" for side in ("left", "right")]
            index.apply(upserts, deletes, round, f"change {round}")
        done.set()

    def build() -> None:
        while not done.is_set():
            maintain(index)

    def read() -> None:
        seen = 0
        while not done.is_set():
            view = index.view
            assert view.watermark >= seen
            seen = view.watermark
            _read_all(view)

    threads = [guarded(body) for body in (write, build, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures, failures[0]
    _read_all(index.view)
    assert stats(index.view).watermark == ROUNDS


def test_writes_during_a_build_are_in_what_is_adopted() -> None:
    bounds = MaintenanceSettings(seal_rows=20)
    index = CollectionIndex(
        IndexSettings(DIMENSIONS, maintenance=bounds, graph=GraphSettings(exact_values=0))
    )
    vectors = _vectors(30)
    index.apply([Point(f"{n:02d}", vectors[n]) for n in range(20)], [], 1, "a")
    work = index.seal_work()
    assert work is not None
    segment = built(index, work)
    index.apply([Point("20", vectors[20]), Point("03", vectors[4])], ["07"], 2, "b")
    index.adopt([segment], work.retired, work.sealed_seq)
    view = index.view
    assert (view.watermark, view.change_id) == (2, "b")
    assert (stats(view).segments, index.sealed_seq) == (1, 1)
    best = search(view, Query(vectors[4], limit=2)).hits
    assert [hit.point.id for hit in best] == ["03", "04"]
    assert best[0].score == best[1].score  # one in the graph, one scanned
    assert "07" not in {hit.point.id for hit in search(view, Query(vectors[7], limit=100)).hits}


def test_segments_stay_few_and_tombstones_bounded_under_churn() -> None:
    bounds = MaintenanceSettings(seal_rows=16, segments_max=4, merge_width=2)
    index = CollectionIndex(
        IndexSettings(DIMENSIONS, maintenance=bounds, graph=GraphSettings(exact_values=0))
    )
    vectors = _vectors(60)
    for round in range(1, 80):
        rows = [(round * 5 + n) % 60 for n in range(8)]
        index.apply([Point(f"{row}", vectors[row], "word") for row in rows], [], round, "c")
        maintain(index)
    numbers = stats(index.view)
    assert numbers.points == 60
    assert numbers.segments <= 4
    assert numbers.buffered < 16
    assert numbers.tombstones <= 0.2 * (numbers.points + numbers.tombstones) + 16


def test_building_stops_when_told_and_the_work_is_offered_again() -> None:
    index = CollectionIndex(
        IndexSettings(DIMENSIONS, maintenance=MaintenanceSettings(seal_rows=10))
    )
    index.apply([Point(f"{n}", v, "w") for n, v in enumerate(_vectors(10))], [], 1, "a")
    work = index.seal_work()
    assert work is not None
    with pytest.raises(Cancelled):
        built(index, work, stop=np.ones(1, np.uint8))
    again = index.seal_work()
    assert again is not None
    install(index, again)
    assert search(index.view, Query(text="w", mode=Mode.LEXICAL, limit=100)).explain.segments == 1
    assert stats(index.view).segments == 1


def test_an_index_that_fetched_a_segment_equals_the_one_that_built_it() -> None:
    """Whatever its buffers were: what lives in a segment follows from ids and commits."""
    vectors = _vectors(40)
    bounds = MaintenanceSettings(seal_rows=10)
    settings = IndexSettings(DIMENSIONS, maintenance=bounds, graph=GraphSettings(exact_values=0))
    builder, other = CollectionIndex(settings), CollectionIndex(settings)
    for seq in range(1, 9):
        rows = [(seq * 3 + n) % 40 for n in range(5)]
        upserts = [Point(f"{row}", vectors[row], f"word{row % 7}") for row in rows]
        builder.apply(upserts, [f"{seq}"], seq, "c")
    adopted: list[tuple[Sealed, tuple[str, ...], int]] = []
    while (work := builder.seal_work() or builder.merge_work(quiet=True)) is not None:
        segment = install(builder, work)
        adopted.append((segment, work.retired, builder.sealed_seq))
    assert adopted
    for seq in range(1, 9):
        rows = [(seq * 3 + n) % 40 for n in range(5)]
        upserts = [Point(f"{row}", vectors[row], f"word{row % 7}") for row in rows]
        other.apply(upserts, [f"{seq}"], seq, "c")
    for segment, retired, sealed_seq in adopted:
        other.adopt([segment], retired, sealed_seq)
    assert other.segments == builder.segments
    queries = [Query(vectors[3], limit=40), Query(text="word3 word4", limit=40)]
    queries.append(Query(vectors[9], "word1", limit=40))
    for query in queries:
        assert search(other.view, query).hits == search(builder.view, query).hits
        assert search(other.view, query).hits


def test_a_segment_that_would_lose_a_row_is_refused() -> None:
    settings = IndexSettings(DIMENSIONS, maintenance=MaintenanceSettings(seal_rows=10))
    index = CollectionIndex(settings)
    vectors = _vectors(20)
    index.apply([Point(f"{n:02d}", vectors[n]) for n in range(10)], [], 1, "a")
    first = index.seal_work()
    assert first is not None
    install(index, first)
    other = loaded(settings, [Point(f"{n:02d}", vectors[n]) for n in range(9)])
    before = index.view
    segment = other.view.segments[0].sealed
    assert segment is not None
    with pytest.raises(DataLoss, match="09"):
        index.adopt([segment], index.segments, 1)
    assert index.view is before


def test_a_changed_graph_setting_builds_every_segment_anew_and_finds_the_same() -> None:
    bounds = MaintenanceSettings(seal_rows=20, segments_max=8)
    exact_off = GraphSettings(m=4, ef_construction=20, exact_values=0)
    index = CollectionIndex(IndexSettings(DIMENSIONS, maintenance=bounds, graph=exact_off))
    vectors = _vectors(60)
    for seq in range(1, 4):
        rows = range(20 * (seq - 1), 20 * seq)
        index.apply([Point(f"{n:02d}", vectors[n]) for n in rows], [], seq, "a")
    maintain(index)
    before = set(index.segments)
    hits = search(index.view, Query(vectors[7], limit=5)).hits
    index.settings = replace(index.settings, graph=replace(exact_off, m=8, ef_construction=40))
    assert maintain(index) >= len(before)
    assert not before & set(index.segments)
    assert search(index.view, Query(vectors[7], limit=5)).hits == hits
    built_with = {one.sealed.built_with for one in index.view.segments if one.sealed is not None}
    assert built_with == {(8, 40)}
