"""What lies on disk: files to ingest, what they are known by, and what is left out and why.

Names are whatever the file system has: bytes that are no UTF-8 are kept as Python's surrogates
where files are opened, and never printed or sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from engine.errors import DocumentUnreadable, UnsupportedMediaType
from services.commands.ingestion import Outcome

T = TypeVar("T")
_SAMPLE_BYTES = 65_536
_NAME_CHARACTERS_MAX = 500
_FILE_URI = "file://"


@dataclass(frozen=True, slots=True)
class File:
    """A file to ingest: `path` as it is opened, `place` what it is known by."""

    path: str
    place: str
    size_bytes: int


@dataclass(slots=True)
class Found:
    """What lies below some paths: files by their places, and what is left out of them."""

    files: dict[str, File] = field(default_factory=dict)
    left_out: list[Outcome] = field(default_factory=list)


def find(paths: Iterable[Path], stopped: Callable[[], bool] = lambda: False) -> Found:
    """Files, and all below folders by name, each once; hidden ones below folders are left out.

    Links to files are files of their own; links to folders are not followed, so there are no
    loops. Nothing is opened. Ends early once it is `stopped`, as all that runs in a thread has to.
    """
    found = Found()
    for path in paths:
        if path.is_dir():
            for file, place in _below(path, found):
                if stopped():
                    return found
                _take(found, file, place)
        else:
            _take(found, os.fspath(path), place_of(path))
    return found


def place_of(path: str | os.PathLike[str]) -> str:
    """What a file is known by: its path from the root on, with the links of its folder resolved."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def document_id_of(path: str | os.PathLike[str]) -> str:
    """An id that the same path always gets: readable, and different from all other paths'."""
    place = place_of(path)
    name = os.path.basename(place).lower()
    readable = re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:45].strip("-") or "file"
    return f"{readable}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}"


def uri_of(place: str) -> str:
    """`file:///…`, with every byte that is no plain character escaped."""
    return PurePath(place).as_uri()


def place_from(uri: str) -> str | None:
    """The place that a URI names; None where it is no file's."""
    if not uri.startswith(f"{_FILE_URI}/"):
        return None
    return os.fsdecode(unquote_to_bytes(uri.removeprefix(_FILE_URI)))


def is_below(place: str, folder: str) -> bool:
    """Whether a place is in a folder, at whatever depth."""
    return place.startswith(folder.rstrip("/") + "/")


def shown(path: str) -> str:
    """A path for people: of one line, without what a terminal would obey."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def display_name_of(place: str) -> str:
    """The name of the file as its document has it."""
    return shown(os.path.basename(place))[:_NAME_CHARACTERS_MAX]


def refusal(file: File) -> Outcome | None:
    """Why a file is not sent, from how it begins; None where it is. Opens it."""
    from engine.documents.detect import detect

    try:
        with open(file.path, "rb") as opened:
            sample = opened.read(_SAMPLE_BYTES)
        if not sample.strip():
            return left_out(file.path, "EMPTY", "is empty")
        detect(sample, display_name_of(file.place))
    except UnsupportedMediaType as error:
        return left_out(file.path, "UNSUPPORTED_MEDIA_TYPE", error.message)
    except OSError as error:
        return unreadable(file.path, error)
    except DocumentUnreadable:  # the sample may end within a character: the server decides
        return None
    return None


def is_gone(place: str) -> bool:
    """Whether there is surely nothing: not where the system does not say."""
    try:
        os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def sha256_of(path: str) -> bytes:
    """The hash of a file as it is now. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def left_out(path: str, reason: str, message: str) -> Outcome:
    """A file that is not sent, and need not be."""
    return Outcome(shown(path), "skipped", reason=reason, message=message)


def unreadable(path: str, error: OSError) -> Outcome:
    """A file that the system does not give."""
    return Outcome(shown(path), "failed", reason="UNREADABLE", message=error.strerror or str(error))


async def in_thread(work: Callable[[Callable[[], bool]], T]) -> T:
    """What `work` returns, which gets to know through its argument when nobody waits any more:
    a program ends when its threads have."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(work, stop.is_set)
    finally:
        stop.set()


def _below(root: Path, found: Found) -> Iterator[tuple[str, str]]:
    def on_error(error: OSError) -> None:
        folder = os.fsdecode(error.filename or os.fspath(root))
        found.left_out.append(unreadable(folder, error))

    for folder, folders, names in os.walk(root, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        real = os.path.realpath(folder)
        for name in sorted(names):
            if not name.startswith("."):
                yield os.path.join(folder, name), os.path.join(real, name)


def _take(found: Found, path: str, place: str) -> None:
    if place in found.files:
        return
    try:
        status = os.stat(path)
    except OSError as error:
        found.left_out.append(unreadable(path, error))
        return
    if not stat.S_ISREG(status.st_mode):
        # To open a pipe is to wait for whoever writes to it.
        found.left_out.append(left_out(path, "NO_FILE", "is no regular file"))
        return
    found.files[place] = File(place if path == place else path, place, status.st_size)
