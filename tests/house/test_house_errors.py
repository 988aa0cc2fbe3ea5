"""One table of errors, and the tree, the contract and the documents that agree with it."""

from __future__ import annotations

import inspect
import re
from typing import Final

import pytest
from google.rpc import status_pb2
from ragmesh.api.errors.v1 import reason_pb2

from engine import errors
from services.errors import DOMAIN, INTERNAL, TABLE, from_status, row_of, to_status
from tests.house.check import ROOT

TREE: Final = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.RagmeshError)
]
LEAVES: Final = [cls for cls in TREE if not cls.__subclasses__() or cls in TABLE]

TRANSPORT_ONLY: Final = {
    "INTERNAL": "stands for every exception outside the tree",
}
"""Reasons of the contract that no class of the tree has, each with why."""

PROTO: Final = (ROOT / "protos/ragmesh/api/errors/v1/reason.proto").read_text(encoding="utf-8")


def reasons() -> set[str]:
    """The reasons of the contract, without the prefix."""
    names = {name.removeprefix("REASON_") for name in reason_pb2.Reason.keys()}  # noqa: SIM118
    return names - {"UNSPECIFIED"}


@pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)
def test_every_error_has_a_row_or_only_groups_others(cls: type[errors.RagmeshError]) -> None:
    assert cls in TABLE or cls.__subclasses__(), f"add a row for {cls.__name__} to TABLE"


def test_the_table_and_the_contract_have_the_same_reasons() -> None:
    rows = [row.reason for row in TABLE.values()]
    assert len(rows) == len(set(rows)), "a reason stands for one class"
    assert not {row for row in rows if row not in reasons()}, "add it to reason.proto"
    assert reasons() - set(rows) == TRANSPORT_ONLY.keys()


def test_each_reason_is_sent_with_the_code_that_the_contract_says() -> None:
    said = {
        name: set(re.findall(r"\b([A-Z_]{6,})\b", comment))
        for comment, name in re.findall(r"((?:  //.*\n)+)  REASON_(\w+) =", PROTO)
    }
    for row in (*TABLE.values(), INTERNAL):
        assert row.code.name in said[row.reason], f"{row.reason}: {said[row.reason]}"


def test_the_tree_in_the_docstring_has_every_class() -> None:
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+\b", (errors.__doc__ or "").split("Codes,")[0]))
    assert not {cls.__name__ for cls in TREE} - drawn


@pytest.mark.parametrize("cls", LEAVES, ids=lambda cls: cls.__name__)
def test_an_error_crosses_the_wire_as_the_same_error(cls: type[errors.RagmeshError]) -> None:
    sent = cls("7 of 9", field="f", metadata={"value": 7}, retry_after_s=1.5)
    status = status_pb2.Status.FromString(to_status(sent, "r1").SerializeToString())
    came = from_status(status)
    assert type(came) is cls
    assert (came.message, came.field, came.metadata) == ("7 of 9", "f", {"value": "7"})
    assert came.retry_after_s == 1.5


def test_what_is_not_in_the_tree_is_not_explained() -> None:
    status = to_status(ValueError("password=hunter2"), "r1")
    assert row_of(ValueError()) is INTERNAL
    assert "hunter2" not in str(status)
    assert "r1" in status.message


def test_the_sdk_knows_the_domain() -> None:
    assert DOMAIN == "ragmesh"
    assert "`ragmesh`" in PROTO
