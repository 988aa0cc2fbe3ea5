"""What makes a collection mirror a folder: decided from what is there and what is on disk.

A document belongs to the folder if it was ingested from a file of it: its id is the one that the
file's place gets. Whatever is not known to be gone stays: a file that cannot be read, and all that
is below a folder that cannot be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Deed: TypeAlias = Literal["add", "move", "replace", "again", "delete", "keep"]

MANY_MIN = 10
"""Deleting as few as this, or at most `MANY_SHARE` of what is there, is nothing to ask about."""
MANY_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Stored:
    """A document that was ingested from a file."""

    document: str
    sha256: bytes
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do: about the file of `place`, as document `document` where that is there.

    `add` a new file; `move` one that was at `before`, whose document `document` goes once the new
    one is searchable; `replace` a document whose file has changed; ingest one that failed `again`;
    `delete` one whose file is gone; `keep` one that is as it should be.
    """

    deed: Deed
    place: str
    document: str = ""
    before: str = ""


def planned(on_disk: Mapping[str, bytes | None], there: Mapping[str, Stored]) -> list[Action]:
    """The actions, each place once as a file and once as what was before; deletions last.

    `on_disk` has the hash of each file, None where there is, or may be, one that is not to be
    touched; `there` has the documents by the place of their file.
    """
    gone = sorted(place for place in there if place not in on_disk)
    by_content: dict[bytes, list[str]] = {}
    for place in reversed(gone):  # so that the first of several is taken first
        if not there[place].failed:
            by_content.setdefault(there[place].sha256, []).append(place)
    actions, moved = [], set()
    for place in sorted(on_disk):
        sha256, stored = on_disk[place], there.get(place)
        if sha256 is None:
            continue
        if stored is not None:
            actions.append(Action(_deed(stored, sha256), place, stored.document))
        elif left := by_content.get(sha256):
            before = left.pop()
            moved.add(before)
            actions.append(Action("move", place, there[before].document, before))
        else:
            actions.append(Action("add", place))
    actions += [Action("delete", p, there[p].document) for p in gone if p not in moved]
    return actions


def deletes_many(actions: list[Action], there: int) -> bool:
    """Whether so much goes that somebody should look first: `there` documents are there."""
    deletions = sum(action.deed == "delete" for action in actions)
    return deletions > MANY_MIN and deletions > MANY_SHARE * there


def _deed(stored: Stored, sha256: bytes) -> Deed:
    if stored.sha256 != sha256:
        return "replace"
    return "again" if stored.failed else "keep"
