"""Which document, passage or job somebody means."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from engine.errors import InvalidField

Id: TypeAlias = Annotated[
    str, typer.Argument(help="`papers/ID`, a whole name, or ID with --collection.")
]
Ids: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(help="Each `papers/ID`, a whole name, or ID with --collection."),
]
InCollection: TypeAlias = Annotated[
    str, typer.Option("--collection", "-c", help="Id of the collection, such as `papers`.")
]


def document_name(given: str, collection: str) -> str:
    """`collections/{id}/documents/{id}`. Raises InvalidField where that is not said."""
    parts = given.split("/")
    if len(parts) == 4 and (parts[0], parts[2]) == ("collections", "documents"):
        return given
    if len(parts) == 2 and all(parts):
        collection, given = parts
    if not collection or not given or "/" in given:
        raise InvalidField(
            f"{given!r} names no document: give COLLECTION/ID, or ID with --collection COLLECTION",
            field="id",
            metadata={"id": given},
        )
    return f"collections/{collection}/documents/{given}"


def passage_index(given: str) -> tuple[str, int | None]:
    """A document and, where one is named as in `papers/ID#3`, the number of its passage. Raises
    InvalidField."""
    document, sign, number = given.partition("#")
    if not sign:
        return given, None
    if not number.isdecimal():
        raise InvalidField(
            f"{given!r} names no passage: give ID#NUMBER, such as papers/plan#3",
            field="id",
            metadata={"id": given},
        )
    return document, int(number)


def short_name(name: str) -> str:
    """`{collection}/{id}` of a document's name."""
    _, collection, _, document = name.split("/")
    return f"{collection}/{document}"


def one_of(ids: list[str] | None, every: bool, collection: str) -> None:
    """Raises InvalidField unless documents are named, or all of a collection are meant."""
    if bool(ids) == every or (every and not collection):
        raise InvalidField(
            "name documents, or say --all with --collection, and not both", field="ids"
        )
