"""Books (.epub): the chapters of the spine in their order, each read as the page it is."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from engine.documents.clean import clean
from engine.documents.encoding import decode
from engine.documents.formats import EPUB, Hints
from engine.documents.formats.container import (
    attribute,
    broken,
    local_name,
    open_zip,
    read_entry,
    read_xml,
)
from engine.documents.formats.dates import iso
from engine.documents.formats.html import drafts_of
from engine.documents.parsed import Draft, Parsed, assemble
from engine.errors import DocumentUnreadable

_WHAT = "book"
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read an .epub. The table of contents is left out: its headings stand in the chapters."""
    with open_zip(data, _WHAT) as archive:
        if "META-INF/encryption.xml" in archive.namelist():
            _check_protection(archive)
        container = read_xml(archive, "META-INF/container.xml", _WHAT)
        roots = [] if container is None else [n for n in container.iter() if _is(n, "rootfile")]
        place = attribute(roots[0], "full-path") if roots else ""
        package = read_xml(archive, place, _WHAT) if place else None
        if package is None:
            raise broken(_WHAT, len(data))
        about = _about(package)
        drafts = list(_chapters(archive, package, posixpath.dirname(place)))
    return assemble(
        clean(about.get("title", "")),
        EPUB,
        drafts,
        author=clean(about.get("creator", "")),
        created=iso(about.get("date", "")),
        modified=iso(about.get("dcterms:modified", "")),
        language=about.get("language", ""),
    )


def _is(node: Any, name: str) -> bool:
    return local_name(node) == name


def _check_protection(archive: zipfile.ZipFile) -> None:
    """Fonts are often obfuscated, which matters to nobody here; chapters that are not readable
    are."""
    said = read_entry(archive, "META-INF/encryption.xml", _WHAT) or b""
    if b".xhtml" in said or b".html" in said:
        raise DocumentUnreadable(
            "the book is protected against copying (DRM); send one without protection",
            metadata={"reason": "encrypted"},
        )


def _about(package: Any) -> dict[str, str]:
    about: dict[str, str] = {}
    for node in package.iter():
        name = local_name(node)
        if name == "meta":
            about.setdefault(attribute(node, "property"), (node.text or "").strip())
        elif name in ("title", "creator", "date", "language"):
            about.setdefault(name, (node.text or "").strip())
    return about


def _chapters(archive: zipfile.ZipFile, package: Any, folder: str) -> Iterator[Draft]:
    items = {attribute(node, "id"): node for node in package.iter() if _is(node, "item")}
    for reference in (node for node in package.iter() if _is(node, "itemref")):
        item = items.get(attribute(reference, "idref"))
        if item is None or attribute(item, "media-type") not in _PAGES:
            continue
        if "nav" in attribute(item, "properties").split():
            continue
        # Names of entries, not of files: a path that leaves the folder finds no entry.
        name = posixpath.normpath(posixpath.join(folder, unquote(attribute(item, "href"))))
        page = read_entry(archive, name, _WHAT)
        if page is not None:
            yield from drafts_of(decode(page))
