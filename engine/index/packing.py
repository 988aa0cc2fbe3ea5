"""The payloads of a segment as sorted arrays, from which `bitmaps.BitmapIndex` answers filters.

Arrays (names begin with `payload.`; a path is a dotted path into payloads, in order of its bytes):
- `facts` int64 (1): the number of rows.
- `paths`: `columns.Strings`, the paths that have a column; at most `SEALED_PATHS_MAX`.
- `table` int64 (paths + 1, 4): where the path's numbers, instants, counts and words begin; the
  next path's row is where they end.
- for each of `numbers` (float64), `instants` (int64, microseconds since 1970, of strings that name
  one) and `counts` (int64, of rows with two values or more): `.values`, ascending within a path,
  and `.positions` uint32, the rows they occur in, ascending within a value.
- `words`: `columns.Strings`, a path's distinct strings in order; `words.entries` int64 (words + 1)
  says where the rows of each begin in `words.positions` uint32; `words.hashes` uint64, ascending
  within a path, and `words.hashed` uint32, whose they are, counted from the path's first word.
- `{numbers,instants,counts,words}.heavy` int64 (n, 2): first and last + 1 entry of every value
  that occurs in `HEAVY_ROWS` rows or more. For these a bitmap is kept.
- `bitmaps`: `columns.Strings` of serialized bitmaps: the rows with a path that has no column; of
  each path the rows where it is there, null, true, false; of each heavy value its rows, in the
  order of the arrays above.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from engine.index.columns import hash_ids, pack_strings
from engine.index.conditions import flatten, key_of
from engine.index.files import Array
from engine.index.instants import instant_of
from engine.index.roaring import bitmap_at
from engine.types import JsonValue, Payload

SEALED_PATHS_MAX = 16_384
"""Paths of one segment with columns; rows with others are read one by one where it matters."""

HEAVY_ROWS = 1_024
SERIES = ("numbers", "instants", "counts", "words")
FLAGS = ("present", "null", "true", "false")

Positions = NDArray[np.uint32]


class _Path:
    """All that one path holds, in the order of rows."""

    __slots__ = ("false", "null", "number_rows", "numbers", "present", "true", "word_rows", "words")

    def __init__(self) -> None:
        self.present, self.null = array("I"), array("I")
        self.true, self.false = array("I"), array("I")
        self.numbers, self.number_rows = array("d"), array("I")
        self.words: dict[str, array[int]] = {}

    def add(self, row: int, value: JsonValue) -> None:
        if value is None:
            self.null.append(row)
            return
        self.present.append(row)
        if value is True:
            self.true.append(row)
        elif value is False:
            self.false.append(row)
        elif isinstance(value, str):
            rows = self.words.get(value)
            if rows is None:
                rows = self.words[value] = array("I")
            rows.append(row)
        elif isinstance(value, int | float):
            self.numbers.append(float(key_of(value)[1]))
            self.number_rows.append(row)


class _Series:
    """One of `SERIES` over all paths, as it is put together."""

    __slots__ = ("begins", "count", "heavy", "heavy_maps", "positions", "total", "values")

    def __init__(self, count: int) -> None:
        self.count = count
        self.total = 0
        self.begins = [0]
        self.values: list[Array] = []
        self.positions: list[Positions] = []
        self.heavy: list[Array] = []
        self.heavy_maps: list[bytes] = []

    def add(self, starts: Array, positions: Positions) -> None:
        """The entries of one path, `starts` where each distinct value's begin."""
        ends = np.append(starts[1:], len(positions))
        chosen = np.flatnonzero(ends - starts >= HEAVY_ROWS)
        runs = np.stack([starts[chosen], ends[chosen]], 1)
        self.heavy_maps.extend(
            _serialized(positions[low:high], self.count) for low, high in runs.tolist()
        )
        self.heavy.append(runs.astype(np.int64) + self.total)
        self.positions.append(positions)
        self.total += len(positions)

    def add_sorted(self, values: Array, rows: Positions) -> None:
        """The entries of one path in any order, with repetitions."""
        order = np.lexsort((rows, values))
        values, starts, rows = _distinct(values[order], rows[order])
        self.values.append(values)
        self.add(starts, rows)
        self.begins.append(self.total)

    def arrays(self, name: str) -> dict[str, Array]:
        none = np.zeros(0, np.uint32)
        heavy = np.concatenate([np.zeros((0, 2), np.int64), *self.heavy])
        return {
            f"payload.{name}.positions": np.concatenate([none, *self.positions]),
            f"payload.{name}.heavy": heavy,
        }


