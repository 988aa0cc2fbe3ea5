"""Small real checkpoints: a BERT of random weights and a vocabulary of nine pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from tokenizers.processors import TemplateProcessing

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "blue", "##ish", ".")
HEADS, LAYERS, POSITIONS = 2, 2, 32


def write(
    path: Path, *, seed: int = 0, hidden: int = 8, rerank: bool = False, vocabulary: int = 0
) -> Path:
    """A model directory at `path`; `vocabulary` adds rows that no text uses, for its size."""
    path.mkdir(parents=True)
    config: dict[str, Any] = {
        "model_type": "bert",
        "hidden_size": hidden,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "hidden_act": "gelu",
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
    }
    if rerank:
        config |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "L"}}
    (path / "config.json").write_text(json.dumps(config))
    _tokenizer().save(str(path / "tokenizer.json"))
    save_file(_tensors(seed, hidden, rerank, vocabulary), path / "model.safetensors")
    return path


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def _tensors(
    seed: int, hidden: int, rerank: bool, vocabulary: int
) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (hidden,)

    rows = {"word": len(WORDS) + vocabulary, "position": POSITIONS, "token_type": 2}
    for table, count in rows.items():
        shapes[f"embeddings.{table}_embeddings.weight"] = (count, hidden)
    norm("embeddings.LayerNorm")
    for layer in range(LAYERS):
        base = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{base}.attention.self.{part}", hidden, hidden)
        linear(f"{base}.attention.output.dense", hidden, hidden)
        norm(f"{base}.attention.output.LayerNorm")
        linear(f"{base}.intermediate.dense", 2 * hidden, hidden)
        linear(f"{base}.output.dense", hidden, 2 * hidden)
        norm(f"{base}.output.LayerNorm")
    prefix = "bert." if rerank else ""
    shapes = {prefix + name: shape for name, shape in shapes.items()}
    if rerank:
        linear("bert.pooler.dense", hidden, hidden)
        linear("classifier", 1, hidden)
    return {
        name: rng.normal(size=shape, scale=0.5).astype(np.float32) for name, shape in shapes.items()
    }
