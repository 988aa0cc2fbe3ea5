"""The suite `embed` compares like with like, and runs without the peers."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gemm, gpu
from benchmarks.data import demo_texts
from benchmarks.rates import Rates, rounds_in_turns
from engine.models import default
from engine.models.encoder import Encoder

ROOT = Path(__file__).parents[2]


def test_the_limit_of_a_machine_is_its_multiplications_over_those_of_the_texts() -> None:
    # 2 operations a weight: 6 layers of 4 x 384^2 + 2 x 384 x 1,536 weights.
    assert gemm.MINILM.linear_flops == 2 * 6 * (4 * 384 * 384 + 2 * 384 * 1_536) == 21_233_664
    # Scores and weighted sums: 2 products of 2 x 384 for each pair of tokens in each layer.
    assert gemm.MINILM.attention_flops(10) == 6 * 2 * 2 * 384 * 10 * 10
    # One text of 200 tokens takes 200 x 21.233664e6 + 9,216 x 200^2 = 4.6153728e9.
    assert gemm.tokens_per_s(140e9, [200]) == pytest.approx(200 * 140e9 / 4.6153728e9)
    assert gemm.tokens_per_s(140e9, [200] * 9) == pytest.approx(gemm.tokens_per_s(140e9, [200]))
    assert gemm.tokens_per_s(140e9, [256]) < gemm.tokens_per_s(140e9, [16])


def test_both_measures_of_multiplication_count_the_same_work() -> None:
    shape = gemm.Shape(layers=2, hidden=64, feed_forward=256)
    for _ in range(3):
        ours = gemm.numpy_sgemm(256, 0.05, shape)
        theirs = gemm.onnxruntime_sgemm(256, 0.05, 1, shape)
        assert ours > 0 and theirs > 0
        if 0.05 < ours / theirs < 20:
            return
    pytest.fail(f"{ours:.3g} and {theirs:.3g} operations a second cannot both be right")


def test_rates_are_compared_round_by_round() -> None:
    ours, theirs = Rates((10.0, 2.0, 12.0)), Rates((5.0, 1.0, 8.0))
    assert ours.median == 10.0
    assert ours.over(theirs).values == (2, 2, 1.5)
    assert ours.over(theirs).median == 2.0
    assert Rates((12_345.6, 1_000)).spread == "1,000 to 12,346"
    assert Rates((0.12345, 0.5)).spread == "0.123 to 0.5"


def test_every_side_has_every_round_once_and_who_goes_first_changes() -> None:
    said: list[str] = []

    def side(name: str, number: int) -> float:
        said.append(f"{name}{number}")
        return number + 1

    rates = rounds_in_turns({n: lambda i, n=n: side(n, i) for n in "abc"}, 4)  # type: ignore[misc]
    assert said == ["a0", "b0", "c0", "b1", "c1", "a1", "c2", "a2", "b2", "a3", "b3", "c3"]
    assert rates["b"].values == (1, 2, 3, 4)


def _little_scifact(folder: Path) -> None:
    """BEIR's layout with what the demo's corpus has."""
    target = folder / "beir-scifact"
    (target / "qrels").mkdir(parents=True)
    texts = demo_texts()[:60]
    with gzip.open(target / "corpus.jsonl.gz", "wt") as corpus:
        for one in texts:
            corpus.write(json.dumps({"_id": one.id, "title": one.title, "text": one.text}) + "\n")
    with (target / "queries.jsonl").open("w") as queries:
        for one in texts:
            queries.write(json.dumps({"_id": f"q{one.id}", "text": one.title}) + "\n")
    for number, split in enumerate(("test", "train")):
        rows = [f"q{one.id}\t{one.id}\t1" for one in texts[number::2]]
        (target / "qrels" / f"{split}.tsv").write_text(
            "\n".join(("query-id\tcorpus-id\tscore", *rows)) + "\n"
        )


@pytest.mark.timeout(300)
def test_a_quick_run_without_the_peers_measures_ours_and_says_how_to_install_them(
    tmp_path: Path,
) -> None:
    _little_scifact(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "embed", "--quick"],
        cwd=ROOT,
        env={**os.environ, "RAGMESH_DATA": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert "uv run python -m benchmarks.peers prepare sentence_transformers" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("TARGET ")]
    values = {line[1]: float(line[2]) for line in lines}
    assert {name for name, value in values.items() if np.isnan(value)} == {
        "embed_raw_over_st",
        "embed_service_over_st",
        "embed_query_over_st_p50",
    }
    for name in ("embed_fp32_over_sgemm", "embed_many_callers_over_one"):
        assert 0.05 < values[name] < 20, name
    assert values["embed_query_beside_bulk_p99_ms"] > 1
    assert 0 < values["embed_padding_share"] < 0.5


def test_the_gpus_figures_are_taken_of_any_provider(tmp_path: Path) -> None:
    encoder = Encoder.load(default.directory(), tmp_path, threads=1, provider="cpu")
    texts = [one.text for one in demo_texts()[:6]]
    suite = gpu.measure(
        encoder, encoder, texts, ["who?", "where?"], budgets=(1_536,), repeats=1, rounds=1
    )
    figures = {one.name: one.value for one in suite.figures}
    assert figures["batches of 1,536 padded tokens"] > 50
    assert figures["cosine with the CPU"] == pytest.approx(1, abs=1e-5)


def test_a_machine_without_a_gpu_is_told_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("no GPU to measure: ")
