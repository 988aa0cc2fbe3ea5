"""The graph that runs is the one that was meant to, and in int8 it says nearly the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from engine.errors import InvalidField
from engine.models import convert, default, model_dir, precision, providers
from engine.models.encoder import Encoder
from engine.models.linear import Precision
from engine.models.model_dir import ModelDir
from tests.engine.models import families

COSINE_MIN, COSINE_MEDIAN_MIN = 0.98, 0.99
"""The furthest off are texts of no word at all."""
BATCH_COSINE_MIN = 0.9999


def _nodes(model: ModelDir, digits: Precision, tmp_path: Path) -> Counter[str]:
    """The operators that are left after onnxruntime's own optimization, as a session sets it."""
    options = providers._options(1)
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(
        str(convert.onnx_file(model, tmp_path / "cache", digits)),
        options,
        providers=[providers.PROVIDERS["cpu"]],
        disabled_optimizers=providers._SLOWER,
    )
    graph = onnx.load(tmp_path / "optimized.onnx", load_external_data=False).graph
    return Counter(node.op_type for node in graph.node)


@pytest.mark.parametrize("digits", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["default", *families.ENCODERS, "bert-pairs"])
def test_what_is_fused_stays_fused(name: str, digits: Precision, tmp_path: Path) -> None:
    if name == "default":
        model = model_dir.read(default.directory())
    else:
        model = model_dir.read(families.write(tmp_path / "model", name))
    layers = model.config.get("num_hidden_layers") or model.config["n_layers"]
    nodes = _nodes(model, digits, tmp_path)
    assert nodes["MultiHeadAttention"] == layers
    gelu = (model.config.get("hidden_act") or model.config["activation"]) == "gelu"
    assert nodes["BiasGelu"] == (layers if gelu else 0)
    assert nodes["LayerNormalization"] == 2 * layers + 1
    assert nodes["SkipLayerNormalization"] == 0
    # The packed projections, the attention's output, and the two of the feed-forward part.
    assert nodes["MatMulIntegerToFloat"] == (4 * layers if digits == "int8" else 0)
    assert nodes["QuantizeLinear"] == nodes["MatMulIntegerToFloat"]
    assert not [name for name in nodes if name.startswith("DynamicQuantize")]
    assert not {"Softmax", "Erf", "DequantizeLinear"} & nodes.keys()


def _vectors(
    texts: list[str], model: ModelDir, digits: Precision, cache_dir: Path, *, together: bool
) -> NDArray[np.float32]:
    encoder = Encoder.load(model.path, cache_dir, threads=2, provider="cpu", precision=digits)
    tokenized = encoder.tokenize(texts, "passage", truncate=True)
    batches = [tokenized] if together else [[one] for one in tokenized]
    return np.concatenate([encoder.forward(batch).vectors for batch in batches])


@pytest.mark.parametrize("name", ["default", *families.ENCODERS])
def test_int8_is_close_to_fp32_and_does_not_depend_on_the_batch_or_is_refused(
    name: str, tmp_path: Path, cache_dir: Path, golden_texts: list[str]
) -> None:
    if name == "default":
        model, texts = model_dir.read(default.directory()), golden_texts[::4]
    else:
        model = model_dir.read(families.write(tmp_path / "model", name))
        texts = ["red", "Blueish roses, greener than jade: why?", "gold " * 60, ""]
    if not precision.has_int8_products():
        with pytest.raises(InvalidField, match="VNNI"):
            _vectors(texts, model, "int8", cache_dir, together=True)
        return
    exact = _vectors(texts, model, "fp32", cache_dir, together=True)
    alone = _vectors(texts, model, "int8", cache_dir, together=False)
    batched = _vectors(texts, model, "int8", cache_dir, together=True)
    cosines = (exact * alone).sum(axis=1)
    assert cosines.min() >= COSINE_MIN and np.median(cosines) >= COSINE_MEDIAN_MIN
    assert (batched * alone).sum(axis=1).min() >= BATCH_COSINE_MIN
