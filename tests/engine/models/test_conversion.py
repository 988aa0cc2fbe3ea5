"""A checkpoint becomes a graph that computes what BERT is defined to compute, and stays sound."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from engine.errors import DataLoss, ModelUnavailable
from engine.models import convert, model_dir, providers
from engine.models.encoder import Encoder
from tests.engine.models import families, reference

TinyModel = Callable[..., Path]


@pytest.mark.parametrize(
    ("config", "prefix"),
    [
        ({}, ""),
        ({"hidden_act": "gelu_new"}, "bert."),
        ({"hidden_act": "relu"}, ""),
        ({"model_type": "roberta", "pad_token_id": 1}, "roberta."),
    ],
)
def test_the_graph_agrees_with_the_definition_of_bert(
    tiny_model: TinyModel, config: dict[str, Any], prefix: str, tmp_path: Path
) -> None:
    model = model_dir.read(tiny_model(config, prefix=prefix))
    weights = families.weights(model)
    session = providers.open_session(convert.onnx_file(model, tmp_path / "cache"), "cpu", 1)
    texts = [[2, 4, 3], [2, 5, 7, 6, 4, 10, 3], [2, 3]]
    ids = np.zeros((3, 7), np.int64)
    mask = np.zeros((3, 7), np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    outputs = session.run(None, {"input_ids": ids, "attention_mask": mask})
    assert len(outputs) == 1
    for row, text in enumerate(texts):
        expected = reference.token_embeddings(weights, model.config, text)
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
