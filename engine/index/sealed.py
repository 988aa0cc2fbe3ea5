"""A sealed segment: rows that never change, in one file, read through its memory map.

Opening one reads a footer and no row. Its name is the SHA-256 of its bytes, so equal names mean
equal rows, equal graph and equal answers on every node. Which of its rows are alive is the view's
business, as with the buffer.

Arrays beside those of `columns`: `vectors` (n, d) and what `storage` keeps beside, prepared for
the metric, zeros where `dense` bool (n) is False; `graph.` of `graph.Graph`; `words.` of
`word_table.WordTable`; `payload.` of `bitmaps.BitmapIndex`; where a row has a sparse vector,
`sparse.` of `sparse.SparseTable`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import DataLoss
from engine.index.bitmaps import BitmapIndex, mask_of
from engine.index.columns import Rows, bytes_of
from engine.index.conditions import Analyze
from engine.index.exact import Metric
from engine.index.files import Arrays, read_arrays
from engine.index.filters import Filter
from engine.index.graph import Graph, GraphSettings
from engine.index.payloads import Mask
from engine.index.sparse import SparseTable
from engine.index.storage import Kept, Storage
from engine.index.word_table import WordTable
from engine.index.words import RECIPE
from engine.types import Point

FORMAT = 1
"""Of the arrays. A file of another is not read but built again."""


class Sealed:
    """One segment file, open. `sealed_seq` is the commit up to which it was sealed, `built_with`
    the m and ef_construction of its graph."""

    __slots__ = (
        "_kept",
        "arrays",
        "built_with",
        "count",
        "dense",
        "graph",
        "name",
        "nbytes",
        "payloads",
        "rows",
        "sealed_seq",
        "sparse",
        "token_bytes",
        "words",
    )

    def __init__(
        self,
        name: str,
        arrays: Arrays,
        sealed_seq: int,
        graph: Graph | None,
        built_with: tuple[int, int],
        analyze: Analyze,
    ) -> None:
        """Over arrays that agree with each other; use `open_sealed`."""
        self.name = name
        self.arrays = arrays
        self.sealed_seq = sealed_seq
        self.built_with = built_with
        self.rows = Rows(arrays)
        self.count = len(self.rows)
        self._kept = Kept(arrays["vectors"], arrays.get("codes"), arrays.get("scales"))
        self.dense: Mask = arrays["dense"]
        self.graph = graph
        self.payloads = BitmapIndex(arrays, self.rows.payload, analyze)
        self.words = WordTable(arrays)
        self.sparse = SparseTable(arrays) if "sparse.starts" in arrays else None
        self.token_bytes = bytes_of(arrays, "tokens.")
        self.nbytes = sum(array.nbytes for array in arrays.values())
        if not len(self._kept.precise) == len(self.dense) == self.count:
            raise ValueError("the vectors of a segment are not as many as its rows")
        if self.sparse is not None and len(self.sparse.rows) != self.count:
            raise ValueError("the sparse vectors of a segment are not as many as its rows")

    @property
    def seqs(self) -> NDArray[np.int64]:
        """The commit that wrote each row."""
        return self.rows.seqs

    def find(self, id: str, count: int) -> int:
        """The position of an id, or -1."""
        return self.rows.position(id)

    def id(self, position: int) -> str:
        """The id of a row."""
        return self.rows.ids[position]

    def document(self, position: int) -> str:
        """The document of a row, or the empty string."""
        return self.rows.document(position)

    def point(self, position: int) -> Point:
        """A row without its vector."""
        return self.rows.point(position, None)

    def named(self, position: int) -> Point:
        """A row with its id and its place in its document, and nothing else."""
        return self.rows.named(position)

    def kept(self, count: int) -> Kept:
        """The vectors of all rows, as searches read them."""
        return self._kept

    @property
    def vectors(self) -> NDArray[Any]:
        """The precise vectors, float32 or float16."""
        return self._kept.precise.values

    @property
    def storage(self) -> Storage:
        """How its vectors are kept."""
        return self._kept.storage

    def passages(self, live: Mask) -> int:
        """How many of these rows are passages of documents."""
        return int(np.count_nonzero(self.rows.is_passage() & live))

    def mask(self, filter: Filter, count: int) -> Mask:
        """Which rows satisfy a valid filter."""
        return mask_of(self.payloads.matching(filter), self.count)

    def ids_after(self, id: str, count: int) -> Iterator[tuple[str, int]]:
        """Ids above `id` in order, each with its position."""
        order, ids = self.rows.id_order, self.rows.ids
        wanted = id.encode("utf-8", "surrogatepass")
        first = bisect_right(order, wanted, key=lambda position: ids.raw(int(position)))
        for position in order[first:].tolist() if id else order.tolist():
            yield ids[position], position


def open_sealed(
    path: Path, name: str, settings: GraphSettings, analyze: Analyze, *, check: bool = True
) -> Sealed:
    """Open a segment file; `check` reads all of it first and compares it with its name. `analyze`
    takes texts apart into words.

    Raises DataLoss for a file that is missing, damaged, foreign or of another format.
    """
    file = read_arrays(path, name if check else None)
    facts = file.facts
    try:
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']}, and this version reads {FORMAT}")
        graph = None
        if "graph.level0" in file.arrays:
            graph = Graph.of(file.arrays, Metric(facts["metric"]), settings)
        if facts["words"] != RECIPE:
            raise ValueError(f"words of recipe {facts['words']}, and this version's is {RECIPE}")
        built_with = int(facts["m"]), int(facts["ef_construction"])
        sealed_seq = int(facts["sealed_seq"])
        return Sealed(name, file.arrays, sealed_seq, graph, built_with, analyze)
    except (KeyError, ValueError, TypeError) as error:
        raise DataLoss(
            f"{path.name} is no segment that can be read: {error}. It is built again.",
            metadata={"file": path.name},
        ) from error
