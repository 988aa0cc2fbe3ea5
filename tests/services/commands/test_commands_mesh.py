"""The commands against a mesh that `ragmesh up` runs, in a directory of mode 0700."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.services.commands.command_line import Up, failure, lines, result, run
from tests.services.local.running import gone

FACT = "The lighthouse of Westerhever was finished in 1907 and is 41 meters tall."


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A mesh of two nodes; tests leave it whole."""
    home = tmp_path_factory.mktemp("home")
    assert home.stat().st_mode & 0o777 == 0o700
    up = Up(home, "--nodes", "embedding,retrieval;documents,memory,generation,chat")
    yield up
    up.close()


@pytest.fixture(scope="module")
def facts(mesh: Up) -> Path:
    """A folder that has been ingested into `facts`, with one file that no parser reads."""
    folder = mesh.home / "facts"
    (folder / "below").mkdir(parents=True)
    (folder / "lighthouse.md").write_text(f"# Lighthouses\n\n{FACT} Sheep graze around it.\n")
    (folder / "below" / "bread.txt").write_text("Rye bread is baked with sourdough.\n")
    (folder / "program.md").write_bytes(b"\x7fELF" + bytes(64))
    *files, report = lines(run(mesh.home, "ingest", str(folder), "-c", "facts", "--json"))
    assert report["collection_made"]
    assert (report["ingested"], report["skipped"], report["failed"]) == (2, 1, 0), report
    (skipped,) = [one for one in files if one.get("result") == "skipped"]
    assert skipped["reason"] == "UNSUPPORTED_MEDIA_TYPE"
    return folder


def test_a_second_up_says_who_holds_the_directory(mesh: Up) -> None:
    error = failure(run(mesh.home, "up", "--json"))
    assert error["metadata"]["pid"] == str(mesh.process.pid)
    assert mesh.ready["rest"] in error["message"]


def test_a_question_is_answered_with_the_quote_that_stands_in_the_file(
    mesh: Up, facts: Path
) -> None:
    answer = result(
        run(mesh.home, "ask", "How tall is the lighthouse of Westerhever?", "-c", "facts", "--json")
    )
    quotes = [citation["quote"] for citation in answer["citations"]]
    assert FACT in quotes, answer
    assert answer["abstention"] == ""
    assert answer["timings"]["total_ms"] > 0


def test_a_search_finds_the_passage_by_its_meaning(mesh: Up, facts: Path) -> None:
    found = result(
        run(mesh.home, "search", "a loaf made from grain", "-c", "facts", "-n", "1", "--json")
    )
    (hit,) = found["hits"]
    assert "Rye bread" in hit["text"]


def test_a_search_says_how_it_was_done(mesh: Up, facts: Path) -> None:
    asked = ("search", "a loaf made from grain", "-c", "facts", "--explain")
    plan = result(run(mesh.home, *asked, "--json"))["plan"]
    assert [leg["leg"] for leg in plan["legs"]] == ["dense", "lexical"]
    assert {"embed", "dense", "lexical", "fusion", "decode"} <= plan["stages_ms"].keys()
    shown = run(mesh.home, *asked)
    assert shown.returncode == 0, shown.stderr
    assert "exact+lexical" in shown.stdout and "vectors" in shown.stdout, shown.stdout


def test_what_was_ingested_once_is_left_alone_until_it_changes(mesh: Up, facts: Path) -> None:
    again = lines(run(mesh.home, "ingest", str(facts), "-c", "facts", "--json"))[-1]
    assert (again["ingested"], again["skipped"]) == (0, 3), again
    (facts / "below" / "bread.txt").write_text("White bread is baked with yeast.\n")
    replaced = lines(run(mesh.home, "ingest", str(facts), "-c", "facts", "--replace", "--json"))[-1]
    assert (replaced["ingested"], replaced["failed"]) == (1, 0), replaced


def test_models_are_listed_as_the_mesh_has_them(mesh: Up) -> None:
    address = mesh.ready["grpc"]
    (model,) = result(run(mesh.home, "models", "list", "--address", address, "--json"))["models"]
    assert (model["id"], model["task"], model["loaded"]) == ("all-minilm-l6-v2", "embed", True)
    assert model["fingerprint"]


