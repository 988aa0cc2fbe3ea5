"""Which numbers a model computes with: read from an ONNX file, or chosen for a conversion."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Literal

import onnx

from engine.errors import DataLoss, InvalidField
from engine.models import gate
from engine.models.linear import Precision
from engine.models.model_dir import ModelDir

Asked = Literal["auto", "fp32", "int8", "fp16"]

_INT8 = frozenset((onnx.TensorProto.INT8, onnx.TensorProto.UINT8))
_ON: dict[str, tuple[Precision, ...]] = {"cpu": ("fp32", "int8"), "cuda": ("fp32", "fp16")}


def choose(asked: Asked, model: ModelDir, provider: str, cache_dir: Path) -> Precision:
    """The precision to convert `model` to for `provider` ("cpu" or "cuda").

    "auto" is fp16 on CUDA; on a CPU int8 where the processor has the instructions and the weights
    passed the gate (engine/models/gate.py), else fp32. Raises InvalidField for a precision that
    the provider or the processor cannot do.
    """
    if asked == "auto":
        if provider == "cuda":
            return "fp16"
        record = gate.record_of(model.weights_hash, cache_dir)
        passed = record is not None and record.passed
        return "int8" if passed and has_int8_products() else "fp32"
    if asked not in _ON[provider]:
        raise _refused(asked, f"{provider} does {' and '.join(_ON[provider])}")
    if asked == "int8" and not has_int8_products():
        raise _refused(asked, "this processor has no VNNI: sums of int8 products would overflow")
    return asked


@cache
def has_int8_products() -> bool:
    """Whether the processor sums products of bytes in 32 bits: VNNI on x86-64, every 64-bit Arm
    that onnxruntime runs on. Without it, onnxruntime's sums saturate at 16 bits."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return bool({"avx512_vnni", "avx_vnni"} & set(flags.split()))


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


def check_shipped(asked: Asked, found: str, path: Path) -> None:
    """Raises InvalidField where a directory's own ONNX file has another precision than asked."""
    if asked not in ("auto", found):
        raise _refused(asked, f"{path} is {found}, and an ONNX file is run as it is")


def _refused(asked: str, why: str) -> InvalidField:
    return InvalidField(
        f"precision {asked} cannot be used: {why}; ask for another, or for auto",
        field="precision",
        metadata={"precision": asked, "why": why},
    )
