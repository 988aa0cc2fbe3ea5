"""The real model, its golden vectors, and a tiny checkpoint made up on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from tokenizers.processors import TemplateProcessing

from engine.models import default
from engine.models.encoder import Encoder

GOLDEN = Path(__file__).parents[2] / "golden" / "minilm"

TinyModel = Callable[..., Path]


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def encoder(cache_dir: Path) -> Encoder:
    """all-MiniLM-L6-v2 on the CPU, in the precision of its checkpoint."""
    directory = default.directory()
    return Encoder.load(directory, cache_dir, provider="cpu", precision="fp32", threads=2)


@pytest.fixture(scope="session")
def golden_texts() -> list[str]:
    texts: list[str] = json.loads((GOLDEN / "texts.json").read_text(encoding="utf-8"))
    return texts


@pytest.fixture(scope="session")
def golden_vectors() -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = np.load(GOLDEN / "embeddings.npy")
    return vectors


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "blue", "##ish", "query", ":", "."]
HIDDEN, HEADS, LAYERS, INNER, POSITIONS = 8, 2, 2, 16, 20


@pytest.fixture
def tiny_model(tmp_path: Path) -> TinyModel:
    """Writes a BERT of random weights with a vocabulary of eleven pieces; returns its directory."""

    def write(
        config: dict[str, Any] | None = None,
        files: dict[str, Any] | None = None,
        *,
        prefix: str = "",
        dtype: type[np.floating[Any]] = np.float32,
    ) -> Path:
        path = tmp_path / f"tiny-{len(list(tmp_path.iterdir()))}"
        path.mkdir()
        (path / "config.json").write_text(json.dumps(_config() | (config or {})))
        for name, value in (files or {}).items():
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(json.dumps(value))
        _tokenizer().save(str(path / "tokenizer.json"))
        tensors = {prefix + k: v.astype(dtype) for k, v in _tensors().items()}
        save_file(tensors, path / "model.safetensors")
        return path

    return write


def _config() -> dict[str, Any]:
    return {
        "model_type": "bert",
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
    }


def _tokenizer() -> Tokenizer:
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16)
    return tokenizer


def _tensors() -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(7)
    tensors: dict[str, NDArray[np.float64]] = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        tensors[f"{name}.weight"] = rng.normal(size=(outputs, inputs), scale=0.5)
        tensors[f"{name}.bias"] = rng.normal(size=outputs)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = rng.normal(size=HIDDEN, loc=1.0, scale=0.2)
        tensors[f"{name}.bias"] = rng.normal(size=HIDDEN)

    for table, rows in (("word", len(WORDS)), ("position", POSITIONS), ("token_type", 2)):
        name = f"embeddings.{table}_embeddings.weight"
        tensors[name] = rng.normal(size=(rows, HIDDEN))
    norm("embeddings.LayerNorm")
    for layer in range(LAYERS):
        base = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{base}.attention.self.{part}", HIDDEN, HIDDEN)
        linear(f"{base}.attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{base}.attention.output.LayerNorm")
        linear(f"{base}.intermediate.dense", INNER, HIDDEN)
        linear(f"{base}.output.dense", HIDDEN, INNER)
        norm(f"{base}.output.LayerNorm")
    return tensors
