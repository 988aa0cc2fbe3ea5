"""Files of named arrays: written once, verified whole, read through a memory map.

Layout: an opening mark; the arrays, each at a multiple of 64 bytes; a footer of JSON that says
where each array lies and of which type and shape it is, and holds the writer's own facts; the
footer's CRC-32 and length; a closing mark. Nothing is written twice, so an array can be read, by a
graph that is built over it, while the file still grows.

What is true:
- A file has its name only once it is whole: it is written beside under another name, synced,
  renamed, and the directory synced. Who finds a name after a crash finds a whole file.
- A file whose SHA-256 is known is compared with it, and one that stands alone with the CRC-32 of
  each array, where its reader asks for it. Equal arrays and facts give equal bytes.
- A whole file is never written to, and its mode says so.
- What is not such a file, or not whole, is DataLoss with the reason; no offset in it is trusted.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.errors import DataLoss

Array = NDArray[Any]
Arrays = Mapping[str, Array]

_OPENING = b"RAGMESH1"
_CLOSING = b"1HSEMGAR"
_TAIL = struct.Struct("<IQ8s")
_ALIGNMENT = 64
_FOOTER_BYTES_MAX = 64 << 20
_KINDS = frozenset({"|u1", "|i1", "|b1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8"}) | {
    "<f2",
    "<f4",
    "<f8",
}
_READ_BYTES = 1 << 20
_NUMBERS = itertools.count()  # so that two who write one name do not write one file


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is whole and synced. `sha256` in hex."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """An open file: `arrays` are read-only views of its map; `facts` is what its writer said."""

    arrays: Arrays
    facts: Mapping[str, Any]
    size_bytes: int


class ArrayWriter:
    """Writes one file. Use it in a `with`: without `finish` nothing is left of it.

    Raises OSError for what the disk refuses, with nothing under the name.
    """

    def __init__(self, path: Path) -> None:
        """Will be found at `path` once finished."""
        self.path = path
        self._partial = path.with_name(f"{path.name}.{os.getpid()}-{next(_NUMBERS)}.partial")
        self._file: BinaryIO = self._partial.open("wb")
        self._digest = hashlib.sha256()
        self._offset = 0
        self._entries: dict[str, dict[str, object]] = {}
        self._write(_OPENING)

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def add(self, name: str, array: Array) -> None:
        """Write one array. ValueError for a name given twice or a type that is not plain."""
        self.add_chunks(name, array.dtype, array.shape, [array])

    def add_chunks(
        self, name: str, dtype: DTypeLike, shape: tuple[int, ...], chunks: Iterable[Array]
    ) -> None:
        """Write one array in pieces, one after the other along the first axis."""
        kind = np.dtype(dtype).newbyteorder("<")
        if kind.str not in _KINDS:
            raise ValueError(f"array {name!r} is of type {kind.str}, which no file holds")
        if name in self._entries:
            raise ValueError(f"array {name!r} is given twice")
        self._write(b"\0" * (-self._offset % _ALIGNMENT))
        start, checksum = self._offset, 0
        for chunk in chunks:
            data = np.ascontiguousarray(chunk, kind).reshape(-1).view(np.uint8).data
            checksum = zlib.crc32(data, checksum)
            self._write(data)
        expected = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if self._offset - start != expected:
            raise ValueError(
                f"array {name!r} of shape {shape} takes {expected} bytes and its pieces are "
                f"{self._offset - start}"
            )
        self._entries[name] = {
            "dtype": kind.str,
            "shape": list(shape),
            "start": start,
            "crc32": checksum,
        }

    def mapped(self, name: str) -> Array:
        """An array that was added, as it lies in the file: what reads it needs no second copy."""
        self._file.flush()
        with self._partial.open("rb") as file:
            whole = _map(file, self._offset)
        return _view(whole, name, self._entries[name], self._offset)

    def finish(self, facts: Mapping[str, Any]) -> Written:
        """Write the footer, sync, and give the file its name."""
        footer = json.dumps(
            {"arrays": self._entries, "facts": dict(facts)}, sort_keys=True, separators=(",", ":")
        ).encode()
        self._write(footer)
        self._write(_TAIL.pack(zlib.crc32(footer), len(footer), _CLOSING))
        self._file.flush()
        # Read by map from now on: who cut it in place would end every reader with SIGBUS.
        os.fchmod(self._file.fileno(), 0o400)
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.rename(self.path)
        try:
            sync_directory(self.path.parent)
        except OSError:
            # It may be gone after a crash, so nobody may count on it now.
            self.path.unlink(missing_ok=True)
            raise
        return Written(self.path, self._digest.hexdigest(), self._offset)

    def _write(self, data: bytes | memoryview) -> None:
        if len(data):
            self._file.write(data)
            self._digest.update(data)
            self._offset += len(data)


def write_arrays(path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> Written:
    """Write a whole file. Raises OSError for what the disk refuses, with nothing under the name."""
    with ArrayWriter(path) as writer:
        for name, array in arrays.items():
            writer.add(name, array)
        return writer.finish(facts)


def read_arrays(path: Path, sha256: str | None = None, *, check: bool = False) -> ArrayFile:
    """Open a file; with `sha256`, once all of it was read and found to be that; with `check`, once
    every array was read and found to be what was written.

    Raises DataLoss for one that is missing, cut, changed or foreign.
    """
    if sha256 is not None:
        verify(path, sha256)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < len(_OPENING) + _TAIL.size:
                raise _damaged(path, f"it has only {size} bytes")
            whole = _map(file, size)
    except OSError as error:
        raise _damaged(path, error.strerror or "it cannot be read") from error
    footer = _footer(path, whole)
    try:
        entries = footer["arrays"]
        limit = size - _TAIL.size
        arrays = {name: _view(whole, name, entry, limit) for name, entry in entries.items()}
        for name, array in arrays.items() if check else ():
            if zlib.crc32(array.reshape(-1).view(np.uint8).data) != entries[name]["crc32"]:
                raise ValueError(f"{name} is not what was written")
        return ArrayFile(arrays, footer["facts"], size)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, f"its footer says what cannot be: {error}") from error


def verify(path: Path, sha256: str) -> None:
    """Read a file whole. Raises DataLoss if its SHA-256 (hex) is another, or it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
    except OSError as error:
        raise _damaged(path, error.strerror or "it cannot be read") from error
    if digest.hexdigest() != sha256:
        raise _damaged(path, f"its SHA-256 is {digest.hexdigest()} and should be {sha256}")


