"""`ragmesh sessions`: conversations are listed, shown branch by branch, and deleted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ragmesh import Client, NewMessage

from tests.services.commands.command_line import Up, failure, result, run


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A mesh with the session `trip`, in which the second question was asked once more."""
    up = Up(tmp_path_factory.mktemp("home"))
    try:
        with Client(up.ready["grpc"]) as client:
            client.create_session(session_id="trip", display_name="A trip", subject="ann")
            said = [("user", "Where to?"), ("assistant", "To [bold]Rome."), ("user", "When?")]
            client.append_messages("trip", [NewMessage(role, text) for role, text in said])  # type: ignore[arg-type]
            again = [NewMessage("user", "When in May?"), NewMessage("assistant", "On the 3rd.")]
            client.append_messages("trip", again, parent_index=2)
            client.create_session(session_id="empty", ttl_s=3600)
        yield up
    finally:
        up.close()


def test_sessions_are_listed_by_subject_and_page(mesh: Up) -> None:
    first = result(run(mesh.home, "sessions", "list", "-n", "1", "--json"))
    second = run(mesh.home, "sessions", "list", "-n", "1", "--page", first["next_page"], "--json")
    listed = [*first["sessions"], *result(second)["sessions"]]
    assert [one["name"] for one in listed] == ["sessions/empty", "sessions/trip"]
    assert (listed[1]["display_name"], listed[1]["messages"]) == ("A trip", 5)
    hers = run(mesh.home, "sessions", "list", "--subject", "ann").stdout
    assert "A trip" in hers and "empty" not in hers


def test_a_branch_is_shown_and_all_of_them(mesh: Up) -> None:
    def texts(*flags: str) -> list[str]:
        shown = result(run(mesh.home, "sessions", "show", "trip", *flags, "--json"))
        return [one["text"] for one in shown["said"]]

    assert texts() == ["Where to?", "To [bold]Rome.", "When in May?", "On the 3rd."]
    assert texts("--leaf", "3", "-n", "2") == ["To [bold]Rome.", "When?"]
    plain = run(mesh.home, "sessions", "show", "sessions/trip", "--all").stdout
    assert "To [bold]Rome." in plain and "4 after 2 user" in plain
    error = failure(run(mesh.home, "sessions", "show", "trip", "--leaf", "9", "--json"))
    assert error["reason"] == "MESSAGE_NOT_FOUND"


def test_sessions_are_deleted_by_those_who_say_yes(mesh: Up) -> None:
    asked = run(mesh.home, "sessions", "delete", "trip")
    assert asked.returncode == 1 and "5 messages" in asked.stderr, "nobody said yes"
    gone = result(run(mesh.home, "sessions", "delete", "trip", "--yes", "--json"))
    assert gone["deleted"] == [{"session": "trip", "messages": 5}]
    assert "no session of ann" in run(mesh.home, "sessions", "list", "--subject", "ann").stdout
