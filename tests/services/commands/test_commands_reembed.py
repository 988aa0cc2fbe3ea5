"""`ragmesh collections reembed` builds a second index, exchanges it, and takes it back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.services.commands.command_line import Up, failure, lines, result, run


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A mesh of one node, with one file in the collection `notes`."""
    up = Up(tmp_path_factory.mktemp("home"))
    note = up.home / "note.md"
    note.write_text("# Notes\n\nThe lighthouse is 41 meters tall.\n")
    lines(run(up.home, "ingest", str(note), "-c", "notes", "--json"))
    yield up
    up.close()


def reembed(mesh: Up, *words: str) -> dict[str, Any]:
    return result(run(mesh.home, "collections", "reembed", "notes", *words, "--json"))


def test_the_graph_is_changed_and_changed_back(mesh: Up) -> None:
    flipped = reembed(mesh, "--m", "8", "--flip", "--overlap-min", "0.9")
    assert (flipped["state"], flipped["points_left"], flipped["overlap"]) == ("flipped", 0, 1.0)
    found = result(run(mesh.home, "search", "how tall is it", "-c", "notes", "--json"))
    assert "41 meters" in str(found)
    back = reembed(mesh, "--roll-back", "--end")
    assert (back["state"], back["ended"]) == ("ready", True)


def test_what_was_begun_is_gone_on_with(mesh: Up) -> None:
    begun = reembed(mesh, "--m", "9")
    again = reembed(mesh, "--m", "9", "--wait")
    assert (again["state"], again["create_time"]) == ("ready", begun["create_time"])
    error = failure(run(mesh.home, "collections", "reembed", "notes", "--m", "10", "--json"))
    assert error["reason"] == "MIGRATION_EXISTS"
    assert reembed(mesh, "--end")["ended"]


def test_people_are_told_how_far_it_is_and_what_comes_next(mesh: Up) -> None:
    said = run(mesh.home, "collections", "reembed", "notes", "--ef-construction", "50", "--wait")
    assert said.returncode == 0, said.stderr
    assert "overlap@10" in said.stdout and "1 of 1" in said.stdout
    assert "--flip" in said.stdout
    ended = run(mesh.home, "collections", "reembed", "notes", "--end")
    assert "ended" in ended.stdout
    error = failure(run(mesh.home, "collections", "reembed", "notes", "--json"))
    assert error["reason"] == "MIGRATION_NOT_FOUND" and "--model" in error["message"]
