"""The encoders of `engine/models/families.py`, written down once more: one unpadded text at a time,
in float64, after Devlin et al. 2019, Song et al. 2020 and Raffel et al. 2020. Slow and plain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]
Config = Mapping[str, Any]
Ids = Sequence[int] | NDArray[Any]

DISTANCE_MAX = 128


def token_embeddings(weights: Weights, config: Config, ids: Ids, types: Ids = ()) -> Array:
    """The last layer, (tokens, hidden). `types` are the segments, which all are 0 without them and
    where the model knows one only."""
    kind = config["model_type"]
    skipped = config["pad_token_id"] + 1 if kind in ("roberta", "xlm-roberta", "mpnet") else 0
    x = weights["embeddings.word_embeddings.weight"][list(ids)]
    x = x + weights["embeddings.position_embeddings.weight"][skipped : skipped + len(ids)]
    segments = weights.get("embeddings.token_type_embeddings.weight")
    if segments is not None:
        told = len(types) and len(segments) > 1
        x = x + segments[list(types) if told else [0] * len(ids)]
    x = _norm(weights, config, x, "embeddings.LayerNorm")
    for layer in range(config.get("num_hidden_layers") or config["n_layers"]):
        base = f"encoder.layer.{layer}"
        attended = _attention(weights, config, x, f"{base}.attention.self")
        attended = _linear(weights, attended, f"{base}.attention.output.dense")
        x = _norm(weights, config, x + attended, f"{base}.attention.output.LayerNorm")
        inner = _activation(config, _linear(weights, x, f"{base}.intermediate.dense"))
        inner = _linear(weights, inner, f"{base}.output.dense")
        x = _norm(weights, config, x + inner, f"{base}.output.LayerNorm")
    return x


def logit(weights: Weights, config: Config, ids: Ids, types: Ids = ()) -> float:
    """What a sequence classifier with one label says: a dense layer on the first token, and a
    weighted sum of it."""
    first = token_embeddings(weights, config, ids, types)[0]
    dense = _linear(weights, first, "head.dense")
    active = np.maximum(dense, 0) if config["model_type"] == "distilbert" else np.tanh(dense)
    return float(_linear(weights, active, "head.out")[0])


def position_bias(table: Array, tokens: int) -> Array:
    """What MPNet adds to attention scores, (heads, tokens, tokens)."""
    bias = np.empty((table.shape[1], tokens, tokens))
    for query in range(tokens):
        for key in range(tokens):
            bias[:, query, key] = table[bucket(key - query, len(table))]
    return bias


def bucket(distance: int, buckets: int) -> int:
    """T5's: half of the buckets for keys after the query, and in each half one for every distance
    up to its middle, then logarithmically wider ones."""
    half = buckets // 2
    exact, size = half // 2, abs(distance)
    if size >= exact:
        octaves = math.log(size / exact) / math.log(DISTANCE_MAX / exact)
        size = min(half - 1, exact + int(octaves * (half - exact) + 1e-9))
    return size + (half if distance > 0 else 0)


def _attention(weights: Weights, config: Config, x: Array, name: str) -> Array:
    heads = config.get("num_attention_heads") or config["n_heads"]
    q, k, v = (
        _linear(weights, x, f"{name}.{part}").reshape(len(x), heads, -1)
        for part in ("query", "key", "value")
    )
    scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(q.shape[-1])
    table = weights.get("encoder.relative_attention_bias.weight")
    if table is not None:
        scores = scores + position_bias(table, len(x))
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return np.asarray(np.einsum("hij,jhd->ihd", shares, v).reshape(x.shape))


def _linear(weights: Weights, x: Array, name: str) -> Array:
    return np.asarray(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])


def _norm(weights: Weights, config: Config, x: Array, name: str) -> Array:
    centered = x - x.mean(-1, keepdims=True)
    epsilon = config.get("layer_norm_eps", 1e-12)
    deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + epsilon)
    return np.asarray(centered / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"])


def _activation(config: Config, x: Array) -> Array:
    kind = config.get("hidden_act") or config["activation"]
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "gelu_new":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return np.asarray(0.5 * x * (1 + np.tanh(inner)))
    return np.asarray(0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))