def pack_payloads(payloads: Iterable[Payload]) -> dict[str, Array]:
    """The arrays of the module, for the payloads of all rows in order.

    Takes about 10 s for a million values, and 20 bytes of memory for each beside the arrays.
    """
    paths, overflowed, count = _gather(payloads)
    series = {name: _Series(count) for name in SERIES}
    flags: list[bytes] = [_serialized(overflowed, count)]
    words: list[bytes] = []
    word_starts: list[Array] = [np.zeros(0, np.int64)]
    hashes: list[Array] = [np.zeros(0, np.uint64)]
    hashed: list[Array] = [np.zeros(0, np.uint32)]
    names = sorted(paths, key=_utf8)
    for name in names:
        path = paths.pop(name)
        flags.extend(_serialized(getattr(path, flag), count) for flag in FLAGS)
        rows, times = np.unique(_numpy(path.present), return_counts=True)
        many = times > 1
        series["counts"].add_sorted(times[many].astype(np.int64), rows[many])
        numbers = np.frombuffer(path.numbers, np.float64)
        series["numbers"].add_sorted(numbers, _numpy(path.number_rows))
        series["instants"].add_sorted(*_instants(path.words))
        listed = sorted(path.words, key=_utf8)
        entries = [path.words[word] for word in listed]
        ordinals = np.repeat(np.arange(len(listed)), list(map(len, entries)))
        _, starts, rows = _distinct(ordinals, np.frombuffer(b"".join(entries), np.uint32))
        word_starts.append(starts + series["words"].total)
        series["words"].add(starts, rows)
        words.extend(map(_utf8, listed))
        series["words"].begins.append(len(words))
        path_hashes = hash_ids(listed)
        order = np.argsort(path_hashes, kind="stable")
        hashes.append(path_hashes[order])
        hashed.append(order.astype(np.uint32))
    ends = np.array([series["words"].total], np.int64)
    out: dict[str, Array] = {
        "payload.facts": np.array([count], np.int64),
        "payload.table": np.array([series[name].begins for name in SERIES], np.int64).T.copy(),
        "payload.words.entries": np.concatenate([*word_starts, ends]),
        "payload.words.hashes": np.concatenate(hashes),
        "payload.words.hashed": np.concatenate(hashed),
        **pack_strings("payload.words", words),
        **pack_strings("payload.paths", map(_utf8, names)),
    }
    for name, one in series.items():
        out.update(one.arrays(name))
        flags.extend(one.heavy_maps)
    for name, dtype in (("numbers", np.float64), ("instants", np.int64), ("counts", np.int64)):
        values = [np.zeros(0, dtype), *series[name].values]
        out[f"payload.{name}.values"] = np.concatenate(values)
    out.update(pack_strings("payload.bitmaps", flags))
    return out


def _gather(payloads: Iterable[Payload]) -> tuple[dict[str, _Path], array[int], int]:
    """Every path with its values, the rows with paths beyond the limit, and the count of rows."""
    paths: dict[str, _Path] = {}
    overflowed = array("I")
    row = -1
    for row, payload in enumerate(payloads):
        for name, value in flatten(payload):
            path = paths.get(name)
            if path is None:
                if len(paths) >= SEALED_PATHS_MAX:
                    overflowed.append(row)
                    continue
                path = paths[name] = _Path()
            path.add(row, value)
    return paths, overflowed, row + 1


def _distinct(values: Array, rows: Positions) -> tuple[Array, Array, Positions]:
    """Sorted pairs without repetitions, and where each distinct value's begin."""
    fresh = np.ones(len(values), np.bool_)
    fresh[1:] = (values[1:] != values[:-1]) | (rows[1:] != rows[:-1])
    values, rows = values[fresh], rows[fresh]
    first = np.ones(len(values), np.bool_)
    first[1:] = values[1:] != values[:-1]
    return values, np.flatnonzero(first), rows


def _instants(words: dict[str, array[int]]) -> tuple[Array, Positions]:
    """The instants that a path's strings name, with the rows of each."""
    named = [(instant_of(word), rows) for word, rows in words.items()]
    times = [np.full(len(rows), time, np.int64) for time, rows in named if time is not None]
    rows = [_numpy(rows) for time, rows in named if time is not None]
    return (
        np.concatenate([np.zeros(0, np.int64), *times]),
        np.concatenate([np.zeros(0, np.uint32), *rows]),
    )


def _serialized(positions: array[int] | Positions, count: int) -> bytes:
    bitmap = bitmap_at(np.asarray(positions, np.uint32), count)
    bitmap.run_optimize()
    serialized: bytes = bitmap.serialize()
    return serialized


def _numpy(rows: array[int]) -> Positions:
    return np.frombuffer(rows, np.uint32)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
