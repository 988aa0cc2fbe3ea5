"""`ragmesh memory`: what is remembered is added, seen, searched, edited, forgotten and erased."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.services.commands.command_line import Up, failure, result, run


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("home"))
    try:
        yield up
    finally:
        up.close()


def memory(mesh: Up, *arguments: str) -> Any:
    return result(run(mesh.home, "memory", *arguments, "--json"))


def test_a_memory_from_its_beginning_to_its_end(mesh: Up) -> None:
    made = memory(mesh, "add", "ada", "Ada lives in Berlin.", "--slot", "home")["memory"]
    name = made["name"].rpartition("/")[2]
    assert (made["kind"], made["version"]) == ("fact", 1)
    moved = memory(mesh, "add", "ada", "Ada lives in Paris.", "--slot", "home")
    assert moved["closed"] == [made["name"]]
    assert {one["name"] for one in memory(mesh, "list", "ada")["memories"]} == {
        made["name"],
        moved["memory"]["name"],
    }
    found = memory(mesh, "search", "ada", "Where does Ada live?")["memories"]
    assert [one["memory"]["text"] for one in found] == ["Ada lives in Paris."]
    assert {"meaning", "words", "recent"} <= set(found[0]["reasons"])
    edited = memory(mesh, "edit", name, "Ada lived in Berlin.")
    assert (edited["text"], edited["version"]) == ("Ada lived in Berlin.", 3)
    memory(mesh, "forget", name)
    assert memory(mesh, "undo", name)["text"] == "Ada lived in Berlin."
    actions = [event["action"] for event in memory(mesh, "history", name)["events"]]
    assert actions == ["undone", "deleted", "updated", "closed", "created"]
    receipt = memory(mesh, "erase", "ada", "--yes")
    assert receipt["complete"] and receipt["memories"] == 2
    assert memory(mesh, "list", "ada")["memories"] == []
    shown = failure(run(mesh.home, "memory", "history", name, "--json"))
    assert shown["reason"] == "MEMORY_NOT_FOUND"


def test_people_read_lines(mesh: Up) -> None:
    added = run(mesh.home, "memory", "add", "grace", "Grace [likes] ships.", "--kind", "preference")
    assert added.returncode == 0, added.stderr
    listed = run(mesh.home, "memory", "list", "grace")
    assert "Grace [likes] ships." in listed.stdout and "preference" in listed.stdout
    found = run(mesh.home, "memory", "search", "grace", "ships")
    assert "Grace [likes] ships." in found.stdout and "words" in found.stdout
    nothing = run(mesh.home, "memory", "search", "grace", "ships", "--as-of", "1999-12-31")
    assert "Nothing is remembered about that." in nothing.stdout
    asked = run(mesh.home, "memory", "erase", "grace")
    assert asked.returncode != 0  # nobody is there to say yes
    assert "Grace" in run(mesh.home, "memory", "list", "grace").stdout
    wrong = failure(
        run(mesh.home, "memory", "search", "grace", "ships", "--as-of", "soon", "--json")
    )
    assert "soon" in wrong["message"]
