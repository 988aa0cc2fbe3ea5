"""Writes a checkpoint as an ONNX graph: no torch, only numpy and onnx.

Inputs are `input_ids` and `attention_mask`, int64 (batch, tokens), and for a cross-encoder
`token_type_ids`. The output of an encoder is `token_embeddings`, float32 (batch, tokens, hidden):
the last layer, unpooled, because sentence vectors need the tokens and pooling them in numpy costs
under 1 % of the forward pass. A cross-encoder's is `logits`, float32 (batch, labels).

What is fused, and how it was chosen (all-MiniLM-L6-v2 on 2 cores with VNNI, CPU time of 1,536
tokens in turns, int8): the three projections are one product; attention is one node, 10 % faster
overall without a mask, because only then onnxruntime uses its flash kernel (see `_attention`); bias
and Gelu are one node. Addition and LayerNormalization stay two nodes: SkipLayerNormalization, one
node, is 11 % slower on the CPU.

After Devlin et al. 2019; names as in Hugging Face's `modeling_bert.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from engine.errors import DataLoss
from engine.models.families import RELATIVE_BIAS, HeadActivation, Weights
from engine.models.linear import Linear, Precision, join, linear
from engine.models.nodes import MICROSOFT, Builder
from engine.models.relative import position_bias

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
TOKENS, LOGITS = "token_embeddings", "logits"

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

MASKED = -1e9
"""Added to the attention score of padding: its weight becomes exactly 0 in float32."""

Target = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a checkpoint that its weights do not carry. `head` is None for an encoder,
    else the activation inside a cross-encoder's head."""

    layers: int
    heads: int
    hidden: int
    activation: str
    epsilon: float
    first_position: int
    head: HeadActivation | None = None


def build(
    weights: Weights, shape: Shape, precision: Precision = "fp32", target: Target = "cpu"
) -> ModelProto:
    """The whole graph. Raises DataLoss where a tensor is missing."""
    return _Writer(weights, shape, precision, target).model()