def test_status_shows_every_node_and_that_envoy_took_its_configuration(mesh: Up) -> None:
    report = result(run(mesh.home, "status", "--json"))
    assert {node["address"] for node in report["nodes"]} == set(mesh.ready["nodes"].values())
    assert all(node["state"] == "SERVING" for node in report["nodes"])
    envoy = [client for client in report["clients"] if client["group"] == "gateway"]
    assert envoy
    assert all(one["accepted_version"] for client in envoy for one in client["types"])
    assert report["rejected"] == []


def test_a_collection_is_kept_compacted_and_restored(mesh: Up, facts: Path) -> None:
    kept = result(run(mesh.home, "collections", "snapshot", "create", "facts", "first", "--json"))
    assert kept["name"] == "collections/facts/snapshots/first" and kept["points"] > 0
    listed = result(run(mesh.home, "collections", "snapshot", "list", "facts", "--json"))
    assert [one["name"] for one in listed["snapshots"]] == [kept["name"]]
    receipt = result(run(mesh.home, "collections", "compact", "facts", "--full", "--json"))
    assert not receipt["rolled_back"] and receipt["points"] >= kept["points"]
    restored = result(run(mesh.home, "collections", "restore", "facts/first", "again", "--json"))
    assert restored["points"] == kept["points"]
    found = result(run(mesh.home, "search", "lighthouse", "-c", "again", "-n", "1", "--json"))
    assert "lighthouse" in found["hits"][0]["text"].lower()
    result(run(mesh.home, "collections", "snapshot", "delete", "facts/first", "--json"))
    error = failure(run(mesh.home, "collections", "restore", "facts/first", "more", "--json"))
    assert error["reason"] == "SNAPSHOT_NOT_FOUND"
    error = failure(run(mesh.home, "collections", "restore", "first", "more", "--json"))
    assert "papers/monday" in error["message"]
    result(run(mesh.home, "collections", "delete", "again", "--yes", "--json"))


def test_a_collection_leaves_as_a_file_and_comes_back(
    mesh: Up, facts: Path, tmp_path: Path
) -> None:
    file = tmp_path / "facts.snapshot"
    out = result(run(mesh.home, "collections", "export", "facts", str(file), "--json"))
    assert out["size_bytes"] == file.stat().st_size
    assert out["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert not result(run(mesh.home, "collections", "snapshot", "list", "facts", "--json"))[
        "snapshots"
    ]
    error = failure(run(mesh.home, "collections", "export", "facts", str(file), "--json"))
    assert "--replace" in error["message"]
    full = ("collections", "import", str(file), "back", "--points-max", "1", "--json")
    assert failure(run(mesh.home, *full))["reason"] == "LIMIT_REACHED"
    back = result(run(mesh.home, "collections", "import", str(file), "back", "--json"))
    assert back["points"] == out["snapshot"]["points"] > 0
    found = result(run(mesh.home, "search", "lighthouse", "-c", "back", "-n", "1", "--json"))
    assert "lighthouse" in found["hits"][0]["text"].lower()
    file.write_bytes(file.read_bytes()[:-1])
    error = failure(run(mesh.home, "collections", "import", str(file), "more", "--json"))
    assert error["reason"] == "DATA_CORRUPTED"
    result(run(mesh.home, "collections", "delete", "back", "--yes", "--json"))


def test_a_copy_of_a_snapshot_goes_on_where_it_broke_off(
    mesh: Up, facts: Path, tmp_path: Path
) -> None:
    result(run(mesh.home, "collections", "snapshot", "create", "facts", "out", "--json"))
    first, second = tmp_path / "first", tmp_path / "second"
    whole = result(run(mesh.home, "collections", "export", "facts/out", str(first), "--json"))
    part = second.with_name("second.part")
    part.write_bytes(first.read_bytes()[:1_000])
    again = result(run(mesh.home, "collections", "export", "facts/out", str(second), "--json"))
    assert again["sha256"] == whole["sha256"] and not part.exists()
    assert second.read_bytes() == first.read_bytes()
    part.write_bytes(b"x" * 1_000)
    error = failure(
        run(mesh.home, "collections", "export", "facts/out", str(second), "--replace", "--json")
    )
    assert error["reason"] == "DATA_CORRUPTED" and not part.exists()
    part.write_bytes(bytes(whole["size_bytes"] + 1))  # more than there is: of another snapshot
    third = run(mesh.home, "collections", "export", "facts/out", str(second), "--replace", "--json")
    assert result(third)["sha256"] == whole["sha256"]
    result(run(mesh.home, "collections", "snapshot", "delete", "facts/out", "--json"))


