"""Talking to collections from the command line, and looking at what an answer was made from."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.services.commands.command_line import (
    RAGMESH,
    WAIT_S,
    Up,
    environment,
    failure,
    lines,
    result,
    run,
)

FACT = "The lighthouse of Westerhever was finished in 1907 and is 41 meters tall."
QUESTION = "How tall is the lighthouse of Westerhever?"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A mesh with a collection `facts`."""
    home = tmp_path_factory.mktemp("home")
    up = Up(home)
    folder = home / "facts"
    folder.mkdir()
    (folder / "lighthouse.md").write_text(f"# Lighthouses\n\n{FACT} Sheep graze around it.\n")
    lines(run(home, "ingest", str(folder), "-c", "facts", "--json"))
    yield up
    up.close()


def talk(mesh: Up, text: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """What is said to `ragmesh chat`, a line each, and what it says."""
    return subprocess.run(
        [*RAGMESH, "chat", "-c", "facts", *flags],
        env=environment(mesh.home),
        input=text,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def test_a_talk_streams_answers_with_footnotes(mesh: Up) -> None:
    done = talk(
        mesh, f"/why\n{QUESTION}\n\n/sources\n/why\n/undo\n/undo\n/help\n/sing\n/quit\nnever\n"
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert f"{FACT} [1]" in said
    assert "[1] lighthouse" in said
    assert "confidence" in said
    assert "search collections/facts" in said
    assert "generate by generationModels/extractive" in said
    assert "/sources" in said
    assert done.stderr.count("Nothing was answered yet.") == 2
    assert "The last question is forgotten." in done.stderr
    assert "/sing is not known" in done.stderr


def test_a_talk_goes_on_after_a_question_that_fails(mesh: Up) -> None:
    done = talk(mesh, f"{'x' * 10_001}\n{QUESTION}\n", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr)["error"]["reason"] == "INVALID_FIELD"
    answer = json.loads(done.stdout)
    assert FACT in answer["answer"]
    assert answer["name"].startswith("answers/")


def test_a_receipt_says_what_an_answer_was_made_from_and_a_replay_what_changed(mesh: Up) -> None:
    answer = json.loads(talk(mesh, f"{QUESTION}\n", "--json").stdout)
    name = answer["name"].partition("/")[2]
    shown = result(run(mesh.home, "receipt", name, "--json"))
    assert shown["question"] == QUESTION
    receipt = shown["receipt"]
    assert receipt["collections"] == ["collections/facts"]
    assert receipt["passages"][0]["collection"] == "collections/facts"
    assert {model["role"] for model in receipt["models"]} == {"search", "generate"}
    same = result(run(mesh.home, "replay", name, "--json"))
    assert same["differences"] == []
    assert same["before"] != same["after"]


def test_an_answer_that_is_not_there_is_said(mesh: Up) -> None:
    error = failure(run(mesh.home, "replay", "absent", "--json"))
    assert error["reason"] == "ANSWER_NOT_FOUND"
