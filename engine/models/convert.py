"""The ONNX file of a model directory: its own, or one written once from the safetensors.

What is true of the cache: `<key>.onnx` is used only if `<key>.sha256` holds its hash, so a file
that a crash, a full disk or a bit flip spoiled is written again. Both appear by rename, after
fsync. One process converts at a time, under a lock that the kernel drops with the process; the
others wait for its result (1.5 s for 90 MB). The key is the weights' hash, the hash of the
settings that shape the graph, and the version of this converter.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from engine.errors import DataLoss, ModelUnavailable
from engine.models import graph
from engine.models.model_dir import ModelDir, file_hash, unsupported

VERSION = 1
"""Raise it whenever the graph written for the same weights changes."""

FAMILIES = ("bert", "roberta", "xlm-roberta")

PROTOBUF_BYTES_MAX = 2**31 - 1
"""A protobuf message, and so an ONNX file without external data, is not larger."""

_PREFIXES = ("", "bert.", "roberta.")


def onnx_file(model: ModelDir, cache_dir: Path) -> Path:
    """The file to run: the directory's own model.onnx, or the one kept in `cache_dir`.

    Raises ModelUnavailable for an architecture that is not of FAMILIES or for weights over 2 GiB,
    and DataLoss for a checkpoint that cannot be read.
    """
    if model.onnx:
        return model.weights
    shape = _shape(model)
    settings = hashlib.sha256(repr(shape).encode()).hexdigest()[:8]
    key = f"{model.weights_hash}-{settings}-v{VERSION}"
    target = cache_dir / f"{key}.onnx"
    cache_dir.mkdir(parents=True, exist_ok=True)
    if _is_sound(target):
        return target
    with _locked(cache_dir / f"{key}.lock"):
        if not _is_sound(target):
            _write(target, _serialize(model, shape))
    return target


def checkpoint(path: Path) -> graph.Weights:
    """The tensors of a safetensors file by their names without the model's prefix.

    Raises DataLoss where the file is damaged.
    """
    try:
        tensors: dict[str, NDArray[Any]] = load_file(path)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise DataLoss(
            f"{path} cannot be read as safetensors ({error}); copy the model again",
            metadata={"path": str(path), "error": str(error)},
        ) from error
    for prefix in _PREFIXES:
        if f"{prefix}embeddings.word_embeddings.weight" in tensors:
            return {name.removeprefix(prefix): array for name, array in tensors.items()}
    raise DataLoss(
        f"{path} has no embeddings.word_embeddings.weight; copy a whole BERT checkpoint there",
        metadata={"path": str(path), "tensor": "embeddings.word_embeddings.weight"},
    )


def _shape(model: ModelDir) -> graph.Shape:
    config, file = model.config, model.path / "config.json"
    family = config.get("model_type")
    if family not in FAMILIES:
        raise unsupported(file, "model_type", family, ", ".join(FAMILIES))
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise unsupported(file, "position_embedding_type", positions, "absolute positions")
    activation = config.get("hidden_act", "gelu")
    if activation not in graph.ACTIVATIONS:
        raise unsupported(file, "hidden_act", activation, ", ".join(graph.ACTIVATIONS))
    try:
        heads, layers = int(config["num_attention_heads"]), int(config["num_hidden_layers"])
        epsilon = float(config.get("layer_norm_eps", 1e-12))
        first = 0 if family == "bert" else int(config.get("pad_token_id", 1)) + 1
    except (KeyError, TypeError, ValueError) as error:
        raise DataLoss(
            f"{file} lacks a number that the graph needs ({error!r}); copy the model again",
            metadata={"path": str(file), "error": repr(error)},
        ) from error
    if heads < 1 or layers < 1 or model.dimensions % heads:
        raise DataLoss(
            f"{file} has {heads} heads and {layers} layers of {model.dimensions} numbers, which "
            "do not fit together; copy the model again",
            metadata={"path": str(file), "heads": heads, "layers": layers},
        )
    return graph.Shape(layers, heads, model.dimensions, activation, epsilon, first)


def _serialize(model: ModelDir, shape: graph.Shape) -> bytes:
    weights = checkpoint(model.weights)
    size_bytes = sum(array.size * np.dtype(np.float32).itemsize for array in weights.values())
    if size_bytes >= PROTOBUF_BYTES_MAX:
        raise ModelUnavailable(
            f"{model.weights} holds {size_bytes} bytes as float32, and an ONNX file at most "
            f"{PROTOBUF_BYTES_MAX}; export model.onnx with external data yourself",
            metadata={
                "path": str(model.weights),
                "size_bytes": size_bytes,
                "size_bytes_max": PROTOBUF_BYTES_MAX,
            },
        )
    data: bytes = graph.build(weights, shape).SerializeToString(deterministic=True)
    return data


def _is_sound(target: Path) -> bool:
    try:
        expected = json.loads(_hash_file(target).read_text(encoding="utf-8"))["sha256"]
        return bool(file_hash(target) == expected)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _hash_file(target: Path) -> Path:
    return target.with_suffix(".sha256")


def _write(target: Path, data: bytes) -> None:
    # The hash goes first: at no moment does a file stand beside a hash that is not its own
    # and pass, and a crash between the two leaves a pair that does not match.
    record = json.dumps({"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)})
    _replace(_hash_file(target), record.encode())
    _replace(target, data)


def _replace(target: Path, data: bytes) -> None:
    """Write whole or not at all. One fixed temporary name, so that crashes do not pile up files."""
    temporary = target.with_name(f".{target.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
