"""What the services need of an object store, and how it says that something is wrong.

Segments are named by the SHA-256 of their bytes; files of documents by one made of their tenant and
theirs (`services.store.contents`). Either way a name always stands for the same bytes: an object
never changes, it is compared with its hash when it is put and when it is fetched, and putting it
twice is putting it once.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.errors import DataLoss, StoreUnavailable

RETRY_AFTER_S = 5.0

_NAME = re.compile(r"[0-9a-f]{64}")


class ObjectMissing(StoreUnavailable):
    """The store has no object of that name."""


class ObjectStoreFailed(StoreUnavailable):
    """Reading or writing failed. Nothing is half there."""


class ObjectStoreFull(ObjectStoreFailed):
    """There is no room for the object."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it is listed. `age_s` counts from when it was last put."""

    name: str
    size_bytes: int
    age_s: float


class ObjectStore(Protocol):
    """A place for objects that all nodes see. Every method raises ObjectStoreFailed.

    Names have 64 hexadecimal digits. An object's bytes have the hash `sha256`, in hexadecimal
    digits too; without one its name is the hash.
    """

    @property
    def scratch(self) -> Path:
        """Where files to put are best made, and fetched ones to read. A file there whose name
        begins with `.part-` is removed by `tidy` when it is old. May not exist yet."""

    async def put(self, name: str, path: Path, *, sha256: str = "") -> None:
        """Store a file's bytes, durable when it returns. The file must not change afterwards.
        Raises DataLoss where they are not what the hash says, and ObjectStoreFull."""

    async def fetch(self, name: str, path: Path, *, sha256: str = "") -> None:
        """Make `path` a file with the object's bytes, or leave it as it was. Raises ObjectMissing,
        DataLoss where the bytes are not what the hash says, and ObjectStoreFull."""

    def read(self, name: str, *, sha256: str = "") -> AsyncGenerator[bytes, None]:
        """The bytes in pieces of about 1 MiB. Raises ObjectMissing, and DataLoss at the end where
        they were not what the hash says."""

    async def exists(self, name: str) -> bool:
        """Whether there is such an object."""

    async def delete(self, name: str) -> None:
        """Nothing happens where there is none."""

    def names(self) -> AsyncIterator[StoredObject]:
        """All objects, in no order."""

    async def tidy(self, age_s: float) -> int:
        """Remove what broken-off calls left longer than `age_s` ago; how many pieces."""

    def close(self) -> None:
        """Ends its threads, when what they do is done."""


def is_name(text: str) -> bool:
    """Whether an object can have this name."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> str:
    """The name. Raises ValueError where it is none, such as a path."""
    if not is_name(name):
        raise ValueError(f"{name!r} is no name of an object: 64 hexadecimal digits are")
    return name


def damaged(where: str, name: str, sha256: str, found: str) -> DataLoss:
    """The error of bytes that do not have the hash that they should have."""
    return DataLoss(
        f"{where} should be object {name} with the hash {sha256}, and its bytes say {found}. "
        "Make it again.",
        metadata={"path": where, "object": name, "sha256": found},
    )
