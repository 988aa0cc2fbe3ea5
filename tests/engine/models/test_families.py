"""Checkpoints of every family compute here what transformers computes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.models import convert, model_dir, providers, relative
from engine.models.encoder import Encoder
from tests.engine.models import families, reference

TEXTS = ["red", "", "Blueish roses, greener than jade: why?", "gold " * 60]
ATOL = 2e-5


def _golden(name: str) -> dict[str, NDArray[Any]]:
    with np.load(families.GOLDEN / name / "outputs.npz") as file:
        return dict(file)


def _run(name: str, tmp_path: Path) -> NDArray[np.float32]:
    """The converted graph's output for the golden batch, padding included."""
    model = model_dir.read(families.write(tmp_path / "model", name))
    session = providers.open_session(convert.onnx_file(model, tmp_path / "cache"), "cpu", 1)
    golden = _golden(name)
    ids = golden["ids"].astype(np.int64)
    mask = np.arange(ids.shape[1]) < golden["lengths"][:, np.newaxis]
    feed = {
        "input_ids": ids,
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": golden["types"].astype(np.int64),
    }
    taken = {entry.name for entry in session.get_inputs()}
    found: NDArray[np.float32] = session.run(None, {n: v for n, v in feed.items() if n in taken})[0]
    return found if name in families.PAIRS else found[mask]


@pytest.mark.parametrize("name", families.ENCODERS)
def test_token_outputs_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    np.testing.assert_allclose(_run(name, tmp_path), _golden(name)["outputs"], atol=ATOL)


@pytest.mark.parametrize("name", families.PAIRS)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    expected = _golden(name)["outputs"]
    assert np.ptp(expected) > 100 * ATOL  # so that telling texts apart is what is tested
    np.testing.assert_allclose(_run(name, tmp_path), expected, atol=ATOL)


@pytest.mark.parametrize("name", [*families.ENCODERS, *families.PAIRS])
def test_the_reference_of_these_tests_is_transformers_too(name: str, tmp_path: Path) -> None:
    model = model_dir.read(families.write(tmp_path / "model", name))
    weights, golden, row = families.weights(model), _golden(name), 0
    for text, length in enumerate(golden["lengths"]):
        ids, types = golden["ids"][text, :length], golden["types"][text, :length]
        if name == "bert-pairs":
            found: Any = reference.logit(weights, model.config, ids, types)
        elif name in families.PAIRS:
            found = reference.logit(weights, model.config, ids)
        else:
            found = reference.token_embeddings(weights, model.config, ids)
        rows = 1 if name in families.PAIRS else length
        expected = golden["outputs"][row : row + rows]
        np.testing.assert_allclose(np.reshape(found, expected.shape), expected, atol=ATOL)
        row += rows


@pytest.mark.parametrize(
    ("name", "pooling"),
    [(name, "mean") for name in families.ENCODERS]
    + [("distilbert", "cls"), ("mpnet", "cls"), ("bert", "lasttoken"), ("roberta", "lasttoken")],
)
def test_vectors_are_the_pooled_reference(name: str, pooling: str, tmp_path: Path) -> None:
    modes = {f"pooling_mode_{pooling}{'' if pooling == 'lasttoken' else '_token'}": True}
    if pooling == "mean":
        modes = {"pooling_mode_mean_tokens": True}
    path = families.write(tmp_path / "model", name, files={"1_Pooling/config.json": modes})
    model = model_dir.read(path)
    encoder = Encoder.load(path, tmp_path / "cache", threads=1, provider="cpu", precision="fp32")
    encoded = encoder.embed(TEXTS, "passage")
    for text, vector in zip(encoder.tokenize(TEXTS, "passage"), encoded.vectors, strict=True):
        outputs = reference.token_embeddings(families.weights(model), model.config, text.ids)
        pooled = {"mean": outputs.mean(0), "cls": outputs[0], "lasttoken": outputs[-1]}[pooling]
        np.testing.assert_allclose(vector, pooled / np.linalg.norm(pooled), atol=ATOL)


def test_every_distance_has_its_bucket() -> None:
    distances = np.arange(-300, 301)
    expected = [reference.bucket(int(distance), 32) for distance in distances]
    assert relative.buckets(distances, 32).tolist() == expected
    assert set(expected) == set(range(32)) - {16}  # 16 would be "after, at no distance"