def test_an_export_clears_up_after_one_that_was_killed(
    mesh: Up, facts: Path, tmp_path: Path
) -> None:
    over, going = (f"export-until-{year}0101t000000-0123abcd" for year in (2020, 9020))
    for id in (over, going, "mine"):
        result(run(mesh.home, "collections", "snapshot", "create", "facts", id, "--json"))
    result(run(mesh.home, "collections", "export", "facts", str(tmp_path / "facts"), "--json"))
    left = result(run(mesh.home, "collections", "snapshot", "list", "facts", "--json"))
    assert [one["name"].rpartition("/")[2] for one in left["snapshots"]] == [going, "mine"]
    for id in (going, "mine"):
        result(run(mesh.home, "collections", "snapshot", "delete", f"facts/{id}", "--json"))


def test_an_export_to_where_nothing_can_be_written_is_one_sentence(
    mesh: Up, facts: Path, tmp_path: Path
) -> None:
    file = tmp_path / "none" / "facts"
    error = failure(run(mesh.home, "collections", "export", "facts", str(file), "--json"))
    assert str(file) in error["message"]
    listed = result(run(mesh.home, "collections", "snapshot", "list", "facts", "--json"))
    assert listed["snapshots"] == []
    file = tmp_path / "nothing"
    failure(run(mesh.home, "collections", "export", "facts/none", str(file), "--json"))
    assert list(tmp_path.iterdir()) == []


def test_every_setting_of_a_collection_can_be_said_and_changed(mesh: Up) -> None:
    made = result(
        run(
            *(mesh.home, "collections", "create", "tuned", "--dimensions", "4", "--metric", "dot"),
            *("--display-name", "Tuned", "--hnsw-m", "20", "--points-max", "100"),
            *("--limit-max", "50", "--recall-target", "0.9", "--chunk-tokens-max", "100"),
            *("--vector-storage", "float16", "--chunk-strategy", "hierarchical", "--json"),
        )
    )
    assert made["chunking"]["strategy"] == "hierarchical"
    assert (made["metric"], made["display_name"], made["hnsw"]["m"]) == ("dot", "Tuned", 20)
    assert (made["limits"]["points_max"], made["limits"]["limit_max"]) == (100, 50)
    assert (made["recall"]["target"], made["chunking"]["tokens_max"]) == (0.9, 100)
    changed = result(
        run(
            *(mesh.home, "collections", "update", "tuned", "--limit-max", "60"),
            *("--recall-sample-share", "0.5", "--hnsw-ef-search", "90", "--json"),
        )
    )
    # What is not named stays.
    assert (changed["limits"]["points_max"], changed["limits"]["limit_max"]) == (100, 60)
    assert changed["recall"] == {"sample_share": 0.5, "target": 0.9}
    assert (changed["hnsw"]["m"], changed["hnsw"]["ef_search"]) == (20, 90)
    shown = result(run(mesh.home, "collections", "show", "tuned", "--json"))
    assert shown["recall"]["target"] == 0.9 and shown["stats"]["points"] == 0
    plain = run(mesh.home, "collections", "show", "tuned")
    assert "limits points max" in plain.stdout and "recall target" in plain.stdout
    update = run(mesh.home, "collections", "update", "tuned", "--points-max", "7")
    assert "limits points max: 100 → 7" in update.stdout
    nothing = failure(run(mesh.home, "collections", "update", "tuned", "--json"))
    assert "--display-name" in nothing["message"]
    result(run(mesh.home, "collections", "delete", "tuned", "--yes", "--json"))


def test_a_collection_comes_to_keep_its_vectors_otherwise(mesh: Up) -> None:
    made = run(mesh.home, "collections", "create", "small", "--vector-storage", "int8", "--json")
    assert result(made)["vector_storage"] == "int8"
    for storage in ("float16", "float32"):
        update = ("collections", "update", "small", "--vector-storage", storage)
        assert result(run(mesh.home, *update, "--json"))["vector_storage"] == storage
        shown = result(run(mesh.home, "collections", "show", "small", "--json"))
        assert shown["vector_storage"] == storage
    result(run(mesh.home, "collections", "delete", "small", "--yes", "--json"))


