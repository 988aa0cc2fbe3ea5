"""The small checkpoints of tests/golden/families, each made a whole model directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from tokenizers.processors import TemplateProcessing

from engine.models import convert, model_dir

GOLDEN = Path(__file__).parents[2] / "golden" / "families"
ENCODERS = ("bert", "bert-tanh-gelu", "roberta", "xlm-roberta", "distilbert", "mpnet")
PAIRS = ("bert-pairs", "roberta-pairs", "distilbert-pairs", "mpnet-pairs")

WORDS = (
    *("red", "green", "blue", "cyan", "rose", "teal", "gold", "gray", "pink", "plum", "lime"),
    *("navy", "rust", "sand", "jade", "coal", "mint", "corn", "wine", "fern"),
    *("##ish", "##er", "##est", "##ly", "##s", "##ed", "##ing", "##un", "##re", "##like"),
    *(":", ".", ",", "?", "!"),
)
"""35 pieces, which follow five special ones."""


def write(path: Path, name: str, *, files: dict[str, Any] | None = None) -> Path:
    """Copies a checkpoint to `path`, gives it a tokenizer, and JSON `files` by their names."""
    shutil.copytree(GOLDEN / name, path)
    for file, value in (files or {}).items():
        (path / file).parent.mkdir(exist_ok=True)
        (path / file).write_text(json.dumps(value))
    config = json.loads((path / "config.json").read_text())
    tokenizer(roberta="roberta" in config["model_type"]).save(str(path / "tokenizer.json"))
    return path


def tokenizer(*, roberta: bool) -> Tokenizer:
    """WordPiece over WORDS with BERT's special tokens, or RoBERTa's, which has one segment."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    single, pair = "<s> $A </s>", "<s> $A </s> </s> $B:0 </s>"
    if not roberta:
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        single, pair = "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    made = Tokenizer(WordPiece(vocabulary, unk_token=special[3 if roberta else 1]))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(one, i) for i, one in enumerate(special)]
    made.post_processor = TemplateProcessing(single=single, pair=pair, special_tokens=ends)
    return made


def weights(model: model_dir.ModelDir) -> dict[str, NDArray[np.float64]]:
    """The checkpoint's tensors by canonical names, wide enough for the reference."""
    found = convert.checkpoint(model.weights, model.known_family())
    return {name: np.asarray(array, np.float64) for name, array in found.items()}
