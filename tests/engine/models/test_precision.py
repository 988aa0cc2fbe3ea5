"""int8 is used where it was measured to be as good and the processor can do it, and only there."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from engine.errors import InvalidField
from engine.models import convert, default, gate, model_dir, precision, providers
from engine.models.encoder import Encoder
from engine.models.gate import GateRecord
from engine.models.linear import INT8_MAX, quantize_columns
from engine.models.runner import LENGTH_BUCKETS, bucket

TinyModel = Callable[..., Path]


def record(weights_hash: str, lost: float) -> GateRecord:
    return GateRecord(weights_hash, convert.VERSION, "made up", 10, 0.5, 0.5 - lost)


@pytest.fixture(params=[True, False], ids=["VNNI", "no VNNI"])
def vnni(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A processor with the instructions, and one without."""
    monkeypatch.setattr(precision, "has_int8_products", lambda: request.param)
    return bool(request.param)


def test_weights_without_a_record_stay_in_fp32(
    tiny_model: TinyModel, tmp_path: Path, vnni: bool
) -> None:
    model = model_dir.read(tiny_model())
    assert precision.choose("auto", model, "cpu", tmp_path) == "fp32"


@pytest.mark.parametrize(("lost", "passes"), [(-0.01, True), (0.004, True), (0.006, False)])
def test_a_record_decides(
    tiny_model: TinyModel, tmp_path: Path, vnni: bool, lost: float, passes: bool
) -> None:
    model = model_dir.read(tiny_model())
    gate.write_record(record(model.weights_hash, lost), tmp_path)
    expected = "int8" if passes and vnni else "fp32"
    assert precision.choose("auto", model, "cpu", tmp_path) == expected


@pytest.mark.parametrize("harm", ["cut", "other weights", "older converter"])
def test_a_record_that_is_spoiled_or_of_another_thing_is_none(
    tiny_model: TinyModel, tmp_path: Path, harm: str
) -> None:
    model = model_dir.read(tiny_model())
    good = record(model.weights_hash, 0.0)
    if harm == "cut":
        file = gate.write_record(good, tmp_path)
        file.write_bytes(file.read_bytes()[:-9])
    else:
        wrong = {"weights_hash": "0"} if harm == "other weights" else {"version": good.version - 1}
        file = gate.write_record(good, tmp_path)
        other = gate.write_record(dataclasses.replace(good, **wrong), tmp_path / "other")
        file.write_bytes(other.read_bytes())
    assert gate.record_of(model.weights_hash, tmp_path) is None


def test_the_default_model_was_measured_with_this_converter(tmp_path: Path) -> None:
    found = gate.record_of(model_dir.read(default.directory()).weights_hash, tmp_path)
    assert found is not None and found.passed


@pytest.mark.parametrize(("asked", "provider"), [("fp16", "cpu"), ("int8", "cuda")])
def test_a_precision_that_the_provider_cannot_do_is_refused(
    tiny_model: TinyModel, tmp_path: Path, asked: precision.Asked, provider: str
) -> None:
    with pytest.raises(InvalidField, match=asked) as caught:
        precision.choose(asked, model_dir.read(tiny_model()), provider, tmp_path)
    assert caught.value.field == "precision"


def test_int8_by_force_is_refused_where_its_sums_would_overflow(
    tiny_model: TinyModel, tmp_path: Path, vnni: bool
) -> None:
    model = model_dir.read(tiny_model())
    if vnni:
        assert precision.choose("int8", model, "cpu", tmp_path) == "int8"
    else:
        with pytest.raises(InvalidField, match="VNNI"):
            precision.choose("int8", model, "cpu", tmp_path)


def test_an_own_onnx_is_never_run_in_another_precision(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    path = tiny_model()
    converted = convert.onnx_file(model_dir.read(path), tmp_path / "cache")
    (path / "model.onnx").write_bytes(converted.read_bytes())
    (path / "model.safetensors").unlink()
    with pytest.raises(InvalidField, match="fp32"):
        Encoder.load(path, tmp_path / "cache", threads=1, provider="cpu", precision="int8")


@given(
    arrays(np.float32, (5, 3), elements=st.floats(-100, 100, width=32)),
)
def test_quantized_weights_are_off_by_half_a_step_at_most(weight: NDArray[np.float32]) -> None:
    quantized, scales = quantize_columns(weight)
    assert np.abs(quantized).max() <= INT8_MAX
    off = np.abs(weight - quantized * scales)
    assert (off <= scales * 0.5001 + 1e-6).all()


@given(st.data())
def test_ndcg_agrees_with_its_definition(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 25))
    scores = np.array(data.draw(st.permutations(range(count))), np.float32)
    passages = np.eye(count, dtype=np.float32)
    gains = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    judged = {row: float(gain) for row, gain in enumerate(gains)}
    if not any(gains):
        with pytest.raises(ValueError, match="relevant"):
            gate.mean_ndcg10(passages, scores[np.newaxis], {0: judged})
        return
    ranked = [gains[row] for row in sorted(range(count), key=lambda row: -scores[row])][:10]
    ideal = sorted(gains, reverse=True)[:10]
    expected = sum(g / math.log2(i + 2) for i, g in enumerate(ranked)) / sum(
        g / math.log2(i + 2) for i, g in enumerate(ideal)
    )
    found = gate.mean_ndcg10(passages, scores[np.newaxis], {0: judged})
    assert found == pytest.approx(expected)


@given(st.integers(1, 200), st.integers(1, 600))
def test_a_gpu_sees_few_shapes_and_none_too_small(rows: int, tokens: int) -> None:
    padded_rows, padded_tokens = bucket(rows, tokens)
    assert padded_rows >= rows and padded_tokens >= tokens
    assert padded_rows < 2 * rows and padded_rows.bit_count() == 1
    assert padded_tokens in LENGTH_BUCKETS or padded_tokens == tokens > LENGTH_BUCKETS[-1]


def test_inputs_bound_to_a_device_give_the_same_outputs(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    """The way a GPU is fed, on the CPU's memory."""
    file = convert.onnx_file(model_dir.read(tiny_model()), tmp_path / "cache")
    session = providers.open_session(file, "cpu", 1)
    ids = np.array([[2, 4, 3], [2, 5, 3]])
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    expected = session.run(None, feed)[0]
    found = providers.run_bound(session, "token_embeddings", feed, "cpu")
    np.testing.assert_array_equal(found, expected)
