"""Commands without a mesh: they say what is missing, quickly, and never with a traceback."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from services.commands.control_plane import origin_pattern
from services.commands.ingest_files import document_id_of
from services.config import Settings, to_environment
from services.local.mesh import parse_nodes
from tests.services.commands.command_line import failure, run

ID_FORM = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


def test_help_names_every_command_and_loads_nothing_heavy(tmp_path: Path) -> None:
    before_s = os.times().children_user
    done = run(tmp_path, "--help")
    used_s = os.times().children_user - before_s
    assert done.returncode == 0
    for name in (
        "demo",
        "up",
        "ingest",
        "search",
        "ask",
        "collections",
        "documents",
        "models",
        "budgets",
        "status",
        "doctor",
    ):
        assert re.search(rf"^\s+{name}\s", done.stdout, re.MULTILINE), name
    assert "control-plane " not in done.stdout
    assert used_s < 0.8, f"{used_s} s of CPU for --help"


@pytest.mark.parametrize(
    "command",
    [
        ("ask", "why?", "--collection", "papers"),
        ("search", "speed", "--collection", "papers"),
        ("collections", "list"),
        ("status",),
        ("ingest", ".", "--collection", "papers"),
        ("documents", "list", "--collection", "papers"),
        ("budgets", "list"),
    ],
    ids=lambda command: command[0],
)
def test_without_a_mesh_a_caller_is_told_how_to_start_one(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    error = failure(run(tmp_path, *command, "--json"))
    assert error["type"] == "FailedPrecondition"
    assert "`ragmesh up`" in error["message"]
    assert error["metadata"]["path"] == str(tmp_path / "ragmesh")


def test_an_expected_failure_is_one_sentence_without_a_traceback(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", "why?", "--collection", "papers")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no mesh is running")
    assert len(done.stderr.splitlines()) == 1


def test_a_node_beyond_loopback_is_refused_while_nothing_checks_who_calls(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", "--services", "generation", "--listen", "0.0.0.0:0")
    assert done.returncode == 1
    assert "--allow-unauthenticated" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gateway_whose_admin_is_beyond_loopback_is_refused_always(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        *("gateway", "--redis-url", "redis://127.0.0.1:1", "--admin-listen", "0.0.0.0:9901"),
        "--allow-unauthenticated",
    )
    assert done.returncode == 1
    assert "0.0.0.0:9901" in done.stderr


def test_doctor_finds_everything_here_and_fails_for_what_is_missing(tmp_path: Path) -> None:
    found = run(tmp_path, "doctor", "--json")
    report = json.loads(found.stdout)
    assert (found.returncode, report["ok"]) == (0, True), report
    assert {"Python", "PostgreSQL", "Redis", "Envoy"} <= {f["name"] for f in report["findings"]}
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    missing = run(tmp_path, "doctor", "--json", "--data-dir", str(blocked / "data"))
    assert missing.returncode == 1
    wrong = [f for f in json.loads(missing.stdout)["findings"] if not f["ok"]]
    assert wrong
    assert all(finding["advice"] for finding in wrong)


def test_settings_survive_the_way_through_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {
        "store": {"postgres_url": "postgresql://u:p@h/d", "pool_max": 3},
        "node": {"services": ["chat", "embedding"], "allow_unauthenticated": True},
        "models": {"cache_dir": "/somewhere"},
        "generation": {"openai": [{"id": "a", "url": "http://x", "model": "m", "api_key": "k"}]},
        "gateway": {"cors_origins": ["https://example.org"]},
    }
    settings = Settings.model_validate(tree)
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings
    assert Settings().generation.openai[0].api_key.get_secret_value() == "k"


@pytest.mark.parametrize(
    ("origin", "allowed", "refused"),
    [
        ("http://localhost:*", "http://localhost:3000", "http://localhost.evil.org:3000"),
        ("https://*.example.org", "https://app.example.org", "https://example.org.evil.net"),
        ("https://example.org", "https://example.org", "https://exampleXorg"),
    ],
)
def test_a_star_in_an_origin_stands_for_what_the_setting_says(
    origin: str, allowed: str, refused: str
) -> None:
    pattern = re.compile(origin_pattern(origin))
    assert pattern.fullmatch(allowed)
    assert not pattern.fullmatch(refused)


def test_a_file_keeps_its_id_and_shares_it_with_no_other(tmp_path: Path) -> None:
    names = ["Notes (final).md", "notes-final.md", "ünïcödé.txt", "x" * 200, "...", "a/b.md"]
    ids = [document_id_of(tmp_path / name) for name in names]
    assert len(set(ids)) == len(names)
    assert ids == [document_id_of(tmp_path / name) for name in names]
    assert all(re.fullmatch(ID_FORM, one) for one in ids), ids


def test_nodes_are_named_by_semicolons_and_services_by_commas() -> None:
    split = "retrieval; retrieval;embedding;documents, generation,chat;"
    assert parse_nodes(split) == (
        ("retrieval",),
        ("retrieval",),
        ("embedding",),
        ("documents", "generation", "chat"),
    )
