"""`ragmesh ingest DIR --sync`: a collection that mirrors a folder.

A document is the folder's if its URI is that of a file below it and its id the one that this
command gives to that file: what others put into the collection is not touched. A file that moved is
ingested at its new place, which costs no embedding since equal contents share what was made of
them, and its old document goes after that. Deletions come last, and each is looked at once more.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import FailedPrecondition, InvalidField
from services.commands import ingest_sending as sending
from services.commands.ingest_files import (
    Found,
    document_id_of,
    find,
    in_thread,
    is_below,
    is_gone,
    place_from,
    refusal,
    sha256_of,
    shown,
    unreadable,
    uri_of,
)
from services.commands.ingest_plan import Action, Stored, planned
from services.commands.ingestion import Item, Outcome, Told

if TYPE_CHECKING:
    from ragmesh import AsyncClient, IngestJob

PAGE_SIZE = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sync is going to do. `there` documents are there of the folder."""

    root: str
    found: Found
    actions: list[Action]
    there: int
    identity: tuple[int, int] | None
    """Of the folder: another one has another."""

    @property
    def counts(self) -> Counter[str]:
        """Actions by what they do."""
        return Counter(action.deed for action in self.actions)

    @property
    def work(self) -> list[Action]:
        """What is ingested."""
        return [a for a in self.actions if a.deed not in ("keep", "delete")]


async def make_plan(
    client: AsyncClient, collection: str, folder: Path, *, allow_empty: bool
) -> Plan:
    """Look at both sides. A collection that is not there is empty.

    Raises InvalidField where there is no such folder, and FailedPrecondition where it is missing or
    empty although documents came from it, unless that is allowed: it may be a share that is not
    mounted.
    """
    root, found = await in_thread(partial(_looked_at, folder))
    there = await _stored(client, collection, root)
    if found is None and not there:
        raise InvalidField(
            f"{folder} does not exist", field="paths", metadata={"path": str(folder)}
        )
    if there and not (found and found.files) and not allow_empty:
        what = "is not there" if found is None else "holds no file"
        raise FailedPrecondition(
            f"{folder} {what}, but {len(there):,} documents of {collection!r} came from it, and "
            "all of them would be deleted. Is something not mounted? If it is so, --allow-empty",
            metadata={"path": str(folder), "documents": len(there)},
        )
    found = found or Found()
    on_disk = await in_thread(partial(_hashed, found, there))
    return Plan(root, found, planned(on_disk, there), len(there), _identity(root))


class Moved(Told):
    """Hears which of the moved files are searchable at their new places, and passes all on."""

    def __init__(self, told: Told, plan: Plan) -> None:
        super().__init__()
        self.told = told
        self.arrived: set[str] = set()
        moves = (action.place for action in plan.actions if action.deed == "move")
        self._places = {document_id_of(place): place for place in moves}

    def moved(self, item: Item, job: IngestJob) -> None:
        self.told.moved(item, job)

    def ended(self, outcome: Outcome) -> None:
        place = self._places.get(outcome.document.rpartition("/")[2])
        if place is not None and outcome.result == "ingested":
            self.arrived.add(place)
        self.told.ended(outcome)


def items_of(collection: str, plan: Plan) -> Iterator[Item]:
    """What is to be ingested."""
    make = {
        "add": sending.new_item,
        "move": sending.new_item,
        "replace": sending.replaced_item,
        "again": sending.again_item,
    }
    for action in plan.work:
        yield make[action.deed](collection, plan.found.files[action.place])


async def clear_away(client: AsyncClient, collection: str, plan: Plan, moved: Moved) -> int:
    """Delete what is gone from the folder, once the rest is done; how many documents were deleted.

    Nothing is, if another folder is there by now, or none.
    """
    deleted = 0
    for action in plan.actions:
        if _identity(plan.root) != plan.identity:
            break
        if action.deed == "delete":
            deleted += await _deleted(client, collection, action, action.place, moved)
        elif action.deed == "move" and action.place in moved.arrived:
            deleted += await _deleted(client, collection, action, action.before, moved)
    return deleted


def _looked_at(folder: Path, stopped: Callable[[], bool]) -> tuple[str, Found | None]:
    """The folder's place, and what is below it; None where it is no folder."""
    return os.path.realpath(folder), find([folder], stopped) if folder.is_dir() else None


async def _stored(client: AsyncClient, collection: str, root: str) -> dict[str, Stored]:
    """The folder's documents by the places of their files."""
    from ragmesh import CollectionNotFound

    there: dict[str, Stored] = {}
    try:
        await client.get_collection(collection)
    except CollectionNotFound:
        return there
    prefix = uri_of(root).rstrip("/") + "/"
    async for document in client.list_documents(collection, page_size=PAGE_SIZE):
        if not document.source_uri.startswith(prefix):
            continue
        place, document_id = place_from(document.source_uri), document.name.rpartition("/")[2]
        if place is None or not is_below(place, root) or document_id_of(place) != document_id:
            continue
        sha256 = bytes.fromhex(document.content_sha256)
        there[place] = Stored(document_id, sha256, document.state == "failed")
    return there


def _hashed(
    found: Found, there: Mapping[str, Stored], stopped: Callable[[], bool]
) -> dict[str, bytes | None]:
    """The hash of each file that is to be ingested, None for what stays as it is: files that are
    left out, which `found` gets to know, and places where something is, or may be."""
    on_disk: dict[str, bytes | None] = {}
    for place, file in found.files.items():
        if stopped():
            break
        on_disk[place] = None
        refused = refusal(file)
        if refused is None:
            try:
                on_disk[place] = sha256_of(file.path)
            except OSError as error:
                refused = unreadable(file.path, error)
        if refused is not None:
            found.left_out.append(refused)
    for place in there:
        if place not in on_disk and not is_gone(place):
            on_disk[place] = None
    return on_disk


async def _deleted(
    client: AsyncClient, collection: str, action: Action, before: str, told: Told
) -> bool:
    """Delete the document of a file that is gone, unless it has come back."""
    import ragmesh

    if not await asyncio.to_thread(is_gone, before):
        return False
    try:
        await client.delete_document(action.document, collection=collection)
    except ragmesh.DocumentNotFound:
        return False
    except ragmesh.RagmeshError as error:
        told.ended(
            Outcome(shown(before), "failed", action.document, 0, error.reason, error.message)
        )
        return False
    return True


def _identity(root: str) -> tuple[int, int] | None:
    try:
        status = os.stat(root)
    except OSError:
        return None
    return status.st_dev, status.st_ino
