"""Collects the nodes and weights of an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
"""onnxruntime's own operators: fused attention, bias with Gelu, integer products."""

OPSET = 20
"""The first with Gelu as one operator; onnxruntime 1.17 and later run it."""

_IR_VERSION = 10
"""What OPSET asks for; onnx would write its newest, which older runtimes refuse."""


class Builder:
    """A graph that grows. A node's name is its first output's; a weight is stored once by name.

    `floats` is what weights and activations are kept in: float32 or float16.
    """

    def __init__(self, floats: type[np.floating[Any]] = np.float32) -> None:
        self.floats = floats
        self._nodes: list[NodeProto] = []
        self._tensors: dict[str, TensorProto] = {}

    def add(
        self, op: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Any
    ) -> str:
        """A node with one output; returns the output's name."""
        node = helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes)
        self._nodes.append(node)
        return output

    def split(self, x: str, sizes: Sequence[int], output: str) -> list[str]:
        """`x` cut along its last axis into `sizes`."""
        names = [f"{output}.{number}" for number in range(len(sizes))]
        lengths = self.constant(f"{output}.sizes", np.array(sizes, np.int64))
        self._nodes.append(helper.make_node("Split", [x, lengths], names, name=output, axis=-1))
        return names

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """A tensor as it is."""
        if name not in self._tensors:
            self._tensors[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """A tensor of `floats`."""
        return self.constant(name, np.asarray(array, self.floats))

    def model(
        self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]
    ) -> ModelProto:
        """The whole graph."""
        tensors = list(self._tensors.values())
        return helper.make_model(
            helper.make_graph(self._nodes, name, inputs, outputs, tensors),
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
            ir_version=_IR_VERSION,
            producer_name="ragmesh",
        )
