"""A checkpoint becomes a graph that computes what BERT is defined to compute, and stays sound."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from engine.errors import DataLoss, ModelUnavailable
from engine.models import convert, model_dir, providers
from engine.models.encoder import Encoder

TinyModel = Callable[..., Path]

Array = NDArray[np.float64]


def _reference(weights: dict[str, Array], config: dict[str, Any], ids: list[int]) -> Array:
    """BERT's encoder for one unpadded text, after the paper, in float64."""
    heads = config["num_attention_heads"]
    first = config.get("first_position", 0)

    def linear(x: Array, name: str) -> Array:
        result: Array = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return result

    def norm(x: Array, name: str) -> Array:
        centered = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
        result: Array = centered / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return result

    def activate(x: Array) -> Array:
        if config["hidden_act"] == "relu":
            return np.maximum(x, 0)
        if config["hidden_act"] == "gelu_new":
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
            return np.asarray(0.5 * x * (1 + np.tanh(inner)))
        return np.asarray(0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))

    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][first : first + len(ids)]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        base = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{base}.attention.self.{part}").reshape(len(ids), heads, -1)
            for part in ("query", "key", "value")
        )
        scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(q.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed = np.einsum("hij,jhd->ihd", scores, v).reshape(x.shape)
        output = linear(mixed, f"{base}.attention.output.dense")
        x = norm(output + x, f"{base}.attention.output.LayerNorm")
        inner_layer = activate(linear(x, f"{base}.intermediate.dense"))
        x = norm(linear(inner_layer, f"{base}.output.dense") + x, f"{base}.output.LayerNorm")
    return x


@pytest.mark.parametrize(
    ("config", "prefix", "first_position"),
    [
        ({}, "", 0),
        ({"hidden_act": "gelu_new"}, "bert.", 0),
        ({"hidden_act": "relu"}, "", 0),
        ({"model_type": "roberta", "pad_token_id": 1}, "roberta.", 2),
    ],
)
def test_the_graph_agrees_with_the_definition_of_bert(
    tiny_model: TinyModel, config: dict[str, Any], prefix: str, first_position: int, tmp_path: Path
) -> None:
    model = model_dir.read(tiny_model(config, prefix=prefix))
    weights = {
        name: np.asarray(array, np.float64)
        for name, array in convert.checkpoint(model.weights, model.known_family()).items()
    }
    session = providers.open_session(convert.onnx_file(model, tmp_path / "cache"), "cpu", 1)
    texts = [[2, 4, 3], [2, 5, 7, 6, 4, 10, 3], [2, 3]]
    ids = np.zeros((3, 7), np.int64)
    mask = np.zeros((3, 7), np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    outputs = session.run(None, {"input_ids": ids, "attention_mask": mask})
    assert len(outputs) == 1
    for row, text in enumerate(texts):
        expected = _reference(weights, {**model.config, "first_position": first_position}, text)
        np.testing.assert_allclose(outputs[0][row, : len(text)], expected, atol=2e-5)


def test_half_precision_weights_are_widened(tiny_model: TinyModel, tmp_path: Path) -> None:
    wide = Encoder.load(tiny_model(), tmp_path / "cache", threads=1, provider="cpu")
    half = Encoder.load(tiny_model(dtype=np.float16), tmp_path / "cache", threads=1, provider="cpu")
    a, b = (e.embed(["red blueish."], "passage").vectors[0] for e in (wide, half))
    assert float(a @ b) > 0.9999
    assert wide.fingerprint != half.fingerprint


def test_the_graph_is_valid_onnx(tiny_model: TinyModel, tmp_path: Path) -> None:
    file = convert.onnx_file(model_dir.read(tiny_model()), tmp_path / "cache")
    onnx.checker.check_model(onnx.load(file), full_check=True)


@pytest.mark.parametrize("harm", ["half", "flip", "empty", "gone", "no hash", "wrong hash"])
def test_a_spoiled_cached_file_heals_itself(
    tiny_model: TinyModel, tmp_path: Path, harm: str
) -> None:
    model = model_dir.read(tiny_model())
    file = convert.onnx_file(model, tmp_path / "cache")
    good = file.read_bytes()
    record = file.with_suffix(".sha256")
    if harm == "half":
        file.write_bytes(good[: len(good) // 2])
    elif harm == "flip":
        file.write_bytes(good[:-100] + bytes([good[-100] ^ 1]) + good[-99:])
    elif harm == "empty":
        file.write_bytes(b"")
    elif harm == "gone":
        file.unlink()
    elif harm == "no hash":
        record.unlink()
    else:
        record.write_text(json.dumps({"sha256": "0" * 64}))
    assert convert.onnx_file(model, tmp_path / "cache").read_bytes() == good


def test_a_sound_cached_file_is_not_written_again(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = model_dir.read(tiny_model())
    first = convert.onnx_file(model, tmp_path / "cache").stat()
    second = convert.onnx_file(model, tmp_path / "cache").stat()
    assert (first.st_ino, first.st_mtime_ns) == (second.st_ino, second.st_mtime_ns)


def test_a_crash_while_writing_leaves_nothing_behind(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = model_dir.read(tiny_model())
    cache = tmp_path / "cache"
    file = convert.onnx_file(model, cache)
    files = sorted(path.name for path in cache.iterdir())
    file.unlink()
    (cache / f".{file.name}.tmp").write_bytes(b"half of a mod")
    convert.onnx_file(model, cache)
    assert sorted(path.name for path in cache.iterdir()) == files


def _convert(path: str, cache: str) -> str:
    return str(convert.onnx_file(model_dir.read(Path(path)), Path(cache)))


def test_processes_that_convert_at_once_share_one_sound_file(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    path, cache = tiny_model(), tmp_path / "cache"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        files = set(pool.starmap(_convert, [(str(path), str(cache))] * 6))
    assert len(files) == 1
    Encoder.load(path, cache, threads=1, provider="cpu")


def test_two_settings_of_the_same_weights_do_not_share_a_file(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    one = convert.onnx_file(model_dir.read(tiny_model()), tmp_path / "cache")
    two = convert.onnx_file(model_dir.read(tiny_model({"hidden_act": "relu"})), tmp_path / "cache")
    assert one != two


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "t5"},
        {"hidden_act": "swish"},
        {"position_embedding_type": "relative_key"},
    ],
)
def test_an_architecture_that_is_not_bert_is_refused_by_name(
    tiny_model: TinyModel, tmp_path: Path, config: dict[str, str]
) -> None:
    model = model_dir.read(tiny_model(config))
    with pytest.raises(ModelUnavailable) as caught:
        convert.onnx_file(model, tmp_path / "cache")
    assert set(config.values()) == {caught.value.metadata["value"]}
    assert caught.value.metadata["value"] in caught.value.message


@pytest.mark.parametrize("config", [{"num_attention_heads": 3}, {"num_hidden_layers": 0}])
def test_numbers_that_do_not_fit_together_are_refused(
    tiny_model: TinyModel, tmp_path: Path, config: dict[str, int]
) -> None:
    with pytest.raises(DataLoss):
        convert.onnx_file(model_dir.read(tiny_model(config)), tmp_path / "cache")


def test_a_missing_tensor_is_named(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = model_dir.read(tiny_model({"num_hidden_layers": 3}))
    with pytest.raises(DataLoss, match=r"encoder\.layer\.2\."):
        convert.onnx_file(model, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.onnx"))


def test_a_damaged_checkpoint_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    path = tiny_model()
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(DataLoss, match=r"model\.safetensors"):
        convert.onnx_file(model_dir.read(path), tmp_path / "cache")
