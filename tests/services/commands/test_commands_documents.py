"""`ragmesh documents`: what is there, what became of it, and what can be done about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragmesh import Passage, TextSpan

from services.commands.document_names import document_name, passage_index
from services.commands.document_shown import in_context
from services.commands.ingest_files import document_id_of
from tests.services.commands.command_line import Up, failure, lines, result, run

CORPUS = Path(__file__).parents[3] / "corpus" / "files"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A mesh with the collection `notes`: the corpus' files and one that no parser reads."""
    up = Up(tmp_path_factory.mktemp("home"))
    try:
        broken = up.home / "broken.pdf"
        broken.write_bytes(b"%PDF-1.7\n" + b"this is no object of any kind\n" * 20 + b"%%EOF")
        command = ("ingest", str(CORPUS), str(broken), "-c", "notes", "--json")
        assert run(up.home, *command).returncode == 1
        yield up
    finally:
        up.close()


def test_documents_are_listed_by_page_and_state(mesh: Up) -> None:
    whole = result(run(mesh.home, "documents", "list", "-c", "notes", "--json"))["documents"]
    assert len(whole) == len(list(CORPUS.iterdir())) + 1
    seen, page = [], ""
    while True:
        command = ("documents", "list", "-c", "notes", "-n", "2", "--page", page, "--json")
        found = result(run(mesh.home, *command))
        seen += found["documents"]
        page = found["next_page"]
        if not page:
            break
    assert seen == whole
    failed = run(mesh.home, "documents", "list", "-c", "notes", "--state", "failed", "--json")
    (one,) = result(failed)["documents"]
    assert one["display_name"] == "broken.pdf"
    plain = run(mesh.home, "documents", "list", "-c", "notes")
    assert plain.returncode == 0 and "failed" in plain.stdout


def test_a_failure_has_its_reason_and_stays_until_it_is_dealt_with(mesh: Up) -> None:
    (one,) = result(run(mesh.home, "documents", "failures", "-c", "notes", "--json"))["failures"]
    assert one["job"]["error"]["reason"] == "DOCUMENT_UNREADABLE"
    assert "DOCUMENT_UNREADABLE" in run(mesh.home, "documents", "failures", "-c", "notes").stdout
    shown = run(mesh.home, "documents", "show", one["name"])
    assert one["job"]["error"]["message"][:20] in shown.stdout
    again = run(mesh.home, "documents", "retry", "-c", "notes", "--all", "--json")
    assert again.returncode == 1 and '"failed": 1' in again.stdout.splitlines()[-1]
    (same,) = result(run(mesh.home, "documents", "failures", "-c", "notes", "--json"))["failures"]
    assert same["job"]["attempts"] == 1, "counted anew"


def test_a_passage_is_opened_in_its_context(mesh: Up) -> None:
    document = f"notes/{document_id_of(CORPUS / 'retrieval-notes.pdf')}"
    listed = run(mesh.home, "documents", "passages", document, "--from", "1", "-n", "3", "--json")
    before, passage, after = result(listed)["passages"]
    opened = run(mesh.home, "documents", "open", f"{document}#2")
    said = " ".join(opened.stdout.split())
    for one in (before, passage, after):
        assert " ".join(one["text"].split()) in said
    assert "page 1" in said and "retrieval-notes.pdf" in said
    assert " / ".join(passage["heading_path"]) in said
    told = result(run(mesh.home, "documents", "open", f"{document}#0", "--json"))
    assert [one["passage_index"] for one in told["passages"]] == [0, 1]
    error = failure(run(mesh.home, "documents", "open", f"{document}#999", "--json"))
    assert "none has number 999" in error["message"]


def test_a_collection_is_ingested_anew_and_goes_on_answering(mesh: Up) -> None:
    before = result(run(mesh.home, "collections", "show", "notes", "--json"))["stats"]["points"]
    update = ("collections", "update", "notes", "--chunk-tokens-max", "64", "--json")
    result(run(mesh.home, *update))
    done = run(mesh.home, "documents", "reindex", "-c", "notes", "--all", "--json")
    assert done.returncode == 1, "one of them cannot be read"
    assert f'"ingested": {len(list(CORPUS.iterdir()))}' in done.stdout.splitlines()[-1]
    after = result(run(mesh.home, "collections", "show", "notes", "--json"))["stats"]["points"]
    assert after > before
    document = f"notes/{document_id_of(CORPUS / 'operations.html')}"
    (*_, last) = lines(run(mesh.home, "documents", "reindex", document, "--json"))
    assert (last["ingested"], last["failed"]) == (1, 0)
    error = failure(run(mesh.home, "documents", "cancel", document, "--json"))
    assert error["reason"] == "INGEST_JOB_FINISHED"


def test_documents_are_deleted_by_name(mesh: Up) -> None:
    document = document_id_of(mesh.home / "broken.pdf")
    asked = run(mesh.home, "documents", "delete", document, "-c", "notes")
    assert asked.returncode == 1 and "broken.pdf" in asked.stderr, "nobody said yes"
    gone = run(mesh.home, "documents", "delete", document, "-c", "notes", "--yes", "--json")
    assert result(gone)["deleted"] == [f"collections/notes/documents/{document}"]
    error = failure(run(mesh.home, "documents", "show", f"notes/{document}", "--json"))
    assert error["reason"] == "DOCUMENT_NOT_FOUND"
    for command in (("delete",), ("reindex", "--all"), ("cancel", "x", "--all", "-c", "notes")):
        error = failure(run(mesh.home, "documents", *command, "--json"))
        assert "--all" in error["message"]


def test_a_document_is_named_in_three_ways() -> None:
    whole = "collections/papers/documents/plan"
    assert {document_name(one, "") for one in (whole, "papers/plan")} == {whole}
    assert document_name("plan", "papers") == whole
    assert passage_index("papers/plan#3") == ("papers/plan", 3)
    assert passage_index("papers/plan") == ("papers/plan", None)


@given(st.data())
def test_the_context_of_a_passage_is_the_text_around_it(data: st.DataObject) -> None:
    text = data.draw(st.text(min_size=4, max_size=60))
    starts = sorted(data.draw(st.sets(st.integers(0, len(text) - 1), min_size=1, max_size=6)))
    some, end = [], 0
    for index, start in enumerate(starts):
        # Each reaches at least to where the next begins: neighbors touch or overlap.
        least = starts[index + 1] if index + 1 < len(starts) else start + 1
        end = data.draw(st.integers(max(least, end), len(text)))
        some.append(Passage("d", index, text[start:end], TextSpan(start, end), (), 0, 1, ()))
    chosen = data.draw(st.sampled_from(some))
    before, after = in_context(chosen, some)
    assert before + chosen.text + after == text[starts[0] : end]
