"""What may be relied on of a snapshot as one file: it comes back as it was, or says at which byte
or in which object something is wrong; nothing that anybody writes into one does more than that."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DataLoss
from engine.index import CollectionIndex, IndexSettings
from engine.index.archive import CLOSING, OPENING, Head, Packed, Unpacker, pieces
from engine.index.building import build_segment, source_of
from engine.index.files import Arrays, read_arrays, write_arrays
from engine.index.foreign import foreign_points
from engine.index.snapshot import write_snapshot
from engine.types import Point, Sentences, SparseVector
from tests.engine.index.sealing import spec_of

DIMENSIONS = 8
START = 48
"""Bytes before the head: a mark, a length and a hash."""


def points(count: int, first: int = 0) -> list[Point]:
    rng = np.random.default_rng(first)
    rows = rng.normal(size=(count, DIMENSIONS)).astype(np.float32)
    spans = np.array([[0, 4], [5, 6]], np.int32)
    small = np.ones((2, DIMENSIONS), np.int8)
    return [
        Point(
            f"p{first + n}",
            row if n % 5 else None,
            f"text {first + n}",
            {"n": n, "tags": ["a", "ü"]},
            Sentences(spans, small) if n % 2 else None,
            token_vectors=np.full((3, DIMENSIONS), n % 7, np.int8) if n % 3 == 0 else None,
            sparse_vector=SparseVector(
                np.array([n, n + 70], np.uint32), np.array([0.5, n + 1], np.float32)
            )
            if n % 4 == 0
            else None,
        )
        for n, row in enumerate(rows)
    ]


@cache
def kept() -> tuple[dict[str, bytes], str, tuple[Point, ...]]:
    """The objects of a snapshot with a segment and late rows, which of them is its own, and the
    points that lived."""
    index, given = CollectionIndex(IndexSettings(DIMENSIONS)), points(40)
    index.apply(given, [], 1, "a")
    index.freeze()
    work = index.seal_work(quiet=True)
    assert work is not None
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sources = [source_of(view) for view in work.sources]
        written = build_segment(sources, spec_of(index, work), folder / "segment")
        index.adopt([index.open(written.path, written.sha256)], work.retired, work.sealed_seq)
        late = points(9, 100)
        index.apply(late, ["p0", "p7"], 2, "b")
        own = write_snapshot(index.view, folder / "own")
        objects = {one.sha256: one.path.read_bytes() for one in (written, own)}
    living = [one for one in given if one.id not in ("p0", "p7")] + late
    return objects, own.sha256, tuple(living)


@cache
def file() -> bytes:
    objects, own, living = kept()
    packed = [Packed(name, len(data), name == own) for name, data in sorted(objects.items())]
    with tempfile.TemporaryDirectory() as place:
        for name, data in objects.items():
            (Path(place) / name).write_bytes(data)
        head = Head({"points": len(living), "name": "é"}, packed)
        data = b"".join(pieces(head, Path(place)))
        assert len(data) == head.size_bytes
        return data


def unpack(data: bytes, folder: Path, steps: list[int] | None = None) -> Unpacker:
    """Feeds the data in pieces of these sizes, over and over."""
    found, start, sizes = Unpacker(folder), 0, steps or [len(data) or 1]
    try:
        while start < len(data):
            for size in sizes:
                found.feed(data[start : start + size])
                start += size
        found.finish()
    finally:
        found.close()
    return found


def refused(data: bytes) -> DataLoss:
    with tempfile.TemporaryDirectory() as place, pytest.raises(DataLoss) as caught:
        unpack(data, Path(place))
    return caught.value


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=5))
def test_what_was_packed_comes_back_in_pieces_of_any_size(steps: list[int]) -> None:
    objects, own, living = kept()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found = unpack(file(), folder, steps)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == objects
        assert found.head is not None and found.offset == len(file())
        assert found.head.about == {"points": len(living), "name": "é"}
        names = [one.name for one in found.head.objects if not one.own]
        rows = [p for step in foreign_points(folder, own, names, DIMENSIONS) for p in step]
    wanted = {one.id: one for one in living}
    assert len(rows) == len(wanted)
    for row in rows:
        one = wanted[row.id]
        assert (row.text, row.payload) == (one.text, one.payload)
        assert (row.vector is None) == (one.vector is None)
        if row.vector is not None and one.vector is not None:
            unit = one.vector / np.linalg.norm(one.vector)
            np.testing.assert_allclose(row.vector, unit, rtol=1e-5)
        assert (row.sentences is None) == (one.sentences is None)
        np.testing.assert_equal(row.token_vectors, one.token_vectors)
        assert (row.sparse_vector is None) == (one.sparse_vector is None)
        if row.sparse_vector is not None and one.sparse_vector is not None:
            np.testing.assert_equal(row.sparse_vector.indices, one.sparse_vector.indices)
            np.testing.assert_equal(row.sparse_vector.values, one.sparse_vector.values)


def places() -> list[int]:
    """An offset of each class: in every part of the file, at its edges and within."""
    data = file()
    head_end = START + int.from_bytes(data[8:16], "little")
    edges = [0, 8, 16, START, head_end, len(data) - len(CLOSING), len(data)]
    at = head_end
    for size in [len(one) for _, one in sorted(kept()[0].items())][:-1]:
        at += size
        edges.append(at)
    return sorted({max(0, min(len(data), e + d)) for e in edges for d in (-1, 0, 1, 20)})


@pytest.mark.parametrize("place", places())
def test_a_file_that_is_cut_says_where_it_ends(place: int) -> None:
    data = file()
    if place < len(data):
        assert refused(data[:place]).metadata["offset_bytes"] == str(place)


@pytest.mark.parametrize("place", places())
def test_a_flipped_bit_is_found_wherever_it_is(place: int) -> None:
    data = bytearray(file())
    if place < len(data):
        data[place] ^= 4
        assert int(str(refused(bytes(data)).metadata["offset_bytes"])) <= max(place, START)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_change_of_a_file_goes_unseen(data: st.DataObject) -> None:
    whole = file()
    place = data.draw(st.integers(0, len(whole) - 1))
    match data.draw(st.sampled_from(["cut", "flip", "insert", "drop"])):
        case "cut":
            refused(whole[:place])
        case "flip":
            changed = whole[place] ^ data.draw(st.integers(1, 255))
            refused(whole[:place] + bytes([changed]) + whole[place + 1 :])
        case "insert":
            refused(whole[:place] + data.draw(st.binary(min_size=1, max_size=9)) + whole[place:])
        case _:
            refused(whole[:place] + whole[place + data.draw(st.integers(1, 9)) :])


def headed(value: Any) -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return OPENING + len(text).to_bytes(8, "little") + hashlib.sha256(text).digest() + text


NAME = "a" * 64


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"[" * 100_000,
        [],
        {"format": 2, "about": {}, "objects": [[NAME, 1, True]]},
        {"format": 1, "about": [], "objects": [[NAME, 1, True]]},
        {"format": 1, "about": {}},
        {"format": 1, "about": {}, "objects": []},
        {"format": 1, "about": {}, "objects": [[NAME, 1, False]]},
        {"format": 1, "about": {}, "objects": [[NAME, -1, True]]},
        {"format": 1, "about": {}, "objects": [[NAME, 0.5, True]]},
        {"format": 1, "about": {}, "objects": [[NAME, 1, True], [NAME, 1, False]]},
        {"format": 1, "about": {}, "objects": [["../" + NAME[3:], 1, True]]},
        {"format": 1, "about": {}, "objects": [[NAME + "\n", 1, True]]},
        {"format": 1, "about": {}, "objects": [[7, 1, True]]},
    ],
)
def test_heads_that_cannot_be_are_refused(head: Any) -> None:
    refused(headed(head))


def test_a_head_that_would_fill_the_memory_is_not_read() -> None:
    found = refused(OPENING + (1 << 40).to_bytes(8, "little") + bytes(32))
    assert "head" in found.message


def changed(arrays: Arrays, name: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    return {key: change(value) if key == name else value for key, value in arrays.items()}


CHANGES: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda one: one[:0],
    "one more": lambda one: np.concatenate([one, one[-1:]]),
    "one less": lambda one: one[:-1],
    "another type": lambda one: one.astype(np.float64 if one.dtype != np.float64 else np.int8),
    "another shape": lambda one: one.reshape(-1, 1, *one.shape[1:]),
    "largest": lambda one: np.full_like(one, 127 if one.dtype.itemsize == 1 else 2**15),
    "below zero": lambda one: np.full_like(one, -1) if one.dtype.kind in "if" else one[::-1],
    "backwards": lambda one: np.ascontiguousarray(one[::-1]),
    "not a number": lambda one: (
        np.full_like(one, np.nan) if one.dtype.kind == "f" else np.zeros_like(one)
    ),
}


@pytest.mark.parametrize("harm", CHANGES)
@pytest.mark.parametrize("which", ["own", "segment"])
def test_arrays_that_lie_are_refused_or_read_and_do_no_more(
    which: str, harm: str, tmp_path: Path
) -> None:
    objects, own, living = kept()
    (segment,) = [name for name in objects if name != own]
    place = tmp_path / "folder"
    place.mkdir()
    for name, data in objects.items():
        (place / name).write_bytes(data)
    target = place / (own if which == "own" else segment)
    original = read_arrays(target)
    read = 0
    for name in original.arrays:
        target.unlink()
        arrays = changed(original.arrays, name, CHANGES[harm])
        write_arrays(target, arrays, original.facts)
        try:
            rows = [p for s in foreign_points(place, own, [segment], DIMENSIONS) for p in s]
        except DataLoss:
            continue
        read += 1
        assert len(rows) == len(living) or name.startswith("live.")
        for row in rows:
            row.text.encode()
            assert row.vector is None or row.vector.shape == (DIMENSIONS,)
    assert read < len(original.arrays)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"format": 1, "segments": [["a", 10**15]]},
        {"format": 1, "segments": [["a", -8]]},
        {"format": 1, "segments": [[["a"], 40]]},
        {"format": 1, "segments": 3},
        {"format": 1, "segments": [["another", 40]]},
        {"format": 9, "segments": []},
    ],
)
def test_facts_that_lie_are_refused(facts: dict[str, Any], tmp_path: Path) -> None:
    objects, own, _ = kept()
    for name, data in objects.items():
        (tmp_path / name).write_bytes(data)
    (segment,) = [name for name in objects if name != own]
    original = read_arrays(tmp_path / own)
    (tmp_path / own).unlink()
    write_arrays(tmp_path / own, original.arrays, facts)
    with pytest.raises(DataLoss):
        list(foreign_points(tmp_path, own, [segment], DIMENSIONS))