def sync_directory(directory: Path) -> None:
    """Make renames in a directory durable: without this a crash may undo them."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _map(file: BinaryIO, size: int) -> NDArray[np.uint8]:
    # The map outlives the file object and goes when the last array does.
    mapped = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
    return np.frombuffer(mapped, np.uint8)


def _footer(path: Path, whole: NDArray[np.uint8]) -> dict[str, Any]:
    tail = len(whole) - _TAIL.size
    checksum, length, closing = _TAIL.unpack(whole[tail:].tobytes())
    if whole[: len(_OPENING)].tobytes() != _OPENING or closing != _CLOSING:
        raise _damaged(path, "it does not begin and end as such a file does")
    if not 0 < length <= min(tail - len(_OPENING), _FOOTER_BYTES_MAX):
        raise _damaged(path, f"its footer cannot have {length} bytes")
    footer = whole[tail - length : tail].tobytes()
    if zlib.crc32(footer) != checksum:
        raise _damaged(path, "its footer is not what was written")
    try:
        parsed: dict[str, Any] = json.loads(footer)
    except ValueError as error:
        raise _damaged(path, "its footer is not JSON") from error
    return parsed


def _view(whole: NDArray[np.uint8], name: str, entry: Mapping[str, Any], limit: int) -> Array:
    if entry["dtype"] not in _KINDS:
        raise ValueError(f"type of {name}")
    kind, shape, start = np.dtype(entry["dtype"]), tuple(entry["shape"]), entry["start"]
    if any(not isinstance(side, int) or side < 0 for side in (*shape, start)):
        raise ValueError(f"shape of {name}")
    size = kind.itemsize
    for side in shape:
        size *= side
    if start % _ALIGNMENT or start + size > limit:
        raise ValueError(f"place of {name}")
    view: Array = whole[start : start + size].view(kind).reshape(shape)
    return view


def _damaged(path: Path, why: str) -> DataLoss:
    return DataLoss(
        f"{path.name} cannot be used: {why}. It is fetched or built again where that is possible.",
        metadata={"file": path.name},
    )
