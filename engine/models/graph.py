"""Writes the encoder of a BERT-like checkpoint as an ONNX graph: no torch, only numpy and onnx.

The graph has the inputs `input_ids` and `attention_mask`, both int64 (batch, tokens), and one
output, `token_embeddings`, float32 (batch, tokens, hidden): the last layer, unpooled, because
sentence vectors need the tokens and pooling them in numpy costs under 1 % of the forward pass.

What is folded into the weights, exactly or to the last bit: the token type row (there is one
segment), 1/sqrt(head size) into the query projection, and the three projections into one.
After Devlin et al. 2019; names and layout as in Hugging Face `modeling_bert.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engine.errors import DataLoss

OPSET = 20
"""The first with Gelu as one operator; onnxruntime 1.17 and later run it."""

INPUTS = ("input_ids", "attention_mask")
OUTPUT = "token_embeddings"

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

MASKED = -1e9
"""Added to the attention score of padding: its weight becomes exactly 0 in float32."""

Weights = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a checkpoint that its weights do not carry."""

    layers: int
    heads: int
    hidden: int
    activation: str
    epsilon: float
    first_position: int


@dataclass(slots=True)
class _Builder:
    """Collects nodes and weights; a node's name is its output's."""

    weights: Weights
    nodes: list[NodeProto] = field(default_factory=list)
    tensors: dict[str, TensorProto] = field(default_factory=dict)

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.tensors.setdefault(name, numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def weight(self, name: str) -> NDArray[np.float32]:
        if name not in self.weights:
            raise DataLoss(
                f"the checkpoint has no tensor {name}; copy the model again",
                metadata={"tensor": name},
            )
        return np.asarray(self.weights[name], dtype=np.float32)

    def linear(self, x: str, name: str, weight: NDArray[Any], bias: NDArray[Any]) -> str:
        """x (…, in) to (…, out) with `weight` (out, in), as torch keeps it."""
        product = self.add(
            "MatMul", [x, self.constant(f"{name}.weight", weight.T)], f"{name}.product"
        )
        return self.add("Add", [product, self.constant(f"{name}.bias", bias)], f"{name}.out")

    def named_linear(self, x: str, name: str) -> str:
        return self.linear(x, name, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def layer_norm(self, x: str, name: str, epsilon: float) -> str:
        scale = self.constant(f"{name}.weight", self.weight(f"{name}.weight"))
        bias = self.constant(f"{name}.bias", self.weight(f"{name}.bias"))
        # An epsilon of 1e-12 vanishes beside a float32 variance, here as in torch.
        return self.add(
            "LayerNormalization", [x, scale, bias], f"{name}.out", axis=-1, epsilon=epsilon
        )


def build(weights: Weights, shape: Shape) -> ModelProto:
    """The whole graph. Raises DataLoss where a tensor is missing."""
    builder = _Builder(weights)
    x = _embeddings(builder, shape)
    mask = _mask(builder)
    for layer in range(shape.layers):
        x = _layer(builder, shape, f"encoder.layer.{layer}", x, mask)
    builder.add("Identity", [x], OUTPUT)
    graph = helper.make_graph(
        builder.nodes,
        "encoder",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in INPUTS
        ],
        [
            helper.make_tensor_value_info(
                OUTPUT, TensorProto.FLOAT, ["batch", "tokens", shape.hidden]
            )
        ],
        list(builder.tensors.values()),
    )
    # IR 10 is what OPSET asks for; onnx would write its newest, which older runtimes refuse.
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=10,
        producer_name="ragmesh",
    )


