"""XML of any vocabulary: the text of elements, a paragraph for each that holds text itself.

No entity is resolved, no DTD is loaded and nothing is fetched. A file that declares entities is
refused: there is no telling what a reader would see.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from engine.documents.clean import clean
from engine.documents.encoding import decode
from engine.documents.formats import XML, Hints
from engine.documents.formats.container import local_name, xml_tree
from engine.documents.parsed import Draft, Parsed, assemble
from engine.errors import DocumentUnreadable

_DECLARATION = re.compile(r"\A\s*<\?xml[^>]{0,300}\?>")
_ENTITY = re.compile(r"<!ENTITY", re.IGNORECASE)
_PROLOG_CHARS = 100_000
_TITLES = frozenset(("title", "head", "heading"))
_SKIPPED = frozenset(("script", "style"))


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read an XML file. Raises DocumentUnreadable if it declares entities or cannot be opened."""
    source = _DECLARATION.sub("", decode(data)).replace("\x00", "")
    if _ENTITY.search(source[:_PROLOG_CHARS]):
        raise DocumentUnreadable(
            "the XML declares entities, which may read other files or grow without bound; "
            "send it with their text in place",
            metadata={"reason": "entities"},
        )
    root = xml_tree(source.encode("utf-8", errors="replace"), "XML file")
    drafts = list(_drafts(root))
    title = next((d.text for d in drafts if d.kind == "heading"), "")
    return assemble(title, XML, drafts)


def _drafts(root: Any) -> Iterator[Draft]:
    """Elements with text of their own and children are read whole, as a paragraph with marks."""
    stack: list[tuple[Any, int]] = [(root, 0)]
    while stack:
        node, depth = stack.pop()
        name = local_name(node)
        if not name or name in _SKIPPED:
            continue
        elements = [child for child in node if local_name(child)]
        mixed = any((child.tail or "").strip() for child in node) or (node.text or "").strip()
        if elements and not mixed:
            stack.extend((child, depth + 1) for child in reversed(elements))
            continue
        text = clean(re.sub(r"\s+", " ", "".join(node.itertext())))
        if name.lower() in _TITLES:
            yield Draft("heading", text, level=min(max(depth, 1), 6))
        else:
            yield Draft("paragraph", text)
