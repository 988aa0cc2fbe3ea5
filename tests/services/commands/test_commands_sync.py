"""`ragmesh ingest --sync` makes a collection what a folder is, and deletes nothing by mistake."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ragmesh import Client

from services.commands.ingest_files import document_id_of
from tests.services.commands.command_line import RAGMESH, Up, environment, failure, lines, run


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("home"))
    yield up
    up.close()


@pytest.fixture
def client(mesh: Up) -> Iterator[Client]:
    with Client(mesh.ready["grpc"]) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three notes."""
    (tmp_path / "notes" / "below").mkdir(parents=True)
    for name in ("apples", "pears", "below/plums"):
        (tmp_path / "notes" / f"{name}.txt").write_text(f"A note on {name}, of some words.")
    return tmp_path / "notes"


def synced(mesh: Up, folder: Path, collection: str, *options: str) -> dict[str, Any]:
    """What a sync said at its end."""
    command = ("ingest", str(folder), "-c", collection, "--sync", "--json", *options)
    return lines(run(mesh.home, *command))[-1]


def counts(report: dict[str, Any]) -> tuple[int, int, int, int, int]:
    names = ("ingested", "moved", "deleted", "unchanged", "failed")
    ingested, moved, deleted, unchanged, failed = (report[name] for name in names)
    return ingested, moved, deleted, unchanged, failed


def texts(client: Client, collection: str) -> dict[str, str]:
    """The text of each document, by its file's name; each is searchable."""
    found = {}
    for document in client.list_documents(collection):
        assert document.state == "active"
        found[document.display_name] = "".join(p.text for p in client.list_passages(document.name))
    return found


def test_a_collection_follows_its_folder(mesh: Up, folder: Path, client: Client) -> None:
    assert counts(synced(mesh, folder, "follows")) == (3, 0, 0, 0, 0)
    client.create_document(
        "follows",
        text="Somebody else's.",
        document_id="other",
        display_name="other",
        source_uri=(folder / "gone.txt").as_uri(),
    )
    (folder / "apples.txt").write_text("Now of something else.")
    (folder / "pears.txt").rename(folder / "below" / "fruit.txt")
    (folder / "below" / "plums.txt").unlink()
    (folder / "cherries.txt").write_text("A new note on cherries.")
    before = client.get_document(document_id_of(folder / "apples.txt"), collection="follows")
    planned = synced(mesh, folder, "follows", "--dry-run")
    assert [planned[name] for name in ("add", "move", "replace", "delete", "keep")] == [
        1,
        1,
        1,
        1,
        0,
    ]
    assert len(texts(client, "follows")) == 4, "nothing was done"
    assert counts(synced(mesh, folder, "follows")) == (3, 1, 1, 0, 0)
    assert texts(client, "follows") == {
        "apples.txt": "Now of something else.",
        "fruit.txt": "A note on pears, of some words.",
        "cherries.txt": "A new note on cherries.",
        "other": "Somebody else's.",
    }
    after = client.get_document(before.name)
    assert after.content_sha256 != before.content_sha256, "a changed file keeps its id"
    assert counts(synced(mesh, folder, "follows")) == (0, 0, 0, 3, 0), "and then all is done"


def test_a_folder_that_is_empty_or_away_deletes_nothing(
    mesh: Up, folder: Path, client: Client
) -> None:
    assert counts(synced(mesh, folder, "stays")) == (3, 0, 0, 0, 0)
    command = ("ingest", str(folder), "-c", "stays", "--sync", "--yes", "--json")
    away = folder.rename(folder.with_name("away"))
    for _ in range(2):
        error = failure(run(mesh.home, *command))
        assert "--allow-empty" in error["message"] and error["metadata"]["documents"] == "3"
        assert len(texts(client, "stays")) == 3
        folder.mkdir(exist_ok=True)
    shutil.rmtree(away)
    assert counts(synced(mesh, folder, "stays", "--allow-empty")) == (0, 0, 3, 0, 0)
    assert texts(client, "stays") == {}
    nowhere = ("ingest", str(away), "-c", "stays", "--sync", "--json")
    assert "does not exist" in failure(run(mesh.home, *nowhere))["message"]


