"""Archives (ZIP, tar, gzip): each file in them is a section of one document, under its name.

Nothing is written anywhere, and names are only shown. What cannot be read is named with the reason:
encrypted, damaged, a link, of a kind that no parser reads. Bounds hold for the archive and all
archives in it together (`Allowance`), and a file that meets one is refused whole: it is a bomb, or
a share that should be sent file by file.
"""

from __future__ import annotations

import io
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from engine.documents.clean import clean
from engine.documents.detect import detect
from engine.documents.encoding import decode
from engine.documents.formats import DOCX, GZIP, PPTX, TAR, XLSX, ZIP, Hints, format_of
from engine.documents.formats.container import broken, check_ratio
from engine.documents.formats.nested import drafts_within, unread
from engine.documents.parsed import Draft, Parsed, assemble, one_line
from engine.errors import DocumentUnreadable, ParserLimitExceeded

ENTRY_BYTES_MAX = 64 << 20
"""Of one file: a few of them, one in the other, are held in memory beside their text."""

NAME_CHARS_MAX = 180
_OFFICE = {"word/": DOCX, "xl/": XLSX, "ppt/": PPTX}
_UTF8_NAMES = 0x800  # of the flags of an entry (APPNOTE 4.4.4)
_ENCRYPTED = 0x1
_HELPERS = ("__MACOSX/",)
"""What an archiver adds for itself, a file for each real one."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file in an archive: `reason` says why it is not read, else `read` gives its bytes."""

    name: str
    size_bytes: int
    read: Callable[[], bytes]
    reason: str = ""


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read all files in an archive, or the office document that it is inside.

    Raises DocumentUnreadable if it is broken, empty, or nothing in it can be read, and
    ParserLimitExceeded over the bounds.
    """
    kind = detect(data[:600], "")
    if kind == ZIP and (office := _office_parsed(data, hints)):
        return office
    entries = {ZIP: _zipped, TAR: _tarred, GZIP: _gzipped}[kind](data, hints)
    drafts: list[Draft] = []
    count, said = 0, False
    for entry in entries:
        name = safe_name(entry.name) or f"file {count + 1}"
        count += 1
        some = list(_drafts(entry, name, hints))
        said = said or any(draft.role == "body" for draft in some)
        drafts += [Draft("heading", name, level=1), *some]
    if not said:
        raise _nothing(count, drafts)
    return assemble(hints.name or drafts[0].text, kind, drafts)


def safe_name(name: str) -> str:
    """A path as it can be shown: relative, without steps upwards, drives, and characters that are
    not seen; the end of a long one. Empty if nothing is left of it."""
    steps = re.split(r"[/\\\\]+", one_line(clean(name), 4 * NAME_CHARS_MAX))
    kept = [step for step in steps if step not in ("", ".", "..") and not step.endswith(":")]
    return "/".join(kept)[-NAME_CHARS_MAX:]


def _drafts(entry: _Entry, name: str, hints: Hints) -> Iterator[Draft]:
    if entry.reason:
        yield unread(entry.reason)
        return
    if entry.size_bytes > ENTRY_BYTES_MAX:
        yield unread(f"it has {entry.size_bytes:,} bytes, more than {ENTRY_BYTES_MAX:,}")
        return
    hints.allowance.take(entry.size_bytes)
    try:
        data = entry.read()
    except Exception:  # zlib, CRC, lzma, struct: all of them say the same
        yield unread("it is damaged")
        return
    yield from drafts_within(data, hints.within(name))


def _nothing(count: int, drafts: list[Draft]) -> DocumentUnreadable:
    if not count:
        return DocumentUnreadable("the archive is empty; send one with files in it")
    return DocumentUnreadable(
        f"none of the archive's {count} files can be read; of {drafts[0].text!r} it says: "
        f"{drafts[1].text if len(drafts) > 1 else 'it holds no text'}",
        metadata={"files": count, "reason": "nothing_readable"},
    )


def _office_parsed(data: bytes, hints: Hints) -> Parsed | None:
    """An office file whose parts come late."""
    names = _opened_zip(data).namelist()
    if "[Content_Types].xml" in names:
        for folder, media_type in _OFFICE.items():
            reader = format_of(media_type)
            if reader is not None and any(name.startswith(folder) for name in names):
                return reader.parse(data, hints)
    return None


def _opened_zip(data: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except Exception as error:  # the directory may be damaged in any way
        raise broken("archive", len(data)) from error


def _zipped(data: bytes, hints: Hints) -> Iterator[_Entry]:
    archive = _opened_zip(data)
    for info in archive.infolist():
        if info.is_dir() or info.filename.startswith(_HELPERS):
            continue
        check_ratio(info.file_size, info.compress_size, "archive")
        reason = ""
        if info.flag_bits & _ENCRYPTED:
            reason = "it is encrypted, and opens only with a password"
        elif stat.S_ISLNK(info.external_attr >> 16):
            reason = "it is a link to another file"
        yield _Entry(_zip_name(info), info.file_size, partial(archive.read, info), reason)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Old archivers write names in an encoding of their own and say nothing."""
    if info.flag_bits & _UTF8_NAMES or info.filename.isascii():
        return info.filename
    try:
        return decode(info.orig_filename.encode("cp437"))
    except UnicodeError:
        return info.filename


def _tarred(data: bytes, hints: Hints) -> Iterator[_Entry]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                check_ratio(member.size, len(data), "archive")  # a sparse file holds less
                reason = "" if member.isfile() else "it is a link or a device"
                yield _Entry(member.name, member.size, partial(_member, archive, member), reason)
    except (tarfile.TarError, ValueError, OSError, EOFError) as error:
        raise broken("archive", len(data)) from error


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    data = file.read() if file is not None else b""
    if len(data) != member.size:
        raise EOFError("cut off")
    return data


def _gzipped(data: bytes, hints: Hints) -> Iterator[_Entry]:
    """One file, which may be a tar: then its files, without a section of its own."""
    unpacked = _gunzipped(data)
    name = hints.name.removesuffix(".gz").removesuffix(".tgz")
    if unpacked[257:262] == b"ustar":
        hints.allowance.take(len(unpacked))
        yield from _tarred(unpacked, hints)
    else:
        yield _Entry(name, len(unpacked), lambda: unpacked)


def _gunzipped(data: bytes) -> bytes:
    """All members, one after the other, as gzip does."""
    out, rest = b"", data
    while rest.startswith(b"\x1f\x8b"):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            out += unpacker.decompress(rest, ENTRY_BYTES_MAX + 1 - len(out))
        except zlib.error as error:
            raise broken("archive", len(data)) from error
        if len(out) > ENTRY_BYTES_MAX:
            raise ParserLimitExceeded(
                f"the file unpacks to more than {ENTRY_BYTES_MAX:,} bytes; send it unpacked",
                metadata={"bound": ENTRY_BYTES_MAX},
            )
        if not unpacker.eof:
            raise broken("archive", len(data))
        rest = unpacker.unused_data
    check_ratio(len(out), len(data), "archive")
    return out
