"""What a snapshot needs beside the segment files of its commit: one more file.

It holds which rows of each segment lived, and whole the living rows that were in no segment yet.
Arrays: `live.0`, `live.1` … bits of the segments in the order of the facts; `rows.` of `columns`,
`vectors`, `dense` and the rows of `sparse` of the other rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from engine.errors import DataLoss
from engine.index import sparse
from engine.index.columns import Rows, pack_rows, pack_tokens
from engine.index.files import Arrays, Written, read_arrays, write_arrays
from engine.index.payloads import Mask
from engine.index.segment import SegmentView
from engine.index.view import View
from engine.types import Point

FORMAT: Final = 1
STEP_ROWS: Final = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """What `write_snapshot` wrote. `live`: a mask for each segment by name."""

    live: Mapping[str, Mask]
    late: Arrays

    def late_rows(self) -> Iterator[list[Point]]:
        """The living rows that were in no segment, with their vectors, some at a time."""
        rows, vectors, dense = Rows(self.late), self.late["vectors"], self.late["dense"]
        sparse_rows = sparse.PackedRows.of(self.late)
        for start in range(0, len(rows), STEP_ROWS):
            step = range(start, min(start + STEP_ROWS, len(rows)))
            points = [
                rows.point(position, vectors[position] if dense[position] else None)
                for position in step
            ]
            if sparse_rows is not None:
                points = [
                    dataclasses.replace(point, sparse_vector=sparse_rows.vector(position))
                    for point, position in zip(points, step, strict=True)
                ]
            yield points


def write_snapshot(view: View, path: Path) -> Written:
    """Write the file of a view. Raises OSError for what the disk refuses."""
    sealed = [(one.sealed, one.live) for one in view.segments if one.sealed is not None]
    points: list[Point] = []
    seqs: list[int] = []
    for segment in view.segments:
        if segment.sealed is None:
            positions = np.flatnonzero(segment.live)
            points += [segment.point(position, True) for position in positions.tolist()]
            seqs += segment.rows.seqs[positions].tolist()
    vectors = np.zeros((len(points), view.dimensions), np.float32)
    for row, point in enumerate(points):
        if point.vector is not None:
            vectors[row] = point.vector
    arrays = {
        **{f"live.{number}": np.packbits(live) for number, (_, live) in enumerate(sealed)},
        **pack_rows([dataclasses.replace(point, vector=None) for point in points], seqs),
        **pack_tokens([point.token_vectors for point in points]),
        **sparse.pack_rows([point.sparse_vector for point in points]),
        "vectors": vectors,
        "dense": np.array([point.vector is not None for point in points], np.bool_),
    }
    facts = {
        "format": FORMAT,
        "watermark": view.watermark,
        "change_id": view.change_id,
        "points": view.points,
        "segments": [[one.name, len(live)] for one, live in sealed],
    }
    return write_arrays(path, arrays, facts)


def read_snapshot(path: Path) -> Kept:
    """Read the file. Raises DataLoss for one that is damaged or of another format."""
    file = read_arrays(path, check=True)
    try:
        if file.facts["format"] != FORMAT:
            raise ValueError(f"format {file.facts['format']}, and this version reads {FORMAT}")
        live = {
            name: np.unpackbits(file.arrays[f"live.{number}"], count=count).astype(np.bool_)
            for number, (name, count) in enumerate(file.facts["segments"])
        }
        kept = Kept(live, file.arrays)
        if len(Rows(kept.late)) + sum(map(np.count_nonzero, live.values())) != file.facts["points"]:
            raise ValueError("its rows are not as many as it says")
    except (KeyError, ValueError, TypeError) as error:
        raise DataLoss(
            f"{path.name} is no snapshot that can be read: {error}. Use another one.",
            metadata={"file": path.name},
        ) from error
    return kept


def living(segment: SegmentView) -> Iterator[tuple[list[Point], list[int]]]:
    """The living rows of a segment with their vectors, and the commits that wrote them, some at a
    time."""
    positions = np.flatnonzero(segment.live)
    for start in range(0, len(positions), STEP_ROWS):
        step = positions[start : start + STEP_ROWS]
        points = [segment.point(position, True) for position in step.tolist()]
        yield points, segment.rows.seqs[step].tolist()
