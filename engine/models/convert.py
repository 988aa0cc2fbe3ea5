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
from engine.models.families import Family, Weights
from engine.models.linear import Precision
from engine.models.model_dir import ModelDir, file_hash, unsupported

VERSION = 2
"""Raise it whenever the graph written for the same weights changes."""

PROTOBUF_BYTES_MAX = 2**31 - 1
"""A protobuf message, and so an ONNX file without external data, is not larger."""

_WORDS = "embeddings.word_embeddings.weight"


def onnx_file(
    model: ModelDir,
    cache_dir: Path,
    precision: Precision = "fp32",
    target: graph.Target = "cpu",
) -> Path:
    """The file to run: the directory's own model.onnx, or the one kept in `cache_dir`.

    Raises ModelUnavailable for an architecture that is not of families.FAMILIES or for weights
    over 2 GiB, and DataLoss for a checkpoint that cannot be read.
    """
    if model.onnx:
        return model.weights
    shape = _shape(model)
    settings = hashlib.sha256(repr(shape).encode()).hexdigest()[:8]
    key = f"{model.weights_hash}-{settings}-{precision}-{target}-v{VERSION}"
    file = cache_dir / f"{key}.onnx"
    cache_dir.mkdir(parents=True, exist_ok=True)
    if _is_sound(file):
        return file
    with _locked(cache_dir / f"{key}.lock"):
        if not _is_sound(file):
            _write(file, _serialize(model, shape, precision, target))
    return file


def checkpoint(path: Path, family: Family) -> Weights:
    """The tensors of a safetensors file by their canonical names.

    Raises DataLoss where the file is damaged.
    """
    try:
        tensors: dict[str, NDArray[Any]] = load_file(path)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise DataLoss(
            f"{path} cannot be read as safetensors ({error}); copy the model again",
            metadata={"path": str(path), "error": str(error)},
        ) from error
    weights = family.canonical(tensors)
    if _WORDS not in weights:
        raise DataLoss(
            f"{path} has no {_WORDS}; copy a whole checkpoint there",
            metadata={"path": str(path), "tensor": _WORDS},
        )
    return weights


def _shape(model: ModelDir) -> graph.Shape:
    config, file, family = model.config, model.path / "config.json", model.known_family()
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise unsupported(file, "position_embedding_type", positions, "absolute positions")
    activation = config.get(family.activation, "gelu")
    if activation not in graph.ACTIVATIONS:
        raise unsupported(file, family.activation, activation, ", ".join(graph.ACTIVATIONS))
    try:
        heads, layers = int(config[family.heads]), int(config[family.layers])
        epsilon = float(config.get("layer_norm_eps", 1e-12))
        first = family.first_position(config)
    except (KeyError, TypeError, ValueError) as error:
        raise DataLoss(
            f"{file} lacks a number that the graph needs ({error!r}); copy the model again",
            metadata={"path": str(file), "error": repr(error)},
        ) from error
    if heads < 1 or layers < 1 or model.hidden % heads:
        raise DataLoss(
            f"{file} has {heads} heads and {layers} layers of {model.hidden} numbers, which "
            "do not fit together; copy the model again",
            metadata={"path": str(file), "heads": heads, "layers": layers},
        )
    head = family.head_activation if model.task == "rerank" else None
    return graph.Shape(layers, heads, model.hidden, activation, epsilon, first, head)


def _serialize(
    model: ModelDir, shape: graph.Shape, precision: Precision, target: graph.Target
) -> bytes:
    weights = checkpoint(model.weights, model.known_family())
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
    built = graph.build(weights, shape, precision, target)
    data: bytes = built.SerializeToString(deterministic=True)
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
    replace_file(_hash_file(target), record.encode())
    replace_file(target, data)


def replace_file(target: Path, data: bytes) -> None:
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
