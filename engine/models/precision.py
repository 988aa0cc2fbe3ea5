"""Which numbers an ONNX file computes with, read from its weights."""

from __future__ import annotations

from pathlib import Path

import onnx

from engine.errors import DataLoss

_INT8 = frozenset((onnx.TensorProto.INT8, onnx.TensorProto.UINT8))


def of_onnx(path: Path) -> str:
    """The narrowest kind of number that any weight matrix has: int8, fp16, bf16 or fp32.

    Raises DataLoss where the file is not ONNX.
    """
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's DecodeError, which engine does not import
        raise DataLoss(
            f"{path} is not an ONNX file ({error}); copy the model again",
            metadata={"path": str(path), "error": str(error)},
        ) from error
    # Scalars and zero points may be of any type: only matrices are weights.
    types = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) >= 2}
    if types & _INT8:
        return "int8"
    if onnx.TensorProto.FLOAT16 in types:
        return "fp16"
    return "bf16" if onnx.TensorProto.BFLOAT16 in types else "fp32"
