"""What may be relied on of an index's files: whole or not there, and no damage goes unnoticed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.errors import DataLoss
from engine.index.files import ArrayWriter, read_arrays, write_arrays

TYPES = ["uint8", "int8", "bool", "uint16", "int32", "uint32", "int64", "float16", "float32"]
ARRAYS: dict[str, NDArray[Any]] = {
    "vectors": np.arange(60, dtype=np.float32).reshape(20, 3),
    "live": np.array([True, False] * 10),
    "none": np.zeros((0, 4), np.uint32),
    "rows.ids.blob": np.frombuffer(b"a blob of bytes", np.uint8),
}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(TYPES), st.integers(0, 5), st.integers(1, 40)), max_size=6),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    shapes: list[tuple[str, int, int]],
    facts: dict[str, Any],
) -> None:
    rng = np.random.default_rng(len(shapes))
    arrays = {
        f"array.{number}": rng.integers(0, 2, (rows, width)).astype(kind)
        for number, (kind, rows, width) in enumerate(shapes)
    }
    folder = tmp_path_factory.mktemp("files")
    first = write_arrays(folder / "first", arrays, facts)
    file = read_arrays(first.path, first.sha256, check=True)
    assert file.facts == facts
    assert file.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert file.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(file.arrays[name], array)
    assert write_arrays(folder / "second", arrays, facts).sha256 == first.sha256
    assert sorted(path.name for path in folder.iterdir()) == ["first", "second"]


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, str]:
    made = write_arrays(tmp_path / "segment", ARRAYS, {"format": 1})
    return made.path, made.sha256


def test_a_file_cut_at_any_length_is_refused(written: tuple[Path, str]) -> None:
    path, sha256 = written
    whole = path.read_bytes()
    cut = path.with_name("cut")
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(DataLoss):
            read_arrays(cut, sha256)
        with pytest.raises(DataLoss):
            read_arrays(cut)


def test_a_bit_that_flipped_anywhere_is_noticed(written: tuple[Path, str]) -> None:
    path, sha256 = written
    whole = path.read_bytes()
    flipped = path.with_name("flipped")
    unnoticed = []
    for offset in range(len(whole)):
        bad = bytearray(whole)
        bad[offset] ^= 1 << (offset % 8)
        flipped.write_bytes(bad)
        with pytest.raises(DataLoss, match=r"flipped cannot be used: .+\. It is fetched or built"):
            read_arrays(flipped, sha256)
        try:
            read_arrays(flipped, check=True)
        except DataLoss:
            continue
        unnoticed.append(offset)
    # Without the hash: nothing but what lies between two arrays.
    arrays = read_arrays(path).arrays
    used = sum(array.nbytes for array in arrays.values())
    assert len(unnoticed) <= len(arrays) * 64
    assert used > len(unnoticed)


def test_a_footer_that_lies_about_places_and_shapes_is_refused(tmp_path: Path) -> None:
    lies: list[Any] = [
        {"dtype": "<f4", "shape": [1 << 60], "start": 64},
        {"dtype": "<f4", "shape": [-1], "start": 64},
        {"dtype": "<f4", "shape": [1], "start": 63},
        {"dtype": "|O", "shape": [1], "start": 64},
        {"dtype": "<f4", "shape": "x", "start": 64},
        {"dtype": "<f4", "start": 64},
        [],
    ]
    for entry in lies:
        with ArrayWriter(tmp_path / "lie") as writer:
            writer.add("honest", np.zeros(1, np.float32))
            writer._entries["lie"] = entry
            path = writer.finish({}).path
        with pytest.raises(DataLoss, match="its footer says what cannot be"):
            read_arrays(path)


def test_a_file_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> None:
        with ArrayWriter(tmp_path / "never") as writer:
            writer.add("vectors", np.zeros((10, 3), np.float32))
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fails()
    assert list(tmp_path.iterdir()) == []


def test_arrays_are_read_only_and_outlive_the_name(written: tuple[Path, str]) -> None:
    path, _ = written
    vectors = read_arrays(path).arrays["vectors"]
    path.unlink()
    np.testing.assert_array_equal(vectors, ARRAYS["vectors"])
    with pytest.raises(ValueError, match="read-only"):
        vectors[0, 0] = 1.0


def test_an_array_can_be_read_before_the_file_is_finished(tmp_path: Path) -> None:
    pieces = [np.full((7, 2), number, np.float32) for number in range(3)]
    with ArrayWriter(tmp_path / "growing") as writer:
        writer.add_chunks("vectors", np.float32, (21, 2), iter(pieces))
        np.testing.assert_array_equal(writer.mapped("vectors"), np.concatenate(pieces))
        assert not (tmp_path / "growing").exists()
        writer.finish({})
    np.testing.assert_array_equal(
        read_arrays(tmp_path / "growing").arrays["vectors"], np.concatenate(pieces)
    )


def test_what_cannot_be_in_a_file_is_a_bug_of_the_caller(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "file") as writer:
        writer.add("one", np.zeros(2, np.float32))
        with pytest.raises(ValueError, match="twice"):
            writer.add("one", np.zeros(2, np.float32))
        with pytest.raises(ValueError, match="which no file holds"):
            writer.add("objects", np.array([object()]))
        with pytest.raises(ValueError, match="takes 24 bytes and its pieces are 16"):
            writer.add_chunks("short", np.float32, (3, 2), [np.zeros((2, 2), np.float32)])


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataLoss, match="No such file"):
        read_arrays(tmp_path / "nobody")
    with pytest.raises(DataLoss, match="No such file"):
        read_arrays(tmp_path / "nobody", "0" * 64)
    os.mkdir(tmp_path / "folder")
    with pytest.raises(DataLoss, match="directory"):
        read_arrays(tmp_path / "folder")
