"""Files sent in pieces."""

from __future__ import annotations

import hashlib
import mimetypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from google.protobuf.message import Message

from ragmesh._errors import MessageTooLarge
from ragmesh._names import refuse
from ragmesh.api.documents.v1 import document_service_pb2 as pb
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

UPLOAD_BYTES_MAX = 256 * 1024 * 1024
# The contract allows 1 MiB; larger pieces gain nothing and hold up what shares the connection.
PIECE_BYTES = 512 * 1024

UploadSource = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send: `open` gives its pieces from the start, again if `repeatable`. `whole` is
    all of a file that is a single piece, and None of a longer one."""

    open: Callable[[], Iterator[bytes]]
    file_name: str
    media_type: str
    repeatable: bool
    whole: bytes | None = None


def prepare(source: UploadSource, *, bounded: bool = True) -> Upload:
    """Raises OSError for no file, and MessageTooLarge where it is `bounded` and known to be over
    256 MiB."""
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        if bounded:
            check_upload_size(len(data))
        whole = data if len(data) <= PIECE_BYTES else None
        return Upload(lambda: _pieces_of(data), "", "", repeatable=True, whole=whole)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        size_bytes = path.stat().st_size
        if bounded:
            check_upload_size(size_bytes)
        media_type = mimetypes.guess_type(path.name)[0] or ""
        whole = _small(path) if size_bytes <= PIECE_BYTES else None
        return Upload(lambda: _pieces_at(path), path.name, media_type, repeatable=True, whole=whole)
    if not hasattr(source, "read"):
        kind = type(source).__name__
        raise refuse("source", f"is of type {kind}; give a path, bytes or a binary file.")
    start = source.tell() if source.seekable() else None

    def reopened() -> Iterator[bytes]:
        if start is not None:
            source.seek(start)
        return _pieces_from(source)

    return Upload(reopened, "", "", repeatable=start is not None)


def check_upload_size(size_bytes: int) -> None:
    """Raises MessageTooLarge over 256 MiB."""
    if size_bytes > UPLOAD_BYTES_MAX:
        raise MessageTooLarge(
            f"The file has {size_bytes} bytes or more; the limit of an upload is "
            f"{UPLOAD_BYTES_MAX} bytes (256 MiB). Split the file.",
            metadata={
                "size_bytes": str(size_bytes),
                "size_bytes_max": str(UPLOAD_BYTES_MAX),
            },
        )


class UploadFeed:
    """The messages of one upload, the last of which says that it is whole. Whatever stops the
    reading is kept in `error`."""

    def __init__(self, header: pb.UploadHeader, upload: Upload) -> None:
        self.error: Exception | None = None
        self._header, self._upload = header, upload

    def __iter__(self) -> Iterator[Message]:
        sent_bytes, digest = 0, hashlib.sha256()
        yield pb.UploadDocumentRequest(header=self._header)
        try:
            for piece in self._upload.open():
                sent_bytes += len(piece)
                check_upload_size(sent_bytes)
                digest.update(piece)
                yield pb.UploadDocumentRequest(data=piece)
            yield pb.UploadDocumentRequest(end=pb.UploadEnd(content_sha256=digest.hexdigest()))
        except Exception as error:
            self.error = error
            raise


class ImportFeed:
    """The messages of one import; the file itself says where it ends. Whatever stops the reading is
    kept in `error`."""

    def __init__(self, header: retrieval.ImportHeader, upload: Upload) -> None:
        self.error: Exception | None = None
        self._header, self._upload = header, upload

    def __iter__(self) -> Iterator[Message]:
        yield retrieval.ImportSnapshotRequest(header=self._header)
        try:
            for piece in self._upload.open():
                yield retrieval.ImportSnapshotRequest(data=piece)
        except Exception as error:
            self.error = error
            raise


def _pieces_of(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]


def _small(path: Path) -> bytes | None:
    """All of a file; None where it is no single piece any more."""
    with path.open("rb") as file:
        data = file.read(PIECE_BYTES + 1)
    return data if len(data) <= PIECE_BYTES else None


def _pieces_at(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from _pieces_from(file)


def _pieces_from(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        if not isinstance(piece, bytes):
            raise refuse("source", "is a text file; open it in binary mode.")
        yield piece
