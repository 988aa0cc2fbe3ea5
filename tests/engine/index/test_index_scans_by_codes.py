"""A scan that reads codes first finds what a scan of the rows finds, to the bit."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import ragmesh_native as native
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.index.collection import CollectionIndex, IndexSettings
from engine.index.graph import GraphSettings
from engine.index.maintenance import MaintenanceSettings
from engine.index.storage import Storage
from engine.types import Matrix, Point
from tests.engine.index.sealing import maintain

Found = list[tuple[int, bytes]]
KINDS = ("normal", "copies", "near", "even", "sparse", "tiny", "huge", "steep")


def rows_of(kind: str, count: int, dimensions: int, random: np.random.Generator) -> Matrix:
    """Rows that are hard to tell apart by codes, each kind for a reason of its own."""
    rows = random.normal(size=(count, dimensions))
    if kind == "copies":
        rows = rows[random.integers(0, 1 + count // 8, count)]
    elif kind == "near":
        rows = rows[:1] + 1e-6 * rows
    elif kind == "even":
        rows = np.sign(rows)
    elif kind == "sparse":
        rows *= random.random(rows.shape) < 0.1
    elif kind == "tiny":
        rows *= 10.0 ** random.integers(-44, -20, (count, 1))
    elif kind == "huge":
        rows *= 10.0 ** random.integers(0, 37, (count, 1))
    elif kind == "steep":
        rows[:, 0] *= 1e4
    return np.clip(rows, -3e38, 3e38).astype(np.float32)


def found(given: tuple[NDArray[np.int64], NDArray[np.float32]]) -> Found:
    positions, scores = given
    return sorted(
        (at, score.tobytes()) for at, score in zip(positions.tolist(), scores, strict=True)
    )


@given(
    kind=st.sampled_from(KINDS),
    count=st.integers(1, 700),
    dimensions=st.integers(1, 70),
    k=st.integers(0, 30),
    metric=st.sampled_from(["ip", "cosine", "l2"]),
    half=st.booleans(),
    chosen=st.sampled_from(["all", "allowed", "positions"]),
    seed=st.integers(0, 10_000),
)
@example("copies", 600, 1, 10, "cosine", False, "all", 0)
@settings(max_examples=300, deadline=None)
def test_codes_change_nothing_but_the_time(
    kind: str,
    count: int,
    dimensions: int,
    k: int,
    metric: Literal["ip", "cosine", "l2"],
    half: bool,
    chosen: str,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    wide = rows_of(kind, count, dimensions, random)
    query = wide[random.integers(count)].copy() if seed % 2 else wide.mean(axis=0)
    if metric == "cosine":
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            wide = np.nan_to_num(wide / np.linalg.norm(wide.astype(np.float64), axis=1)[:, None])
            query = np.nan_to_num(query / np.linalg.norm(query.astype(np.float64)))
    wide, query = wide.astype(np.float32), query.astype(np.float32)
    if half:
        wide = np.clip(wide, -65_504, 65_504).astype(np.float16)
    rows = native.Vectors(np.ascontiguousarray(wide))
    coarse = native.Vectors(*native.encode_rows(rows))
    mask = random.random(count) < 0.4
    among: tuple[Any, Any] = (None, None)
    if chosen == "allowed":
        among = (mask, None)
    elif chosen == "positions":
        among = (None, np.flatnonzero(mask))
    plain = native.scan(rows, query, k, metric, *among)
    assert found(native.scan(rows, query, k, metric, *among, coarse)) == found(plain)


@pytest.mark.parametrize("name", ["avx512", "avx2", "plain"])
def test_each_set_of_instructions_finds_them(name: str) -> None:
    used = native.instructions()
    try:
        native.use_instructions(name)
    except ValueError:
        return  # not of this machine
    try:
        rng = np.random.default_rng(1)
        wide = rng.normal(size=(2_000, 100)).astype(np.float32)
        rows = native.Vectors(wide)
        coarse = native.Vectors(*native.encode_rows(rows))
        for query in wide[:20]:
            plain = native.scan(rows, query, 10, "ip")
            assert found(native.scan(rows, query, 10, "ip", coarse=coarse)) == found(plain)
    finally:
        native.use_instructions(used)


def test_codes_of_other_rows_are_refused() -> None:
    rows = native.Vectors(np.ones((4, 8), np.float32))
    query = np.ones(8, np.float32)
    for other in (np.ones((3, 8), np.float32), np.ones((4, 7), np.float32)):
        codes = native.Vectors(*native.encode_rows(native.Vectors(other)))
        with pytest.raises(ValueError, match="not the codes"):
            native.scan(rows, query, 1, "ip", coarse=codes)
    with pytest.raises(ValueError, match="not the codes"):
        native.scan(rows, query, 1, "ip", coarse=rows)


@pytest.mark.parametrize("storage", list(Storage))
def test_buffers_have_codes_and_so_have_the_segments_that_are_made_of_them(
    storage: Storage,
) -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(300, 20)).astype(np.float32)
    bounds = MaintenanceSettings(seal_rows=200)
    index = CollectionIndex(
        IndexSettings(20, storage=storage, maintenance=bounds, graph=GraphSettings(exact_values=0))
    )
    index.apply([Point(f"{n:03d}", row) for n, row in enumerate(rows[:200])], [], 1, "a")
    (buffer,) = index.view.segments
    assert buffer.kept.coarse is not None
    maintain(index)
    (sealed,) = index.view.segments
    assert sealed.sealed is not None and sealed.sealed.storage is storage
    assert (sealed.kept.coarse is None) == (storage is Storage.FLOAT16)
    if storage is Storage.FLOAT32:
        assert sealed.kept.coarse is not None and buffer.kept.coarse is not None
        assert np.array_equal(sealed.kept.coarse.values, buffer.kept.coarse.values)