def _embeddings(b: _Builder, shape: Shape) -> str:
    words = b.constant("words", b.weight("embeddings.word_embeddings.weight"))
    types = b.weight("embeddings.token_type_embeddings.weight")[0]
    table = b.weight("embeddings.position_embeddings.weight")[shape.first_position :] + types
    positions = b.constant("positions", table)
    size = b.add("Shape", ["input_ids"], "tokens.count", start=1, end=2)
    zero = b.constant("zero", np.array([0], np.int64))
    rows = b.add("Slice", [positions, zero, size, zero], "positions.used")
    gathered = b.add("Gather", [words, "input_ids"], "words.used")
    total = b.add("Add", [gathered, rows], "embeddings.sum")
    return b.layer_norm(total, "embeddings.LayerNorm", shape.epsilon)


def _mask(b: _Builder) -> str:
    """(batch, 1, 1, tokens): 0 for text, MASKED for padding."""
    axes = b.constant("mask.axes", np.array([1, 2], np.int64))
    wide = b.add("Unsqueeze", ["attention_mask", axes], "mask.wide")
    real = b.add("Cast", [wide], "mask.float", to=TensorProto.FLOAT)
    one = b.constant("one", np.array(1, np.float32))
    padding = b.add("Sub", [one, real], "mask.padding")
    return b.add("Mul", [padding, b.constant("masked", np.array(MASKED, np.float32))], "mask.bias")


def _layer(b: _Builder, shape: Shape, name: str, x: str, mask: str) -> str:
    attended = _attention(b, shape, f"{name}.attention", x, mask)
    projected = b.named_linear(attended, f"{name}.attention.output.dense")
    residual = b.add("Add", [projected, x], f"{name}.attention.residual")
    x = b.layer_norm(residual, f"{name}.attention.output.LayerNorm", shape.epsilon)
    inner = b.named_linear(x, f"{name}.intermediate.dense")
    if shape.activation == "relu":
        inner = b.add("Relu", [inner], f"{name}.activated")
    else:
        approximate = "none" if shape.activation == "gelu" else "tanh"
        inner = b.add("Gelu", [inner], f"{name}.activated", approximate=approximate)
    outer = b.named_linear(inner, f"{name}.output.dense")
    residual = b.add("Add", [outer, x], f"{name}.residual")
    return b.layer_norm(residual, f"{name}.output.LayerNorm", shape.epsilon)


def _attention(b: _Builder, shape: Shape, name: str, x: str, mask: str) -> str:
    scale = np.float32(1.0 / np.sqrt(shape.hidden / shape.heads))
    parts = [f"{name}.self.{part}" for part in ("query", "key", "value")]
    matrices = [b.weight(f"{part}.weight") for part in parts]
    biases = [b.weight(f"{part}.bias") for part in parts]
    matrices[0], biases[0] = matrices[0] * scale, biases[0] * scale
    packed = b.linear(x, f"{name}.packed", np.concatenate(matrices), np.concatenate(biases))
    size = shape.hidden // shape.heads
    # (batch, tokens, 3·hidden) to three of (batch, heads, tokens, size)
    five = b.constant("split.shape", np.array([0, 0, 3, shape.heads, size], np.int64))
    apart = b.add("Reshape", [packed, five], f"{name}.apart")
    turned = b.add("Transpose", [apart], f"{name}.turned", perm=[2, 0, 3, 1, 4])
    q, k, v = (
        b.add("Gather", [turned, b.constant(f"part.{i}", np.array(i, np.int64))], f"{name}.{part}")
        for i, part in enumerate("qkv")
    )
    keys = b.add("Transpose", [k], f"{name}.keys", perm=[0, 1, 3, 2])
    scores = b.add("MatMul", [q, keys], f"{name}.scores")
    masked = b.add("Add", [scores, mask], f"{name}.masked")
    weights = b.add("Softmax", [masked], f"{name}.weights", axis=-1)
    mixed = b.add("MatMul", [weights, v], f"{name}.mixed")
    back = b.add("Transpose", [mixed], f"{name}.back", perm=[0, 2, 1, 3])
    flat = b.constant("join.shape", np.array([0, 0, shape.hidden], np.int64))
    return b.add("Reshape", [back, flat], f"{name}.joined")
