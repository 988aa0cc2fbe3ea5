"""A snapshot as one file, for copies that leave the mesh.

Layout: an opening mark; the length and the SHA-256 of the head; the head, JSON: what its writer
says of the snapshot, and the objects by name and size; the objects' bytes, one after the other in
the order of the head; a closing mark.

What is true:
- Every byte is vouched for. Marks and length are compared, the head with the hash before it, each
  object with its name, which is the SHA-256 of its bytes.
- Equal snapshots give equal files, so a copy that broke off goes on where it stopped.
- It is taken apart as it comes: what is wrong is known at the byte where it is, and nothing is
  read into memory but the head.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from engine.errors import DataLoss

FORMAT: Final = 1
OPENING: Final = b"RAGMESHS"
CLOSING: Final = b"SHSEMGAR"
HEAD_BYTES_MAX: Final = 4 << 20
OBJECTS_MAX: Final = 10_000
_START: Final = struct.Struct("<8sQ32s")
_NAME = re.compile(r"[0-9a-f]{64}")
_PIECE_BYTES: Final = 512 << 10


@dataclass(frozen=True, slots=True)
class Packed:
    """An object of the file. `own` is true of the snapshot's own, which is no segment."""

    name: str
    size_bytes: int
    own: bool


@dataclass(frozen=True, slots=True)
class Head:
    """What comes first. `about` is what the writer says of the snapshot, for its reader."""

    about: Mapping[str, Any]
    objects: Sequence[Packed]

    @property
    def data(self) -> bytes:
        """The first bytes of the file."""
        text = json.dumps(
            {
                "format": FORMAT,
                "about": dict(self.about),
                "objects": [[one.name, one.size_bytes, one.own] for one in self.objects],
            },
            sort_keys=True,
            separators=(",", ":"),
        ).encode()
        return _START.pack(OPENING, len(text), hashlib.sha256(text).digest()) + text

    @property
    def contents_bytes(self) -> int:
        """All objects together."""
        return sum(one.size_bytes for one in self.objects)

    @property
    def size_bytes(self) -> int:
        """The whole file."""
        return len(self.data) + self.contents_bytes + len(CLOSING)


def pieces(head: Head, folder: Path) -> Iterator[bytes]:
    """The file, from objects that lie in a folder under their names; nothing is kept in memory.
    Raises OSError, and DataLoss where an object is not as long as the head says."""
    data = head.data
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]
    for one in head.objects:
        size = 0
        with (folder / one.name).open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                size += len(piece)
                yield piece
        if size != one.size_bytes:
            raise DataLoss(
                f"Object {one.name} has {size:,} bytes and should have {one.size_bytes:,}.",
                metadata={"object": one.name},
            )
    yield CLOSING


class Unpacker:
    """Takes a file apart, given piece by piece, into one file for each object.

    Every method raises DataLoss, which says at which byte something is wrong, and OSError.
    """

    def __init__(self, folder: Path) -> None:
        """Objects are written to `folder` under their names."""
        self._folder = folder
        self._waiting = bytearray()
        self._objects: Iterator[Packed] = iter(())
        self._packed: Packed | None = None
        self._file: BinaryIO | None = None
        self._left = 0
        self._hashed = hashlib.sha256()
        self._over = False
        self.head: Head | None = None
        self.head_sha256 = b""
        self.offset = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        view = memoryview(data)
        if self.head is None:
            self._waiting += view
            self.offset += len(view)
            rest = self._opened()
            if rest is None:
                return
            view = memoryview(rest)
            self.offset -= len(view)
        while len(view):
            view = view[self._take(view) :]

    def finish(self) -> None:
        """Say that nothing comes any more."""
        if self.head is None:
            raise _broken(self.offset, "it ends before its head does")
        if not self._over:
            where = "its closing mark" if self._packed is None else f"object {self._packed.name}"
            raise _broken(self.offset, f"it ends within {where}")

    def close(self) -> None:
        """Let go of the file that is being written."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> bytes | None:
        """Reads the head once it is there; what came after it."""
        given = self._waiting
        if not given.startswith(OPENING[: len(given)]):
            raise _broken(0, "it does not begin as the file of a snapshot does")
        if len(given) < _START.size:
            return None
        _, length, digest = _START.unpack_from(given)
        if not 0 < length <= HEAD_BYTES_MAX:
            raise _broken(len(OPENING), f"a head cannot have {length:,} bytes")
        if len(given) < _START.size + length:
            return None
        text = bytes(given[_START.size : _START.size + length])
        if hashlib.sha256(text).digest() != digest:
            raise _broken(_START.size, "its head is not what was written")
        self.head, self.head_sha256 = _head(text), digest
        self._objects = iter(self.head.objects)
        rest = bytes(given[_START.size + length :])
        self._waiting = bytearray()
        self._next()
        return rest

    def _take(self, view: memoryview) -> int:
        """How many bytes of these were taken."""
        if self._over:
            raise _broken(self.offset, "it goes on after its end")
        if self._packed is None:
            wanted = CLOSING[len(self._waiting) :][: len(view)]
            if view[: len(wanted)] != wanted:
                raise _broken(self.offset, "its closing mark is not there")
            self._waiting += wanted
            self._over = len(self._waiting) == len(CLOSING)
            self.offset += len(wanted)
            return len(wanted)
        part = view[: self._left]
        if self._file is not None:
            self._file.write(part)
        self._hashed.update(part)
        self._left -= len(part)
        self.offset += len(part)
        if not self._left:
            digest = self._hashed.hexdigest()
            if digest != self._packed.name:
                start = self.offset - self._packed.size_bytes
                raise _broken(start, f"object {self._packed.name} is not what was written")
            self._next()
        return len(part)

    def _next(self) -> None:
        self.close()
        self._packed = next(self._objects, None)
        if self._packed is not None:
            self._left = self._packed.size_bytes
            self._hashed = hashlib.sha256()
            self._file = (self._folder / self._packed.name).open("xb")


def _head(text: bytes) -> Head:
    try:
        parsed = json.loads(text)
        if parsed["format"] != FORMAT:
            raise ValueError(f"format {parsed['format']!r}, and this version reads {FORMAT}")
        about, listed = parsed["about"], parsed["objects"]
        if not isinstance(about, dict) or len(listed) > OBJECTS_MAX:
            raise ValueError("what it holds cannot be")
        objects = [Packed(name, size, own) for name, size, own in listed]
        for one in objects:
            if not isinstance(one.name, str) or not _NAME.fullmatch(one.name):
                raise ValueError(f"an object is named {str(one.name)[:80]!r}")
            if type(one.size_bytes) is not int or one.size_bytes <= 0 or type(one.own) is not bool:
                raise ValueError(f"object {one.name} cannot be as it says")
        if len({one.name for one in objects}) != len(objects):
            raise ValueError("an object is there twice")
        if [one.own for one in objects].count(True) != 1:
            raise ValueError("one object is the snapshot's own, and no more")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _broken(_START.size, f"its head cannot be read: {error}") from error
    return Head(about, objects)


def _broken(offset: int, why: str) -> DataLoss:
    return DataLoss(
        f"The file cannot be imported: at byte {offset:,}, {why}. Nothing was made. Copy it again, "
        "or export the snapshot again.",
        metadata={"offset_bytes": offset},
    )
