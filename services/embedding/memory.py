"""How much memory models take, and how much they may.

A model's share is computed, not observed: what the process grew by depends on what ran before and
on what the allocator gave back. all-MiniLM-L6-v2 on 2 cores, after batches of every shape within
1,536 padded tokens, took 176 MB in fp32 and 131 MB in int8; computed are 178 and 132.
"""

from __future__ import annotations

from pathlib import Path

from engine.models.model_dir import ModelDir

WEIGHTS_FACTOR = 1.45
"""Memory over file size: onnxruntime packs matrices for its kernels beside what it read."""

BYTES_PER_ACTIVATION = 80
"""Peak of the arena for each padded token and hidden number: about 20 arrays of float32."""


def estimate(weights_bytes: int, hidden: int, batch_padded_tokens_max: int) -> int:
    """Bytes that a model takes at the most: its weights, and the arena of its largest batch."""
    arena = batch_padded_tokens_max * hidden * BYTES_PER_ACTIVATION
    return round(weights_bytes * WEIGHTS_FACTOR) + arena


def weights_bytes(model: ModelDir) -> int:
    """Bytes of a model's weights before it was converted: as float32, the most they become."""
    kept_as = model.config.get("torch_dtype") or model.config.get("dtype")
    halved = not model.onnx and kept_as in ("float16", "bfloat16")
    return file_bytes(model.weights) * (2 if halved else 1)


def file_bytes(file: Path) -> int:
    """Bytes of a file of weights, with those that ONNX keeps beside it."""
    data = file.with_name(f"{file.name}_data")
    return file.stat().st_size + (data.stat().st_size if data.is_file() else 0)
