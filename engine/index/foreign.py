"""Rows of files that come from elsewhere. Their bytes are what their writer wrote, which says
nothing of the writer: so nothing is believed of an array but what was looked at, no graph and no
postings of theirs are used, and each row is read alone.

The files of a node's own object store are not read this way: who can write there is the node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import DataLoss, InvalidVector
from engine.index.columns import Rows
from engine.index.files import Array, Arrays, read_arrays
from engine.index.payloads import Mask
from engine.index.snapshot import FORMAT
from engine.index.sparse import prepare
from engine.types import Point, SparseVector

STEP_ROWS = 500
_WRONG: tuple[type[Exception], ...] = (
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
_WRONG_ROW: tuple[type[Exception], ...] = (InvalidVector, *_WRONG)


class ForeignRows:
    """The rows of one file: `name` is said where one cannot be read."""

    def __init__(self, name: str, arrays: Arrays, dimensions: int) -> None:
        """Raises DataLoss for arrays that do not agree with each other."""
        self._name = name
        try:
            self.count = _check(arrays, dimensions)
            self._rows = Rows(arrays)
        except _WRONG as error:
            raise broken(name, str(error)) from error
        self._sparse: Arrays = arrays if "sparse.starts" in arrays else {}
        self._vectors: NDArray[Any] = arrays["vectors"]
        self._dense: NDArray[Any] = arrays["dense"]

    def points(self, live: Mask | None = None) -> Iterator[list[Point]]:
        """The rows, or those that live, with their vectors, some at a time. Raises DataLoss."""
        if live is not None and len(live) != self.count:
            raise broken(self._name, f"it has {self.count:,} rows and not {len(live):,}")
        positions = np.arange(self.count) if live is None else np.flatnonzero(live)
        for start in range(0, len(positions), STEP_ROWS):
            yield [self._point(at) for at in positions[start : start + STEP_ROWS].tolist()]

    def _point(self, position: int) -> Point:
        vector = None
        if self._dense[position]:
            vector = self._vectors[position].astype(np.float32)
        try:
            point = self._rows.point(position, vector)
            if self._sparse:
                point = replace(point, sparse_vector=self._sparse_vector(position))
            point.id.encode()
            point.text.encode()
            if not isinstance(point.payload, dict):
                raise ValueError("its payload is no object")
            if point.sentences is not None:
                spans = point.sentences.spans
                if spans.min() < 0 or spans.max() > len(point.text):
                    raise ValueError("its sentences are not within its text")
        except _WRONG_ROW as error:
            raise broken(self._name, f"row {position:,} cannot be read: {error}") from error
        return point

    def _sparse_vector(self, position: int) -> SparseVector | None:
        start, end = self._sparse["sparse.starts"][position : position + 2].tolist()
        if start == end:
            return None
        values = self._sparse["sparse.values"][start:end]
        return prepare(self._sparse["sparse.indices"][start:end], values, "sparse_vector")


def foreign_points(
    folder: Path, own: str, names: Sequence[str], dimensions: int
) -> Iterator[list[Point]]:
    """The living rows of a snapshot, some at a time: `own` is its own file in the folder, `names`
    are all others there. Raises DataLoss, at the first row that cannot be read."""
    file = read_arrays(folder / own)
    try:
        if file.facts["format"] != FORMAT:
            raise ValueError(f"format {file.facts['format']!r}, and this version reads {FORMAT}")
        lives = {
            name: _live(file.arrays[f"live.{number}"], count)
            for number, (name, count) in enumerate(file.facts["segments"])
        }
        if sorted(lives) != sorted(names):
            raise ValueError("its segments are not those that came with it")
    except _WRONG as error:
        raise broken(own, str(error)) from error
    for name, live in lives.items():
        yield from ForeignRows(name, read_arrays(folder / name).arrays, dimensions).points(live)
    yield from ForeignRows(own, file.arrays, dimensions).points()


def _live(bits: Array, count: int) -> Mask:
    # Compared first: what is missing would be made, however much it is.
    if type(count) is not int or bits.dtype != np.uint8 or bits.shape != ((count + 7) // 8,):
        raise ValueError(f"it cannot say which of {count!r} rows live")
    return np.unpackbits(bits, count=count).astype(np.bool_)


def broken(name: str, why: str) -> DataLoss:
    """The error that names the object."""
    return DataLoss(
        f"Object {name} holds what cannot be: {why}. Nothing was made. Export the snapshot again.",
        metadata={"object": name},
    )


def _check(arrays: Arrays, dimensions: int) -> int:
    """How many rows there are. Raises KeyError and ValueError."""
    count = len(_of(arrays, "rows.seqs", "i8", (None,)))
    for name in ("rows.ids", "rows.texts", "rows.payloads"):
        _strings(arrays, name, count)
    documents = _strings(arrays, "rows.documents", None)
    document = _of(arrays, "rows.document", "i4", (count,))
    if count and not -1 <= document.min() <= document.max() < documents:
        raise ValueError("a row is of a document that is not there")
    _of(arrays, "rows.passages", "i4", (count, 3))
    sentences = _of(arrays, "rows.sentence_spans", "i4", (None, 2))
    _starts(arrays, "rows.sentence_starts", count, len(sentences))
    small = _of(arrays, "rows.sentence_vectors", "i1", (len(sentences), None))
    if len(sentences) and small.shape[1] != dimensions:
        raise ValueError(f"the vectors of its sentences have {small.shape[1]} dimensions")
    for name, kind in (("hashes", "u8"), ("hash_positions", "u4"), ("id_order", "u4")):
        _of(arrays, f"rows.{name}", kind, (count,))
    if "sparse.starts" in arrays:
        numbers = _of(arrays, "sparse.indices", "u4", (None,))
        _of(arrays, "sparse.values", "f4", (len(numbers),))
        _starts(arrays, "sparse.starts", count, len(numbers))
    if "tokens.starts" in arrays:
        tokens = _of(arrays, "tokens.vectors", "i1", (None, dimensions))
        _starts(arrays, "tokens.starts", count, len(tokens))
    _of(
        arrays,
        "vectors",
        "f2" if arrays["vectors"].dtype.itemsize == 2 else "f4",
        (count, dimensions),
    )
    _of(arrays, "dense", "b1", (count,))
    return count


def _of(arrays: Arrays, name: str, kind: str, shape: tuple[int | None, ...]) -> Array:
    """An array of this type and shape, None for any length of a side."""
    array = arrays[name]
    sides = zip(array.shape, shape, strict=False)
    if (
        array.dtype.str[1:] != kind
        or len(array.shape) != len(shape)
        or any(wanted is not None and side != wanted for side, wanted in sides)
    ):
        raise ValueError(f"{name} is {array.dtype.str} of shape {array.shape}")
    return array


def _starts(arrays: Arrays, name: str, count: int, end: int) -> None:
    starts = _of(arrays, name, "i8", (count + 1,))
    if starts[0] != 0 or starts[-1] != end or (count and (np.diff(starts) < 0).any()):
        raise ValueError(f"{name} do not go up to {end:,}")


def _strings(arrays: Arrays, name: str, count: int | None) -> int:
    """How many there are."""
    blob = _of(arrays, f"{name}.blob", "u1", (None,))
    found = len(_of(arrays, f"{name}.starts", "i8", (None,))) - 1
    if found < 0 or count not in (None, found):
        raise ValueError(f"{name} are {found:,} and not {count}")
    _starts(arrays, f"{name}.starts", found, len(blob))
    return found
