"""The encoder architectures that checkpoints come in, brought to one set of tensor names.

All are the encoder of Devlin et al. 2019 and differ in names, in where positions begin, and in one
addition: MPNet adds a bias by relative position to the attention scores. The canonical names are
those of Hugging Face's `modeling_bert.py`; a sequence classifier's head becomes `head.dense` and
`head.out`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

Weights = Mapping[str, NDArray[Any]]
HeadActivation = Literal["tanh", "relu"]

RELATIVE_BIAS = "encoder.relative_attention_bias.weight"
POOLER = "pooler.dense"


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture. `keys` are config.json's names for sizes, `renames` lead from a
    checkpoint's tensor names, without prefix, to the canonical ones, the first that matches."""

    prefix: str
    hidden: str = "hidden_size"
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    activation: str = "hidden_act"
    renames: tuple[tuple[str, str], ...] = ()
    head_activation: HeadActivation = "tanh"
    skips_padding_positions: bool = False

    def first_position(self, config: Mapping[str, Any]) -> int:
        """The row of the position table that the first token takes: RoBERTa's rows 0 to
        pad_token_id belong to padding."""
        if not self.skips_padding_positions:
            return 0
        return int(config.get("pad_token_id", 1)) + 1

    def canonical(self, tensors: Weights) -> Weights:
        """The tensors by canonical names."""
        return {self._rename(name.removeprefix(self.prefix)): v for name, v in tensors.items()}

    def _rename(self, name: str) -> str:
        for pattern, replacement in self.renames:
            renamed, count = re.subn(pattern, replacement, name)
            if count:
                return renamed
        return name


_ROBERTA_HEAD = (
    (r"^classifier\.dense\.", "head.dense."),
    (r"^classifier\.out_proj\.", "head.out."),
)
_BERT_HEAD = (
    (r"^classifier\.", "head.out."),
    (rf"^(?:bert\.)?{re.escape(POOLER)}\.", "head.dense."),
)

_BERT = Family(prefix="bert.", renames=_BERT_HEAD)
_ROBERTA = Family(prefix="roberta.", renames=_ROBERTA_HEAD, skips_padding_positions=True)
_DISTILBERT = Family(
    prefix="distilbert.",
    hidden="dim",
    layers="n_layers",
    heads="n_heads",
    activation="activation",
    head_activation="relu",
    renames=(
        (
            r"^transformer\.layer\.(\d+)\.attention\.q_lin\.",
            r"encoder.layer.\1.attention.self.query.",
        ),
        (
            r"^transformer\.layer\.(\d+)\.attention\.k_lin\.",
            r"encoder.layer.\1.attention.self.key.",
        ),
        (
            r"^transformer\.layer\.(\d+)\.attention\.v_lin\.",
            r"encoder.layer.\1.attention.self.value.",
        ),
        (
            r"^transformer\.layer\.(\d+)\.attention\.out_lin\.",
            r"encoder.layer.\1.attention.output.dense.",
        ),
        (
            r"^transformer\.layer\.(\d+)\.sa_layer_norm\.",
            r"encoder.layer.\1.attention.output.LayerNorm.",
        ),
        (r"^transformer\.layer\.(\d+)\.ffn\.lin1\.", r"encoder.layer.\1.intermediate.dense."),
        (r"^transformer\.layer\.(\d+)\.ffn\.lin2\.", r"encoder.layer.\1.output.dense."),
        (r"^transformer\.layer\.(\d+)\.output_layer_norm\.", r"encoder.layer.\1.output.LayerNorm."),
        (r"^pre_classifier\.", "head.dense."),
        (r"^classifier\.", "head.out."),
    ),
)
_MPNET = Family(
    prefix="mpnet.",
    skips_padding_positions=True,
    renames=(
        (r"\.attention\.attn\.q\.", ".attention.self.query."),
        (r"\.attention\.attn\.k\.", ".attention.self.key."),
        (r"\.attention\.attn\.v\.", ".attention.self.value."),
        (r"\.attention\.attn\.o\.", ".attention.output.dense."),
        (r"\.attention\.LayerNorm\.", ".attention.output.LayerNorm."),
        *_ROBERTA_HEAD,
    ),
)

FAMILIES: Mapping[str, Family] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": _DISTILBERT,
    "mpnet": _MPNET,
}
"""By config.json's `model_type`."""
