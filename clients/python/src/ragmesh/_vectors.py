"""Vectors in and out, packed as little-endian float32 or sparse, without a need for numpy."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index as whole_number
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


INDEX_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True, init=False)
class SparseVector:
    """Few numbers of a very long vector; all others are 0.

    `SparseVector({7: 0.5, 1024: 1.25})`, or the indices (0 to 4,294,967,295, each once, in any
    order) and as many values (finite, not 0). What comes back has its indices ascending and its
    values as float32. Raises InvalidVector for what is not that.
    """

    indices: tuple[int, ...]
    values: tuple[float, ...]

    def __init__(
        self, indices: Mapping[int, float] | Iterable[int], values: Iterable[float] | None = None
    ) -> None:
        if isinstance(indices, Mapping):
            if values is not None:
                raise _no_sparse("has values twice: give a mapping, or indices and values")
            values, indices = indices.values(), indices.keys()
        if values is None:
            raise _no_sparse("has no values: give a mapping, or indices and values")
        try:
            places, numbers = tuple(map(whole_number, indices)), tuple(map(float, values))
        except (TypeError, ValueError) as error:
            raise _no_sparse(f"is whole numbers and numbers ({error})") from error
        if len(places) != len(numbers):
            raise _no_sparse(f"has {len(places)} indices and {len(numbers)} values")
        for place in places:
            if not 0 <= place <= INDEX_MAX:
                raise _no_sparse(f"has index {place}; give 0 to {INDEX_MAX:,}")
        object.__setattr__(self, "indices", places)
        object.__setattr__(self, "values", numbers)

    def __len__(self) -> int:
        return len(self.indices)


SparseVectorLike = SparseVector | Mapping[int, float]


def to_sparse(value: SparseVectorLike | None) -> SparseVector | None:
    """What was given as a SparseVector. Raises InvalidVector."""
    return value if value is None or isinstance(value, SparseVector) else SparseVector(value)


def _no_sparse(what: str) -> InvalidVector:
    return InvalidVector(f"A sparse vector {what}.")


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