def test_many_deletions_are_only_done_when_they_are_meant(
    mesh: Up, folder: Path, client: Client
) -> None:
    for number in range(12):
        (folder / f"{number}.txt").write_text(f"Note {number} of a dozen.")
    assert counts(synced(mesh, folder, "many"))[0] == 15
    for number in range(12):
        (folder / f"{number}.txt").unlink()
    error = failure(run(mesh.home, "ingest", str(folder), "-c", "many", "--sync", "--json"))
    assert "12 of 15" in error["message"] and "--yes" in error["message"]
    assert len(texts(client, "many")) == 15
    assert counts(synced(mesh, folder, "many", "--yes")) == (0, 0, 12, 3, 0)


def test_what_cannot_be_read_now_keeps_its_document(mesh: Up, folder: Path, client: Client) -> None:
    assert counts(synced(mesh, folder, "keeps"))[0] == 3
    (folder / "apples.txt").unlink()
    os.symlink("apples.txt", folder / "apples.txt")  # a loop: there, and not to be read
    (folder / "pears.txt").write_text("")
    (folder / "below").rename(folder / ".below")
    os.symlink(".below", folder / "below")
    os.mkfifo(folder / "pipe")
    command = ("ingest", str(folder), "-c", "keeps", "--sync", "--json")
    done = run(mesh.home, *command)
    assert done.returncode == 1, "a file failed"
    assert '"UNREADABLE"' in done.stdout and '"EMPTY"' in done.stdout
    assert len(texts(client, "keeps")) == 3


def test_odd_names_are_ingested_and_told(mesh: Up, tmp_path: Path, client: Client) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    for name in (b"caf\xe9.txt", b"two\nlines.txt", b"\x1b[31m.txt", b"%41 [bold].txt"):
        with open(os.fsencode(root) + b"/" + name, "wb") as file:
            file.write(b"A note of " + name.hex().encode())
    assert counts(synced(mesh, root, "odd")) == (4, 0, 0, 0, 0)
    assert counts(synced(mesh, root, "odd")) == (0, 0, 0, 4, 0)
    plain = run(mesh.home, "ingest", str(root), "-c", "odd")
    assert plain.returncode == 0 and "4 skipped" in plain.stdout, plain.stderr
    os.unlink(os.fsencode(root) + b"/caf\xe9.txt")
    assert counts(synced(mesh, root, "odd")) == (0, 0, 1, 3, 0)
    assert set(texts(client, "odd")) == {"two\\nlines.txt", "\\x1b[31m.txt", "%41 [bold].txt"}


def test_an_interrupted_ingestion_says_what_goes_on(
    mesh: Up, tmp_path: Path, client: Client
) -> None:
    for number in range(60):
        text = "\n\n".join(f"Line {line} of note {number}: boats came." for line in range(1_500))
        (tmp_path / f"{number}.txt").write_text(text)
    process = subprocess.Popen(
        [*RAGMESH, "ingest", str(tmp_path), "-c", "cut"],
        env=environment(mesh.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    give_up_s = time.monotonic() + 60
    while sum("/cut/" in job.document for job in client.list_ingest_jobs(state="queued")) < 20:
        assert time.monotonic() < give_up_s
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "interrupted after" in said and "--state ingesting" in said
    ended = lines(run(mesh.home, "documents", "cancel", "-c", "cut", "--all", "--json"))[0]
    assert ended["cancelled"]
    left = [j for j in client.list_ingest_jobs(collection="cut") if not j.done]
    assert left == []


def test_a_collection_that_takes_no_documents_ends_it_at_once(
    mesh: Up, folder: Path, client: Client
) -> None:
    client.create_collection("vectors", dimensions=4)
    error = failure(run(mesh.home, "ingest", str(folder), "-c", "vectors", "--json"))
    assert error["reason"] == "NO_EMBEDDING_MODEL"


def test_sync_is_for_one_folder(mesh: Up, folder: Path) -> None:
    for paths in ([str(folder), str(folder)], [str(folder / "apples.txt")]):
        error = failure(run(mesh.home, "ingest", *paths, "-c", "x", "--sync", "--json"))
        assert "one folder" in error["message"]
    error = failure(run(mesh.home, "ingest", str(folder), "-c", "x", "--yes", "--json"))
    assert "--sync" in error["message"]
