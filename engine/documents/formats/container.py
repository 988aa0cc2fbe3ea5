"""Files that are ZIP archives inside (office documents, books): opened with bounds.

Bounds are taken from the directory of the archive before anything is unpacked. It cannot lie to
any effect: `zipfile` gives no more bytes of an entry than the directory says.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

from lxml import etree

from engine.errors import DocumentUnreadable, ParserLimitExceeded

ENTRIES_MAX = 20_000
TOTAL_BYTES_MAX = 400 << 20
"""Unpacked, pictures included: no more than the memory of a parser can hold beside the text."""

XML_BYTES_MAX = 48 << 20
"""Of one part of XML: a tree takes about ten times the bytes."""

RATIO_MAX = 150
"""Unpacked to packed. XML of real documents comes to 5 to 60."""
RATIO_FROM_BYTES = 4 << 20
"""Smaller entries may be as regular as they like: they are no bombs."""

_MARKUP = (".xml", ".rels", ".xhtml", ".html", ".htm", ".opf", ".ncx")
_DECLARATIONS_WITHIN_BYTES = 4_096


def open_zip(data: bytes, what: str) -> zipfile.ZipFile:
    """The archive that `data`, a `what` in messages, is inside, if it is within all bounds.

    Raises DocumentUnreadable if it is broken, encrypted or declares entities, and
    ParserLimitExceeded if it would unpack to too much.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError) as error:
        raise broken(what, len(data)) from error
    check_entries(archive.infolist(), what)
    for entry in archive.infolist():
        if entry.filename.lower().endswith(_MARKUP):
            _check_declarations(archive, entry, what)
    return archive


def check_entries(entries: list[zipfile.ZipInfo], what: str) -> None:
    """Raise as `open_zip` does for what the directory of an archive says. Pure."""
    if len(entries) > ENTRIES_MAX:
        raise _over(what, "entries", len(entries), ENTRIES_MAX)
    total = sum(entry.file_size for entry in entries)
    if total > TOTAL_BYTES_MAX:
        raise _over(what, "bytes unpacked", total, TOTAL_BYTES_MAX)
    for entry in entries:
        if entry.flag_bits & 1:
            raise DocumentUnreadable(
                f"the {what} is encrypted and opens only with a password; send it decrypted",
                metadata={"reason": "encrypted"},
            )
        size = entry.file_size
        if size > XML_BYTES_MAX and entry.filename.lower().endswith(_MARKUP):
            raise _over(what, "bytes of XML in one part", size, XML_BYTES_MAX)
        check_ratio(size, entry.compress_size, what)


def check_ratio(size_bytes: int, packed_bytes: int, what: str) -> None:
    """Raise ParserLimitExceeded for what unpacks to more than a document does. Pure."""
    if size_bytes > RATIO_FROM_BYTES and size_bytes > RATIO_MAX * max(packed_bytes, 1):
        ratio = size_bytes // max(packed_bytes, 1)
        raise _over(what, "times its packed size", ratio, RATIO_MAX)


def read_entry(archive: zipfile.ZipFile, name: str, what: str) -> bytes | None:
    """The bytes of an entry, None if there is none of this name. No path of the file system is
    touched, so the name may be any. Raises DocumentUnreadable if it cannot be unpacked."""
    try:
        return archive.read(name)
    except KeyError:
        return None
    except Exception as error:  # zlib, CRC, lzma, struct: all of them say the same
        raise broken(what, 0) from error


def read_xml(archive: zipfile.ZipFile, name: str, what: str) -> etree._Element | None:
    """The tree of an entry of XML, None if there is no such entry."""
    data = read_entry(archive, name, what)
    return None if data is None else xml_tree(data, what)


def xml_tree(data: bytes, what: str) -> etree._Element:
    """The tree of `data`: no entity is resolved, no DTD loaded, nothing fetched. What is not well
    formed is mended as far as it goes."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=False, load_dtd=False, recover=True
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise broken(what, len(data)) from error
    if root is None:
        raise broken(what, len(data))
    return root


def local_name(node: etree._Element) -> str:
    """The name of an element without its namespace; empty for comments and the like."""
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""


def children(node: etree._Element, *names: str) -> Iterator[etree._Element]:
    """The children of these local names; all elements without names."""
    for child in node:
        name = local_name(child)
        if name and (not names or name in names):
            yield child


def attribute(node: etree._Element, name: str) -> str:
    """The attribute of this local name, whatever its namespace; empty where there is none."""
    for key, value in node.attrib.items():
        if str(key).rpartition("}")[2] == name:
            return str(value)
    return ""


def broken(what: str, size_bytes: int) -> DocumentUnreadable:
    """The refusal of a file that cannot be opened as what it begins as."""
    return DocumentUnreadable(
        f"the {what} is broken: it cannot be opened; save it again in the program that made it",
        metadata={"size_bytes": size_bytes, "reason": "broken"},
    )


def _check_declarations(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, what: str) -> None:
    try:
        with archive.open(entry) as file:
            head = file.read(_DECLARATIONS_WITHIN_BYTES)
    except Exception as error:  # as in read_entry
        raise broken(what, 0) from error
    if b"<!ENTITY" in head.replace(b"\0", b""):
        raise DocumentUnreadable(
            f"the {what} declares XML entities in {entry.filename[:200]!r}, which no such file "
            "needs and which may read other files; save it again without them",
            metadata={"reason": "entities", "part": entry.filename[:200]},
        )


def _over(what: str, unit: str, value: int, bound: int) -> ParserLimitExceeded:
    return ParserLimitExceeded(
        f"the {what} holds {value:,} {unit}; at most {bound:,} are unpacked. Split it, or send "
        "its parts",
        metadata={"unit": unit, "value": value, "bound": bound},
    )
