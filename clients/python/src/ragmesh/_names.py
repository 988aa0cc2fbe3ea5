"""Resource names: `collections/papers` and plain `papers` mean the same."""

from __future__ import annotations

from ragmesh._errors import FieldViolation, InvalidField


def refuse(field: str, description: str) -> InvalidField:
    """The error for an argument that is refused before anything is sent."""
    return InvalidField(
        f"`{field}` {description}",
        metadata={"field": field},
        field_violations=[FieldViolation(field, description)],
    )


def unholdable(error: ValueError) -> bool:
    """Whether Protobuf refused a value: a number beyond its field, or text that is no UTF-8.

    Protobuf has no class of its own for these; other ValueErrors are a caller's, and pass.
    """
    return isinstance(error, UnicodeEncodeError) or "out of range" in str(error)


def refused(error: ValueError) -> InvalidField:
    """The error for a value that no message can hold."""
    return InvalidField(
        f"An argument cannot be sent ({error}): give a smaller number, or valid text."
    )


def resource(kind: str, name: str, field: str) -> str:
    """`{kind}/{id}` from itself or from the id; raises InvalidField for any other form."""
    prefix, _, tail = name.rpartition("/")
    if not isinstance(name, str) or not tail or prefix not in ("", kind):
        raise refuse(field, f"is {name!r}; give an id or `{kind}/{{id}}`.")
    return f"{kind}/{tail}"


def collection(name: str, field: str = "collection") -> str:
    """`collections/{id}`."""
    return resource("collections", name, field)


def optional(kind: str, name: str, field: str) -> str:
    """As `resource`, but empty stays empty."""
    return resource(kind, name, field) if name else ""


def plain_id(kind: str, name: str, field: str) -> str:
    """The id alone, for resources that are about to be made; empty stays empty."""
    return optional(kind, name, field).removeprefix(f"{kind}/")


def document(name: str, collection_name: str | None, field: str = "name") -> str:
    """`collections/{id}/documents/{id}`, given whole, or an id with its collection."""
    return _child("documents", name, collection_name, field)


def snapshot(name: str, collection_name: str | None, field: str = "name") -> str:
    """`collections/{id}/snapshots/{id}`, given whole, or an id with its collection."""
    return _child("snapshots", name, collection_name, field)


def _child(kind: str, name: str, collection_name: str | None, field: str) -> str:
    parts = name.split("/")
    if len(parts) == 4 and parts[0] == "collections" and parts[2] == kind and all(parts):
        if collection_name is not None and collection(collection_name) != "/".join(parts[:2]):
            raise refuse("collection", f"is {collection_name!r}, but `{field}` is {name!r}.")
        return name
    if collection_name is None:
        form = f"`collections/{{id}}/{kind}/{{id}}`"
        raise refuse(field, f"is {name!r}; give {form}, or an id together with `collection`.")
    return f"{collection(collection_name)}/{resource(kind, name, field)}"


def collection_of(name: str) -> str:
    """The collection of a document's name."""
    return "/".join(name.split("/")[:2])
