"""Vectors in and out, as packed little-endian float32, without a need for numpy."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, overload

from ragmesh._errors import InvalidVector

FLOAT_BYTES = 4


class ArrayLike(Protocol):
    """A one-dimensional array of numbers, such as numpy's or a tensor in memory."""

    def __len__(self) -> int: ...
    def tobytes(self) -> bytes: ...


class Vector(Sequence[float]):
    """An immutable vector of float32.

    It behaves like a sequence of floats; `packed` are its bytes (little-endian float32), and
    `numpy.asarray(vector)` sees them without a copy.
    """

    __slots__ = ("_view", "packed")

    def __init__(self, values: VectorLike) -> None:
        self.packed = pack(values)
        self._view = memoryview(_native(self.packed)).cast("f")

    def __len__(self) -> int:
        return len(self._view)

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> list[float]: ...
    def __getitem__(self, index: int | slice) -> float | list[float]:
        if isinstance(index, slice):
            return list(self._view[index])
        return self._view[index]

    def __iter__(self) -> Iterator[float]:
        return iter(self._view)

    def __eq__(self, other: object) -> bool:
        return self.packed == other.packed if isinstance(other, Vector) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.packed)

    def __reduce__(self) -> tuple[type[Vector], tuple[bytes]]:
        return (Vector, (self.packed,))

    def __repr__(self) -> str:
        head = ", ".join(f"{v:.4g}" for v in self._view[:3])
        return f"Vector([{head}{', …' if len(self) > 3 else ''}], length={len(self)})"

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"version": 3, "shape": (len(self),), "typestr": "<f4", "data": self.packed}


VectorLike = Vector | Sequence[float] | ArrayLike | bytes


def pack(values: VectorLike) -> bytes:
    """The values as little-endian float32. `bytes` are taken to be that already.

    Raises InvalidVector for anything that is not one flat row of numbers.
    """
    if isinstance(values, Vector):
        return values.packed
    if isinstance(values, bytes | bytearray):
        if len(values) % FLOAT_BYTES:
            raise InvalidVector(
                f"{len(values)} bytes are no float32 vector: give four bytes a dimension.",
                metadata={"bytes": str(len(values))},
            )
        return bytes(values)
    try:
        view = memoryview(values)  # type: ignore[arg-type]  # not every sequence has a buffer
    except (TypeError, ValueError, BufferError):
        return _from_numbers(values)
    if view.ndim != 1:
        raise InvalidVector(
            f"A vector has one dimension; this array has the shape {view.shape}: give one row.",
            metadata={"shape": str(view.shape)},
        )
    if view.format == "<f" or (view.format == "f" and sys.byteorder == "little"):
        return view.tobytes()
    return _from_numbers(values)


def _from_numbers(values: Any) -> bytes:
    try:
        if isinstance(values, str):
            raise TypeError("a string")
        numbers = array("f", values)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidVector(
            f"A vector is a flat list of numbers, not {type(values).__name__} ({error})."
        ) from error
    return _native(numbers.tobytes())


def _native(data: bytes) -> bytes:
    """Swaps between little-endian and this machine's order (nothing to do on most)."""
    if sys.byteorder == "little":
        return data
    swapped = array("f", data)
    swapped.byteswap()
    return swapped.tobytes()
