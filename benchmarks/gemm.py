"""How fast a model could be if it did nothing but multiply matrices: the limit of float32 here.

A layer of a BERT encoder multiplies every token's vector (h numbers) by the joint query, key and
value projection (h x 3h), the attention output (h x h), and the two of the feed-forward network
(h x f, f x h). At 2 operations a weight that is 2 (4 h^2 + 2 h f) a token and layer, the `2 N` of
Kaplan et al., "Scaling Laws for Neural Language Models", 2020, table 1. Attention itself is
2 h L for the scores and 2 h L for the weighted sum, over a text of L tokens: their
`2 n_layer n_ctx d_attn` is half of that, since a causal mask leaves half. all-MiniLM-L6-v2 has
6 layers, h 384 and f 1,536: 21.2 million operations a token, and 9,216 L for attention.

Everything else (embeddings, normalization, softmax, GELU, pooling, tokens) counts as free, which
it is not; nor does attention, whose matrices are small, reach the rate that it is granted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of an encoder."""

    layers: int = 6
    hidden: int = 384
    feed_forward: int = 1536

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """The weights of one layer."""
        h, f = self.hidden, self.feed_forward
        return (h, 3 * h), (h, h), (h, f), (f, h)

    @property
    def linear_flops(self) -> int:
        """Operations a token in all layers' weights."""
        return self.layers * sum(2 * rows * columns for rows, columns in self.matrices)

    def attention_flops(self, tokens: int) -> int:
        """Operations of one text's attention in all layers."""
        return self.layers * 4 * self.hidden * tokens * tokens


MINILM = Shape()


def tokens_per_s(flops_per_s: float, lengths: Sequence[int], shape: Shape = MINILM) -> float:
    """What a machine that multiplies `flops_per_s` could embed of texts of these lengths, without
    padding."""
    tokens = sum(lengths)
    attention = sum(shape.attention_flops(length) for length in lengths)
    return tokens * flops_per_s / (tokens * shape.linear_flops + attention)


def numpy_sgemm(tokens: int, seconds: float, shape: Shape = MINILM) -> float:
    """Operations a second of numpy's sgemm, all layers' weights in turn, for `seconds`."""
    weights = _weights(shape)
    inputs = {n: np.full((tokens, n), 0.5, np.float32) for n in (shape.hidden, shape.feed_forward)}
    outputs = {
        matrix.shape[1]: np.empty((tokens, matrix.shape[1]), np.float32) for matrix in weights
    }

    def once() -> None:
        for matrix in weights:
            np.matmul(inputs[matrix.shape[0]], matrix, out=outputs[matrix.shape[1]])

    return tokens * shape.linear_flops * _repeats_per_s(once, seconds)


def onnxruntime_sgemm(tokens: int, seconds: float, threads: int, shape: Shape = MINILM) -> float:
    """The same of onnxruntime's, which lays out constant weights when it loads them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        _chain(_weights(shape), shape).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    feed = {"x": np.full((tokens, shape.hidden), 0.5, np.float32)}
    return tokens * shape.linear_flops * _repeats_per_s(lambda: session.run(None, feed), seconds)


def _weights(shape: Shape) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(0)
    return [
        (random.normal(size=size) / size[0] ** 0.5).astype(np.float32)
        for _ in range(shape.layers)
        for size in shape.matrices
    ]


def _chain(weights: Sequence[NDArray[np.float32]], shape: Shape) -> ModelProto:
    """Each product goes into the next, so that none is left out; of query, key and value only the
    query, which costs a copy of 0.1 % of the time."""
    nodes, value = [], "x"
    for number, matrix in enumerate(weights):
        nodes.append(helper.make_node("MatMul", [value, f"w{number}"], [f"y{number}"]))
        value = f"y{number}"
        if matrix.shape[1] == 3 * shape.hidden:
            nodes.append(helper.make_node("Slice", [value, "from", "to", "axis"], [f"q{number}"]))
            value = f"q{number}"
    numbers = {"from": [0], "to": [shape.hidden], "axis": [1]}
    constants = [numpy_helper.from_array(matrix, f"w{n}") for n, matrix in enumerate(weights)]
    constants += [numpy_helper.from_array(np.array(of), name) for name, of in numbers.items()]
    graph = helper.make_graph(
        nodes,
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tokens", shape.hidden])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["tokens", shape.hidden])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _repeats_per_s(once: Callable[[], Any], seconds: float) -> float:
    once()
    begin_s, count = time.perf_counter(), 0
    while (elapsed_s := time.perf_counter() - begin_s) < seconds or not count:
        once()
        count += 1
    return count / elapsed_s
