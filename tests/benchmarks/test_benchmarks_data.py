"""Anyone's data set in BEIR's layout, and load whose passing point is found between two rates."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.data import DataMissing, read_beir
from benchmarks.pressure import Outcome
from benchmarks.seeds import seeds
from benchmarks.suites.load import rate_at

TEXTS = {
    "a/1": "Whales sing songs at night in the ocean.",
    "B 2": "Trains run on rails between two cities.",
    "ü3": "Bread is baked from flour, water and salt.",
    "empty": "",
}
QUERIES = {"q1": "what do whales sing", "q2": "how is bread baked"}


def _write(folder: Path, *, packed: bool = False) -> Path:
    """A data set of four texts, one of them empty, two without a title."""
    corpus = [{"_id": one, "text": text} for one, text in TEXTS.items()]
    corpus[0]["title"] = "Whales"
    queries = [{"_id": one, "text": text} for one, text in QUERIES.items()]
    (folder / "qrels").mkdir(parents=True)
    for name, rows in (("corpus.jsonl", corpus), ("queries.jsonl", queries)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_text(text)
    judged = "query-id\tcorpus-id\tscore\nq1\ta/1\t1\nq2\tü3\t2\n"
    (folder / "qrels" / "dev.tsv").write_text(judged)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_a_data_set_is_read_plain_or_compressed_without_titles_and_empty_texts(
    tmp_path: Path, packed: bool
) -> None:
    data = read_beir(_write(tmp_path, packed=packed))
    assert [(one.id, one.title) for one in data.documents] == [
        ("a/1", "Whales"),
        ("B 2", ""),
        ("ü3", ""),
    ]
    assert data.queries == QUERIES
    assert data.qrels == {"dev": {"q1": {"a/1": 1}, "q2": {"ü3": 2}}}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("corpus.jsonl", None, r"has no corpus\.jsonl, and no corpus\.jsonl\.gz"),
        ("queries.jsonl", None, r"has no queries\.jsonl"),
        ("qrels/dev.tsv", None, r"qrels has no judgments, such as test\.tsv"),
        ("corpus.jsonl", '{"_id": "1", "text": "a"}\n{', r"corpus\.jsonl cannot .* after line 1"),
        ("corpus.jsonl", '{"_id": 1, "text": "a"}', "after line 0: ValueError: _id and text are"),
        ("queries.jsonl", '{"_id": "1"}', "after line 0: KeyError: 'text'"),
        ("queries.jsonl", '{"_id": "q9", "text": "a"}', "judges query 'q1', which is none"),
        ("qrels/dev.tsv", "q1 0 a/1 1\n", "columns are query-id, corpus-id and score"),
        (
            "qrels/dev.tsv",
            "query-id\tcorpus-id\tscore\nq1\ta/1\thigh\n",
            r"dev\.tsv cannot be read",
        ),
    ],
)
def test_what_is_wrong_with_a_data_set_is_said_by_file_and_line(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    _write(tmp_path)
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataMissing, match=said):
        read_beir(tmp_path)


def test_quality_measures_ones_own_data_through_a_real_mesh(tmp_path: Path) -> None:
    folder = _write(tmp_path / "my-set")
    file = tmp_path / "found.json"
    assert main(["quality", "--data", str(folder), "--json", str(file)]) == 0
    document = json.loads(file.read_text())
    (suite,) = document["suites"]
    scores = {one["name"]: one["value"] for one in suite["figures"]}
    assert scores["my-set: dense, nDCG@10"] == scores["my-set: lexical, nDCG@10"] == 1
    assert suite["setting"]["my-set"] == "3 passages, 2 of dev"
    assert suite["comparisons"] or "benchmarks.peers prepare" in suite["setting"]["bm25s not run"]
    assert document["not_run"] == []


def test_a_data_set_that_is_not_there_fails_the_suite_and_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quality", "--data", str(tmp_path)]) == 1
    assert f"{tmp_path} has no corpus.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("chroma=http://a:1", "'chroma' is no peer that is reached by an address; qdrant, tei are"),
        ("qdrant", "'' is no URL; give qdrant=http://host:port"),
        ("qdrant=ftp://a", "'ftp://a' is no URL"),
        ("tei=http://a:99999", "is no URL"),
    ],
)
def test_a_peers_address_is_checked_before_anything_runs(
    told: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["search", "--peer", told])
    assert said in capsys.readouterr().err


def test_the_seeds_of_a_run_are_those_that_stand_in_its_modules(tmp_path: Path) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "a.py").write_text(
        "SEED = 5\ndef f(x, seed: int = 7): ...\nf(1, seed=8)\nf(1, seed=x)\ndefault_rng(9)\n"
    )
    (tmp_path / "b.py").write_text("x = 3\n")
    assert seeds(tmp_path) == {"suites/a": [5, 7, 8, 9]}
    assert seeds()["data"] == [0, 1]


def test_the_rate_at_which_p99_passes_lies_between_two_rates() -> None:
    points = [(rate, Outcome([ms] * 10)) for rate, ms in ((100.0, 5.0), (200.0, 500.0))]
    assert rate_at(points, 50.0) == pytest.approx(150)
    assert rate_at(points, 4.0) != rate_at(points, 4.0)  # passed before the first
    assert rate_at(points, 600.0) != rate_at(points, 600.0)
