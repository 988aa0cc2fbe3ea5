"""What a snapshot's own file keeps, and that what comes back is what was there, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.errors import DataLoss
from engine.index import CollectionIndex, IndexSettings, Metric
from engine.index.exact import prepare, prepare_rows
from engine.index.snapshot import STEP_ROWS, living, read_snapshot, write_snapshot
from engine.types import Point
from tests.engine.index.sealing import built, loaded

VECTORS = np.random.default_rng(2).normal(size=(STEP_ROWS + 200, 4)).astype(np.float32)


def filled() -> CollectionIndex:
    """Sealed rows of which some are dead, and more rows than one step in the buffer."""
    sealed = [Point(f"s{row:03d}", VECTORS[row], f"text {row}", {"n": row}) for row in range(150)]
    index = loaded(IndexSettings(4), sealed)
    late = [Point(f"l{row:03d}", vector, "", {"n": row}) for row, vector in enumerate(VECTORS)]
    index.apply([*late, Point("words", None, "only words")], ["s000", "s149"], 2, "c2")
    return index


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    view = filled().view
    written = write_snapshot(view, tmp_path / "own")
    kept = read_snapshot(tmp_path / "own")
    sealed, buffer = view.segments
    assert sealed.sealed is not None
    np.testing.assert_array_equal(kept.live[sealed.sealed.name], sealed.live)
    points = [point for step in kept.late_rows() for point in step]
    wanted = [buffer.point(position, True) for position in range(buffer.count)]
    assert [(p.id, p.text, p.payload) for p in points] == [
        (p.id, p.text, p.payload) for p in wanted
    ]
    for one, other in zip(points, wanted, strict=True):
        np.testing.assert_array_equal(one.vector, other.vector)
    assert written.size_bytes == (tmp_path / "own").stat().st_size
    assert write_snapshot(view, tmp_path / "again").sha256 == written.sha256


def test_living_rows_come_with_their_commits_some_at_a_time() -> None:
    view = filled().view
    steps = [step for segment in view.segments for step in living(segment)]
    assert max(len(points) for points, _ in steps) <= STEP_ROWS
    found = {p.id: seq for points, seqs in steps for p, seq in zip(points, seqs, strict=True)}
    assert len(found) == view.points and set(found.values()) == {1, 2}
    assert "s000" not in found and found["s001"] == 1 and found["words"] == 2


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_file_is_never_believed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("snapshot")
    write_snapshot(filled().view, folder / "own")
    whole = bytearray((folder / "own").read_bytes())
    if data.draw(st.booleans()):
        harmed = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        harmed = whole[:]
        harmed[place] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "own").write_bytes(harmed)
    try:
        kept = read_snapshot(folder / "own")
    except DataLoss:
        return
    # Bytes between two arrays are not read, and nothing else may pass.
    (folder / "own").write_bytes(whole)
    truth = read_snapshot(folder / "own")
    assert kept.live.keys() == truth.live.keys()
    for name in truth.late:
        np.testing.assert_array_equal(kept.late[name], truth.late[name])


@given(
    st.sampled_from(Metric),
    arrays.arrays(np.float32, (3, 8), elements=st.floats(-100, 100, width=32)),
)
def test_what_was_prepared_is_not_changed_again(metric: Metric, rows: np.ndarray) -> None:
    usable = [row for row in rows if np.linalg.norm(row) > 1e-3]
    once = [prepare(metric, 8, row, "vector") for row in usable]
    for one in once:
        np.testing.assert_array_equal(prepare(metric, 8, one, "vector"), one)
    for one, again in zip(once, prepare_rows(metric, 8, once, "points"), strict=True):
        np.testing.assert_array_equal(again, one)


def test_a_buffer_whose_rows_are_all_sealed_elsewhere_is_given_up() -> None:
    settings_ = IndexSettings(4)
    points = [Point(f"p{row}", VECTORS[row]) for row in range(20)]
    builder, follower = CollectionIndex(settings_), CollectionIndex(settings_)
    for index in (builder, follower):
        index.apply(points, [], 1, "c1")
    builder.freeze()
    work = builder.seal_work()
    assert work is not None
    segment = built(builder, work)
    for index in (builder, follower):
        index.adopt([segment], [], 1)
        assert [one.sealed is not None for one in index.view.segments] == [True]
        index.apply([Point("p3", VECTORS[30])], [], 2, "c2")
        assert [one.live_count for one in index.view.segments] == [19, 1]