def test_an_error_of_the_mesh_keeps_its_reason(mesh: Up) -> None:
    error = failure(run(mesh.home, "ask", "why?", "-c", "nowhere", "--json"))
    assert error["reason"] == "COLLECTION_NOT_FOUND"
    assert error["request_id"]


def test_budgets_are_set_shown_and_taken_away(mesh: Up) -> None:
    made = result(run(mesh.home, "budgets", "set", "all", "--limit", "12.5", "--json"))
    assert (made["name"], made["limit_nanos"]) == ("budgets/all", 12_500_000_000)
    made = result(run(mesh.home, "budgets", "set", "all", "--tokens", "1000", "--json"))
    assert (made["limit_nanos"], made["limit_tokens"]) == (12_500_000_000, 1_000)
    mine = ("budgets", "set", "mine", "--tokens", "5", "--session", "mine", "--json")
    assert result(run(mesh.home, *mine))["session"] == "sessions/mine"
    listed = result(run(mesh.home, "budgets", "list", "--json"))["budgets"]
    assert [one["name"] for one in listed] == ["budgets/all", "budgets/mine"]
    shown = run(mesh.home, "budgets")
    assert "12.5" in shown.stdout and "1,000" in shown.stdout, shown.stdout
    for wrong in ("-1", "much", "nan", "0.0000000001", "1e12"):
        error = failure(run(mesh.home, "budgets", "set", "all", f"--limit={wrong}", "--json"))
        assert "12.50" in error["message"]
    for name in ("all", "mine"):
        result(run(mesh.home, "budgets", "delete", name, "--json"))
    error = failure(run(mesh.home, "budgets", "delete", "all", "--json"))
    assert error["reason"] == "BUDGET_NOT_FOUND"


def test_a_model_is_asked_without_passages(mesh: Up, tmp_path: Path) -> None:
    asked = ("generate", "Hello", "--model", "extractive")
    answer = result(run(mesh.home, *asked, "--json"))
    assert (answer["abstention_reason"], answer["finish_reason"]) == ("no_passage", "stop")
    shown = run(mesh.home, *asked)
    assert "extractive: 0 tokens read, 0 written, no price" in shown.stderr, shown.stderr
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    error = failure(run(mesh.home, *asked, "--schema", str(tmp_path / "schema.json"), "--json"))
    assert "needs a language model" in error["message"]
    error = failure(run(mesh.home, "generate", "Hello", "--model", "absent", "--json"))
    assert error["reason"] == "GENERATION_MODEL_NOT_FOUND"


def test_a_killed_part_comes_back_and_everything_goes_on(mesh: Up, facts: Path) -> None:
    status = result(run(mesh.home, "status", "--json"))
    assert status["control_plane"] == "running"
    for part in ("control-plane", "envoy", "node-2"):
        os.kill(mesh.ready["parts"][part], signal.SIGKILL)
    for part in ("control-plane", "envoy", "node-2"):
        mesh_said = [one for one in mesh.said if one.get("part") == part]
        if not any(one["event"] == "ready" for one in mesh_said):
            mesh.wait_for(event="ready", part=part)
    answer = result(run(mesh.home, "ask", "How tall is the lighthouse?", "-c", "facts", "--json"))
    assert answer["citations"], answer
    body = {"question": "How tall is the lighthouse?", "collections": ["collections/facts"]}
    over_rest = httpx.post(f"{mesh.ready['rest']}/v1/chat:ask", json=body, timeout=30)
    assert over_rest.json()["answer"]["text"] == answer["answer"]


def test_sigterm_stops_all_and_a_killed_up_leaves_nobody_behind(mesh: Up) -> None:
    below = mesh.descendants()
    assert len(below) > 5
    mesh.process.send_signal(signal.SIGTERM)
    assert mesh.process.wait(60) == 0, mesh.said
    assert gone(below, 1.0) == []

    again = Up(mesh.home)  # the same directory, all services in one node
    try:
        below = again.descendants()
        again.process.kill()
        again.process.wait(10)
        assert gone(below, 10.0) == []
    finally:
        again.close()
