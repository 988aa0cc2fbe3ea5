"""Sets of row positions: compressed (roaring) bitmaps, and their ways to and from numpy.

pyroaring fills a bitmap from an iterable in 20 ns a position; a mask becomes one in a fiftieth of
that by writing the portable serialized form, which is fixed by the RoaringFormatSpec: a cookie,
each container's key and size, their offsets, then the containers, one for each 65,536 positions
that are not all absent: the positions themselves up to 4,096 of them, else a bit each; or runs.
"""

from __future__ import annotations

import struct
from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

Mask = NDArray[np.bool_]
"""One boolean per row of a segment, shape (rows,)."""

_CHUNK = 1 << 16
_LISTED_MAX = 4_096
_PLAIN, _WITH_RUNS = 12_346, 12_347
_OFFSETS_FROM = 4
"""Containers from which on a bitmap with runs says where each lies."""

_FEW = 256
"""Positions up to which pyroaring's own filling is faster than a mask of 200,000 rows."""


def bitmap_of(mask: Mask) -> BitMap:
    """The positions at which a mask is true."""
    facts, bodies = [], []
    for key, start in enumerate(range(0, len(mask), _CHUNK)):
        chunk = mask[start : start + _CHUNK]
        size = int(np.count_nonzero(chunk))
        if not size:
            continue
        if size > _LISTED_MAX:
            body = np.packbits(chunk, bitorder="little").tobytes().ljust(_CHUNK // 8, b"\0")
        else:
            body = np.flatnonzero(chunk).astype("<u2").tobytes()
        facts.append(struct.pack("<HH", key, size - 1))
        bodies.append(body)
    offsets = np.cumsum([8 + 8 * len(bodies), *map(len, bodies)])[:-1]
    head = struct.pack("<II", _PLAIN, len(bodies))
    written = [head, *facts, offsets.astype("<u4").tobytes(), *bodies]
    return BitMap.deserialize(b"".join(written))


def bitmap_at(positions: NDArray[Any], count: int) -> BitMap:
    """The set of these positions, in any order and with repetitions, each below `count`."""
    if len(positions) <= max(_FEW, count >> 10):
        return BitMap(array("I", positions.astype(np.uint32, copy=False).tobytes()))
    mask = np.zeros(count, np.bool_)
    mask[positions.astype(np.intp)] = True
    return bitmap_of(mask)


def everything(count: int) -> BitMap:
    """The positions 0 to `count` - 1."""
    full = BitMap()
    full.add_range(0, count)
    return full


def mask_of(bitmap: BitMap, count: int) -> Mask:
    """The mask of a set of positions, each below `count`; a new array."""
    size = len(bitmap)
    if size == count:
        return np.ones(count, np.bool_)
    mask = np.zeros(count, np.bool_)
    if size <= _FEW:
        mask[np.frombuffer(bitmap.to_array(), np.uint32)] = True
        return mask
    raw = bitmap.serialize()
    cookie, containers = struct.unpack_from("<II", raw)
    facts_at, runs = 8, 0
    if cookie & 0xFFFF == _WITH_RUNS:
        containers = (cookie >> 16) + 1
        facts_at = 4 + (containers + 7) // 8
        runs = int.from_bytes(raw[4:facts_at], "little")
    at = facts_at + 4 * containers
    if not runs or containers >= _OFFSETS_FROM:
        at += 4 * containers
    for container in range(containers):
        key, size = struct.unpack_from("<HH", raw, facts_at + 4 * container)
        chunk = mask[key * _CHUNK : (key + 1) * _CHUNK]
        at = _fill(chunk, raw, at, size + 1, bool(runs >> container & 1))
    return mask


def _fill(chunk: Mask, raw: bytes, at: int, size: int, runs: bool) -> int:
    """Set what the container at `at` holds; where the next one lies."""
    if runs:
        count = int.from_bytes(raw[at : at + 2], "little")
        pairs = np.frombuffer(raw, "<u2", 2 * count, at + 2).astype(np.intp).reshape(-1, 2)
        # +1 where a run begins and -1 behind it: their sum is 1 inside and 0 outside.
        edges = np.zeros(_CHUNK + 1, np.int8)
        edges[pairs[:, 0]] += 1
        edges[pairs.sum(1) + 1] -= 1
        chunk[:] = np.cumsum(edges[: len(chunk)], dtype=np.int8)
        return at + 2 + 4 * count
    if size > _LISTED_MAX:
        bits = np.frombuffer(raw, np.uint8, _CHUNK // 8, at)
        chunk[:] = np.unpackbits(bits, count=len(chunk), bitorder="little")
        return at + _CHUNK // 8
    chunk[np.frombuffer(raw, "<u2", size, at)] = True
    return at + 2 * size
