"""`ragmesh models`: what a model is, its conversion, its speed, and the gate of int8."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from engine.models.convert import VERSION
from engine.models.encoder import Encoder
from engine.models.precision import has_int8_products
from tests.services.commands.command_line import RAGMESH, environment, failure, result, run
from tests.services.embedding import checkpoints, hub_server
from tests.services.embedding.hub_server import REPO


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return checkpoints.write(tmp_path / "tiny-red", seed=6)


@pytest.fixture
def caches(tmp_path: Path) -> dict[str, str]:
    """A cache of this test's own."""
    return {"RAGMESH_MODELS__CACHE_DIR": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1"}


def test_a_list_names_every_model_of_the_settings_even_what_is_missing(
    tmp_path: Path, model: Path, caches: dict[str, str]
) -> None:
    more = [
        {"id": "red", "source": str(model)},
        {"id": "far", "source": REPO},
        {"id": "absent", "source": str(tmp_path / "nowhere")},
    ]
    variables = caches | {"RAGMESH_MODELS__MORE": json.dumps(more)}
    rows = result(run(tmp_path, "models", "list", "--json", variables=variables))["models"]
    assert [row["id"] for row in rows] == ["all-minilm-l6-v2", "red", "far", "absent"]
    notes = {row["id"]: row["note"] for row in rows}
    assert (notes["all-minilm-l6-v2"], notes["red"], notes["far"]) == ("default", "", "on the hub")
    assert "no model directory" in notes["absent"]
    assert (rows[1]["task"], rows[1]["dimensions"], rows[1]["tokens_max"]) == ("embed", 8, 32)
    shown = run(tmp_path, "models", variables=variables)
    assert shown.returncode == 0, shown.stderr
    assert "red" in shown.stdout


def test_show_says_what_a_node_would_run(
    tmp_path: Path, model: Path, caches: dict[str, str]
) -> None:
    facts = result(run(tmp_path, "models", "show", str(model), "--json", variables=caches))
    encoder = Encoder.load(model, tmp_path / "elsewhere", threads=1)
    assert facts["fingerprint"] == encoder.fingerprint.text
    assert (facts["provider"], facts["precision"]) == (encoder.provider, "fp32")
    assert (facts["family"], facts["pooling"], facts["tokens_max"]) == ("bert", "mean", 32)
    size = (model / "model.safetensors").stat().st_size
    assert facts["files"]["model.safetensors"] == size
    plain = run(tmp_path, "models", "show", str(model), variables=caches)
    assert plain.returncode == 0, plain.stderr
    assert encoder.fingerprint.text in plain.stdout.replace("\n", "")


def test_a_model_of_the_hub_is_downloaded_once(
    tmp_path: Path, model: Path, caches: dict[str, str]
) -> None:
    with hub_server.serving(model) as upstream:
        variables = caches | {"HF_ENDPOINT": upstream.url}
        facts = result(run(tmp_path, "models", "show", REPO, "--json", variables=variables))
        assert (facts["id"], facts["dimensions"]) == ("red-model", 8)
    again = result(run(tmp_path, "models", "show", REPO, "--json", variables=variables))
    assert again["fingerprint"] == facts["fingerprint"]


def test_without_the_hub_a_model_of_it_is_a_clear_error(
    tmp_path: Path, caches: dict[str, str]
) -> None:
    for variables in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        error = failure(
            run(tmp_path, "models", "show", REPO, "--json", variables=caches | variables)
        )
        assert error["type"] == "ModelUnavailable"
        assert "directory" in error["message"]


def test_convert_writes_the_file_that_a_node_runs_and_only_once(
    tmp_path: Path, model: Path, caches: dict[str, str]
) -> None:
    made = result(run(tmp_path, "models", "convert", str(model), "--json", variables=caches))
    file = Path(made["file"])
    assert made["bytes"] == file.stat().st_size
    encoder = Encoder.load(model, tmp_path / "cache", threads=1)
    assert encoder.file == file
    written = file.stat().st_mtime_ns
    result(run(tmp_path, "models", "convert", str(model), "--json", variables=caches))
    assert file.stat().st_mtime_ns == written
    output = tmp_path / "output"
    arguments = ("models", "convert", str(model), "--output", str(output))
    shown = run(tmp_path, *arguments, variables=caches)
    assert str(output) in shown.stdout.replace("\n", ""), shown.stderr
    assert (output / file.name).read_bytes() == file.read_bytes()


def test_bench_measures_each_shape_and_ones_own_texts(
    tmp_path: Path, model: Path, caches: dict[str, str]
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("red green blue\n\nblue\n")
    arguments = ("models", "bench", str(model), "--texts", str(texts))
    report = result(run(tmp_path, *arguments, "--json", variables=caches))
    assert report["texts"] == 2
    assert 0 <= report["padding_share"] < 1
    assert report["query_ms"] > 0
    for shape in report["shapes"]:
        each_s = shape["ms"] / 1000 / (shape["texts"] * shape["tokens"])
        assert shape["tokens_per_s"] == pytest.approx(1 / each_s)
    texts.write_text("\n")
    error = failure(run(tmp_path, *arguments, "--json", variables=caches))
    assert error["metadata"]["path"] == str(texts)


def test_bench_measures_a_cross_encoder_too(tmp_path: Path, caches: dict[str, str]) -> None:
    pairs = checkpoints.write(tmp_path / "pairs", seed=7, rerank=True)
    shown = run(tmp_path, "models", "bench", str(pairs), variables=caches)
    assert shown.returncode == 0, shown.stderr
    assert "one query" in shown.stdout


def test_a_bench_that_is_interrupted_ends_without_a_traceback(
    tmp_path: Path, model: Path, caches: dict[str, str]
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("red green blue\n" * 2_000_000)
    with subprocess.Popen(
        [*RAGMESH, "models", "bench", str(model), "--texts", str(texts)],
        env=environment(tmp_path) | caches,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline_s = time.monotonic() + 60
        while not list((tmp_path / "cache").glob("*.onnx")) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=60)
    assert process.returncode == 130, complained
    assert "Traceback" not in said + complained


def beir(path: Path, passages: dict[str, str], queries: dict[str, tuple[str, str]]) -> Path:
    """A data set in which each query has one relevant passage."""
    (path / "qrels").mkdir(parents=True)
    with gzip.open(path / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
        for name, text in passages.items():
            file.write(json.dumps({"_id": name, "title": "", "text": text}) + "\n")
    with (path / "queries.jsonl").open("w", encoding="utf-8") as file:
        for name, (text, _) in queries.items():
            file.write(json.dumps({"_id": name, "text": text}) + "\n")
    rows = "".join(f"{name}\t{wanted}\t1\n" for name, (_, wanted) in queries.items())
    (path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return path


def gated(home: Path, model: Path, data: Path, caches: dict[str, str]) -> dict[str, Any]:
    arguments = ("models", "convert", str(model), "--gate", str(data), "--json")
    made = run(home, *arguments, variables=caches)
    if not has_int8_products():
        assert failure(made)["metadata"]["precision"] == "int8"
        return {}
    record: dict[str, Any] = result(made)["gate"]
    return record


def test_a_model_that_passes_the_gate_runs_in_int8_from_then_on(
    tmp_path: Path, model: Path, caches: dict[str, str]
) -> None:
    passages = {"p1": "red", "p2": "green blue", "p3": "blue blue ."}
    data = beir(tmp_path / "colors", passages, {"q1": ("red", "p1"), "q2": ("green blue", "p2")})
    record = gated(tmp_path, model, data, caches)
    facts = result(run(tmp_path, "models", "show", str(model), "--json", variables=caches))
    if not record:
        assert facts["precision"] == "fp32"
        return
    assert (record["dataset"], record["queries"], record["version"]) == (
        *("colors, train", 2),
        VERSION,
    )
    # Each query says what its passage says: nothing ranks better, in either precision.
    assert (record["ndcg10_fp32"], record["ndcg10_int8"]) == (1.0, 1.0)
    assert facts["int8_gate"]["passed"]
    assert facts["precision"] == "int8"
    assert facts["fingerprint"].split("/")[1] == "int8"


def test_a_gate_without_a_data_set_says_what_it_reads(
    tmp_path: Path, model: Path, caches: dict[str, str]
) -> None:
    arguments = ("models", "convert", str(model), "--gate", str(tmp_path / "nothing"), "--json")
    error = failure(run(tmp_path, *arguments, variables=caches))
    assert error["type"] == "InvalidField"
    assert "qrels/train.tsv" in error["message"]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("show", "unheard-of"), "EmbeddingModelNotFound"),
        (("show", "default", "--precision", "fp64"), "InvalidField"),
        (("bench", "/nowhere/at/all"), "EmbeddingModelNotFound"),
    ],
    ids=["unknown id", "unknown precision", "no directory"],
)
def test_a_wrong_argument_is_one_sentence(
    tmp_path: Path, caches: dict[str, str], arguments: tuple[str, ...], kind: str
) -> None:
    error = failure(run(tmp_path, "models", *arguments, "--json", variables=caches))
    assert error["type"] == kind
