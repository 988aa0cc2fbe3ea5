"""Cross-encoders of every family say what their definition says, in any batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.errors import ModelTaskMismatch, ModelUnavailable
from engine.models import model_dir
from engine.models.cross_encoder import CrossEncoder
from engine.models.encoder import Encoder
from tests.engine.models import families, reference

QUERY = "Which roses are blueish?"
PASSAGES = ["gold", "", "The rose is unblueish, but greener than jade.", "plum lime, " * 70]
ATOL = 2e-5

Load = Callable[[Path], CrossEncoder]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def run(path: Path) -> CrossEncoder:
        return CrossEncoder.load(
            path, tmp_path / "cache", threads=1, provider="cpu", precision="fp32"
        )

    return run


@pytest.mark.parametrize("name", families.PAIRS)
def test_logits_are_those_of_the_reference_alone_and_in_a_batch(
    name: str, tmp_path: Path, load: Load
) -> None:
    path = families.write(tmp_path / "model", name)
    model, encoder = model_dir.read(path), load(path)
    weights = families.weights(model)
    windows = [w for one in encoder.windows(QUERY, PASSAGES) for w in one]
    assert len(windows) == len(PASSAGES) + 1 and len({w.tokens for w in windows}) == len(windows)
    expected = [reference.logit(weights, model.config, w.ids, w.types) for w in windows]
    assert np.ptp(expected) > 100 * ATOL
    alone = [encoder.forward([window])[0] for window in windows]
    np.testing.assert_allclose(alone, expected, atol=ATOL)
    np.testing.assert_allclose(encoder.forward(windows), expected, atol=ATOL)
    np.testing.assert_allclose(encoder.forward(windows[::-1]), expected[::-1], atol=ATOL)


def test_which_text_is_the_query_matters(tmp_path: Path, load: Load) -> None:
    encoder = load(families.write(tmp_path / "model", "bert-pairs"))
    ((one,),), ((other,),) = encoder.windows("red", ["red"]), encoder.windows("red red", [""])
    assert sorted(one.ids) == sorted(other.ids)  # the same tokens, in other segments
    assert abs(encoder.forward([one])[0] - encoder.forward([other])[0]) > 10 * ATOL


def test_a_model_of_one_segment_is_never_given_another(tmp_path: Path) -> None:
    """tokenizers numbers the passage's part of every window but the first as segment 1, though
    RoBERTa's template says 0; an ONNX export that takes segments has no row for it."""
    path = families.write(tmp_path / "model", "roberta-pairs")
    (path / "model.safetensors").unlink()
    _save_sum_of_types(path / "model.onnx")
    encoder = CrossEncoder.load(path, tmp_path / "cache", threads=1, provider="cpu")
    (windows,) = encoder.windows(QUERY, ["plum lime, " * 70])
    assert len(windows) == 2
    assert encoder.forward(windows) == [0.0, 0.0]


def _save_sum_of_types(path: Path) -> None:
    """A model that says how many tokens of a pair are of segment 1."""
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    nodes = [
        helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["types", "axis"], ["logits"]),
    ]
    types = helper.make_tensor_value_info("token_type_ids", TensorProto.INT64, ["batch", "tokens"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])
    graph = helper.make_graph(nodes, "types", [types], [logits], [axis])
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


def test_no_pairs_give_no_logits(tmp_path: Path, load: Load) -> None:
    assert load(families.write(tmp_path / "model", "bert-pairs")).forward([]) == []


def test_a_cross_encoder_that_brings_its_own_onnx_is_run_as_it_is(
    tmp_path: Path, load: Load
) -> None:
    ours = load(families.write(tmp_path / "ours", "bert-pairs"))
    path = families.write(tmp_path / "theirs", "bert-pairs")
    (path / "model.safetensors").unlink()
    shutil.copy(ours.file, path / "model.onnx")
    theirs = load(path)
    ((window,),) = theirs.windows(QUERY, ["gold"])
    assert theirs.file == path / "model.onnx"
    assert theirs.forward([window]) == ours.forward([window])
    assert theirs.fingerprint != ours.fingerprint


def test_what_a_model_cannot_do_is_refused_when_it_is_loaded(tmp_path: Path, load: Load) -> None:
    pairs = families.write(tmp_path / "pairs", "bert-pairs")
    with pytest.raises(ModelTaskMismatch, match="scores pairs"):
        Encoder.load(pairs, tmp_path / "cache", threads=1, provider="cpu")
    with pytest.raises(ModelTaskMismatch, match="no cross-encoder"):
        load(families.write(tmp_path / "texts", "bert"))


def test_a_classifier_of_several_labels_is_no_cross_encoder(tmp_path: Path, load: Load) -> None:
    path = families.write(tmp_path / "model", "bert-pairs")
    config = json.loads((path / "config.json").read_text())
    config["id2label"] = {"0": "no", "1": "yes"}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnavailable, match="number of labels 2"):
        load(path)