class _Writer:
    def __init__(
        self, weights: Weights, shape: Shape, precision: Precision, target: Target
    ) -> None:
        self._weights = weights
        self._shape = shape
        self._linear: Linear = linear(precision)
        self._b = Builder(np.float16 if precision == "fp16" else np.float32)
        # The flash kernel takes neither mask nor bias; on CUDA the masked one is as fast.
        self._flash = target == "cpu" and RELATIVE_BIAS not in weights

    def model(self) -> ModelProto:
        shape, b = self._shape, self._b
        x = self._embeddings()
        mask = self._mask()
        bias = position_bias(b, self._tensor(RELATIVE_BIAS)) if self._relative else ""
        for layer in range(shape.layers):
            x = self._layer(f"encoder.layer.{layer}", x, mask, bias)
        inputs = [IDS, MASK]
        if shape.head is None:
            b.add("Cast", [x], TOKENS, to=TensorProto.FLOAT)
            output = helper.make_tensor_value_info(
                TOKENS, TensorProto.FLOAT, ["batch", "tokens", shape.hidden]
            )
        else:
            inputs += [TYPES] if self._typed else []
            labels = self._head(x, shape.head)
            output = helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", labels])
        wanted = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in inputs
        ]
        return b.model("encoder", wanted, [output])

    @property
    def _relative(self) -> bool:
        return RELATIVE_BIAS in self._weights

    @property
    def _typed(self) -> bool:
        """Whether segments are told apart: query and passage of a cross-encoder."""
        types = self._weights.get("embeddings.token_type_embeddings.weight")
        return self._shape.head is not None and types is not None and len(types) > 1

    def _tensor(self, name: str) -> NDArray[np.float32]:
        if name not in self._weights:
            raise DataLoss(
                f"the checkpoint has no tensor {name}; copy the model again",
                metadata={"tensor": name},
            )
        return np.asarray(self._weights[name], dtype=np.float32)

    def _product(self, x: str, name: str) -> str:
        return self._linear(self._b, x, name, self._tensor(f"{name}.weight"))

    def _bias(self, name: str) -> str:
        return self._b.weight(f"{name}.bias", self._tensor(f"{name}.bias"))

    def _layer_norm(self, x: str, name: str) -> str:
        scale = self._b.weight(f"{name}.weight", self._tensor(f"{name}.weight"))
        # An epsilon of 1e-12 vanishes beside a float32 variance, here as in torch.
        return self._b.add(
            "LayerNormalization",
            [x, scale, self._bias(name)],
            f"{name}.out",
            axis=-1,
            epsilon=self._shape.epsilon,
        )

    def _added(self, product: str, bias: str, x: str, name: str) -> str:
        """product + bias + x, normalized."""
        b = self._b
        moved = b.add("Add", [product, self._bias(bias)], f"{bias}.out")
        return self._layer_norm(b.add("Add", [moved, x], f"{name}.residual"), name)

    def _embeddings(self) -> str:
        b = self._b
        table = self._tensor("embeddings.position_embeddings.weight")[self._shape.first_position :]
        types = "embeddings.token_type_embeddings.weight"
        if types in self._weights and not self._typed:
            table = table + self._tensor(types)[0]  # there is one segment
        words = b.weight("words", self._tensor("embeddings.word_embeddings.weight"))
        size = b.add("Shape", [IDS], "tokens.count", start=1, end=2)
        zero = b.constant("zero", np.array([0], np.int64))
        used = b.add("Slice", [b.weight("positions", table), zero, size, zero], "positions.used")
        total = b.add("Add", [b.add("Gather", [words, IDS], "words.used"), used], "embeddings.sum")
        if self._typed:
            kinds = b.add("Gather", [b.weight("types", self._tensor(types)), TYPES], "types.used")
            total = b.add("Add", [total, kinds], "embeddings.typed")
        return self._layer_norm(total, "embeddings.LayerNorm")

    def _mask(self) -> str:
        """What padding is known by: for the flash kernel, a number to add to each head's last key
        coordinate, (batch, tokens, heads · (size + 1)); else int32 (batch, tokens)."""
        b, shape = self._b, self._shape
        if not self._flash:
            return b.add("Cast", [MASK], "mask.integers", to=TensorProto.INT32)
        size = shape.hidden // shape.heads
        last = np.zeros((shape.heads, size + 1), np.float32)
        last[:, size] = MASKED
        wide = b.add(
            "Unsqueeze", [MASK, b.constant("last.axis", np.array([-1], np.int64))], "mask.wide"
        )
        real = b.add("Cast", [wide], "mask.float", to=TensorProto.FLOAT)
        padding = b.add("Sub", [b.weight("one", np.array(1)), real], "mask.padding")
        return b.add(
            "Mul", [padding, b.weight("mask.coordinate", last.reshape(1, 1, -1))], "mask.keys"
        )

    def _layer(self, name: str, x: str, mask: str, bias: str) -> str:
        output = f"{name}.attention.output"
        attended = self._attention(f"{name}.attention", x, mask, bias)
        product = self._product(attended, f"{output}.dense")
        x = self._added(product, f"{output}.dense", x, f"{output}.LayerNorm")
        inner = self._product(x, f"{name}.intermediate.dense")
        inner = self._activated(inner, f"{name}.intermediate.dense")
        product = self._product(inner, f"{name}.output.dense")
        return self._added(product, f"{name}.output.dense", x, f"{name}.output.LayerNorm")

    def _activated(self, x: str, name: str) -> str:
        b, activation = self._b, self._shape.activation
        if activation == "gelu":
            return b.add("BiasGelu", [x, self._bias(name)], f"{name}.active", domain=MICROSOFT)
        x = b.add("Add", [x, self._bias(name)], f"{name}.out")
        if activation == "relu":
            return b.add("Relu", [x], f"{name}.active")
        return b.add("Gelu", [x], f"{name}.active", approximate="tanh")

    def _attention(self, name: str, x: str, mask: str, bias: str) -> str:
        """Attention of every token to every other that is not padding.

        For the flash kernel, padding is masked by a coordinate more: each query ends in 1 and each
        key in 0, or in MASKED where it is padding, so that their product is the mask.
        """
        b, shape = self._b, self._shape
        size = shape.hidden // shape.heads
        parts = [f"{name}.self.{part}" for part in ("query", "key", "value")]
        weights = [self._tensor(f"{part}.weight") for part in parts]
        biases = [self._tensor(f"{part}.bias") for part in parts]
        if self._flash:
            weights[:2] = [_with_coordinate(weight, shape.heads, 0) for weight in weights[:2]]
            biases[0] = _with_coordinate(biases[0], shape.heads, 1)
            biases[1] = _with_coordinate(biases[1], shape.heads, 0)
        packed = self._linear(b, x, f"{name}.packed", join(weights))
        q, k, v = b.split(packed, [len(one) for one in biases], f"{name}.parts")
        if self._flash:
            k = b.add("Add", [k, mask], f"{name}.keys")
        inputs = [q, k, v, b.weight(f"{name}.packed.bias", join(biases))]
        if not self._flash:
            inputs += [mask, bias]
        return b.add(
            "MultiHeadAttention",
            inputs,
            f"{name}.out",
            domain=MICROSOFT,
            num_heads=shape.heads,
            scale=float(size) ** -0.5,
        )

    def _head(self, x: str, activation: HeadActivation) -> int:
        """From the first token to one number a label."""
        b = self._b
        first = b.constant("first", np.array(0, np.int64))
        x = b.add("Gather", [x, first], "head.first", axis=1)
        for name in ("head.dense", "head.out"):
            weight = b.weight(f"{name}.weight", self._tensor(f"{name}.weight").T)
            product = b.add("MatMul", [x, weight], f"{name}.product")
            x = b.add("Add", [product, self._bias(name)], f"{name}.sum")
            if name == "head.dense":
                x = b.add("Tanh" if activation == "tanh" else "Relu", [x], f"{name}.active")
        b.add("Cast", [x], LOGITS, to=TensorProto.FLOAT)
        return len(self._tensor("head.out.bias"))


def _with_coordinate(array: NDArray[np.float32], heads: int, value: float) -> NDArray[np.float32]:
    """Rows (heads · size, …) with one row of `value` after each head's: (heads · (size + 1), …)."""
    apart = array.reshape(heads, -1, *array.shape[1:])
    extra = np.full((heads, 1, *array.shape[1:]), value, np.float32)
    return np.concatenate([apart, extra], axis=1).reshape(-1, *array.shape[1:])
