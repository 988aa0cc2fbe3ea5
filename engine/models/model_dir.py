"""What a Hugging Face model directory says about the model in it.

Read are `config.json`, `tokenizer.json`, the weights (`model.onnx`, `onnx/model.onnx` or
`model.safetensors`) and, where they exist, sentence-transformers' own files: `modules.json`, the
pooling module's `config.json`, `sentence_bert_config.json` and `config_sentence_transformers.json`.
What a file asks for and this package cannot do is an error here, at load, never a quietly
different vector.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from engine.errors import DataLoss, ModelUnavailable
from engine.models.families import FAMILIES, Family
from engine.types import Fingerprint

Pooling = Literal["mean", "cls", "last"]
Task = Literal["embed", "rerank"]
Kind = Literal["query", "passage"]

WEIGHTS_HASH_CHARS = 16
"""Hex digits of the weights' SHA-256 that go into a fingerprint: 64 bits."""

_MODULES_KNOWN = ("Transformer", "Pooling", "Normalize")
_PASSAGE_PROMPTS = ("passage", "document")


@dataclass(frozen=True, slots=True)
class ModelDir:
    """One model on disk. `weights` is what is hashed; `onnx` says that they are to be run as they
    are. Weights of a family that is known are converted even where an ONNX file lies beside them.

    `task` is "rerank" for a cross-encoder, a sequence classifier with one label. `hidden` is the
    length of its token outputs, `dimensions` that of its vectors. `tokens_max` counts special
    tokens and the prompt. `dimensions_offered` are the lengths that the model's authors trained
    (Matryoshka), the full length always among them.
    """

    path: Path
    weights: Path
    onnx: bool
    weights_hash: str
    config: Mapping[str, Any]
    task: Task
    hidden: int
    pooling: Pooling
    tokens_max: int
    lowercase: bool
    prompts: Mapping[Kind, str]
    dimensions: int
    dimensions_offered: frozenset[int]

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's file."""
        return self.path / "tokenizer.json"

    def known_family(self) -> Family:
        """The architecture. Raises ModelUnavailable for one that cannot be converted."""
        name = str(self.config.get("model_type"))
        if name not in FAMILIES:
            file = self.path / "config.json"
            raise unsupported(file, "model_type", name, ", ".join(FAMILIES))
        return FAMILIES[name]

    def fingerprint(self, precision: str) -> Fingerprint:
        """The space of its vectors where it computes in `precision`; of a cross-encoder, model and
        precision."""
        if self.task == "rerank":
            return Fingerprint(self.weights_hash, precision, "pair", "", 0)
        prompts = json.dumps([self.prompts["query"], self.prompts["passage"]])
        return Fingerprint(
            weights_hash=self.weights_hash,
            precision=precision,
            pooling=self.pooling,
            prompts=hashlib.sha256(prompts.encode()).hexdigest()[:8],
            dimensions=self.dimensions,
        )


@dataclass(frozen=True, slots=True)
class Overrides:
    """What an operator knows better than a model's files; None leaves their word.

    Many models name their prompts only in their description. `tokens_max` can only shorten.
    """

    query_prompt: str | None = None
    passage_prompt: str | None = None
    pooling: Pooling | None = None
    tokens_max: int | None = None

    def apply(self, model: ModelDir) -> ModelDir:
        """The model as the operator wants it."""
        given: dict[Kind, str | None] = {"query": self.query_prompt, "passage": self.passage_prompt}
        prompts = {kind: text for kind, text in given.items() if text is not None}
        return replace(
            model,
            prompts={**model.prompts, **prompts},
            pooling=self.pooling or model.pooling,
            tokens_max=min(self.tokens_max or model.tokens_max, model.tokens_max),
        )


AS_THEY_SAY = Overrides()
"""Nothing is overridden."""


def read(path: Path, overrides: Overrides = AS_THEY_SAY) -> ModelDir:
    """Read the directory at `path` and hash its weights (0.1 s for 90 MB).

    Raises ModelUnavailable where a file is missing or asks for something unsupported, and
    DataLoss where a file is there but damaged.
    """
    if not path.is_dir():
        raise ModelUnavailable(
            f"there is no model directory at {path}; give a Hugging Face directory with "
            "config.json, tokenizer.json and model.safetensors or model.onnx",
            metadata={"path": str(path)},
        )
    try:
        return overrides.apply(_read(path))
    except (TypeError, ValueError, AttributeError) as error:
        raise DataLoss(
            f"a JSON file of the model directory {path} holds a value of another kind than "
            f"expected ({error}); copy the model again",
            metadata={"path": str(path), "error": str(error)},
        ) from error


def _read(path: Path) -> ModelDir:
    config = _json(path / "config.json", required=True)
    _must_exist(path / "tokenizer.json")
    weights, onnx = _find_weights(path, known=config.get("model_type") in FAMILIES)
    family = FAMILIES.get(str(config.get("model_type")))
    hidden = _positive(config, family.hidden if family else "hidden_size", path / "config.json")
    sentence = _json(path / "sentence_bert_config.json")
    task = _task(config, path / "config.json")
    dimensions = hidden if task == "embed" else 0
    return ModelDir(
        path=path,
        weights=weights,
        onnx=onnx,
        weights_hash=file_hash(weights)[:WEIGHTS_HASH_CHARS],
        config=config,
        task=task,
        hidden=hidden,
        pooling=_pooling(path),
        tokens_max=_tokens_max(path, config, sentence, family),
        lowercase=bool(sentence.get("do_lower_case", False)),
        prompts=_prompts(path),
        dimensions=dimensions,
        dimensions_offered=_dimensions_offered(config, dimensions),
    )


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unsupported(path: Path, what: str, value: object, known: str) -> ModelUnavailable:
    """The error for a setting that this package cannot honor."""
    return ModelUnavailable(
        f"{path} asks for {what} {value!r}; ragmesh runs {known}: choose another model",
        metadata={"path": str(path), "setting": what, "value": str(value), "known": known},
    )


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise ModelUnavailable(
            f"the model directory {path.parent} has no {path.name}; copy the whole model there",
            metadata={"path": str(path)},
        )


def _json(path: Path, *, required: bool = False) -> Mapping[str, Any]:
    value = _json_value(path, required=required)
    if not isinstance(value, dict):
        raise DataLoss(
            f"{path} is not a JSON object; copy the model again", metadata={"path": str(path)}
        )
    return value


def _json_value(path: Path, *, required: bool = False) -> Any:
    if required:
        _must_exist(path)
    elif not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataLoss(
            f"{path} is not JSON ({error}); copy the model again",
            metadata={"path": str(path), "error": str(error)},
        ) from error


def _positive(config: Mapping[str, Any], key: str, path: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DataLoss(
            f"{path} has {key} = {value!r}, which must be an integer of at least 1; copy the "
            "model again",
            metadata={"path": str(path), "setting": key, "value": str(value)},
        )
    return value


def _task(config: Mapping[str, Any], file: Path) -> Task:
    architectures = config.get("architectures") or []
    if not any("SequenceClassification" in str(name) for name in architectures):
        return "embed"
    labels = config.get("num_labels", len(config.get("id2label") or {"0": "", "1": ""}))
    if labels != 1:
        raise unsupported(file, "number of labels", labels, "cross-encoders with one label")
    return "rerank"


def _find_weights(path: Path, *, known: bool) -> tuple[Path, bool]:
    checkpoint = path / "model.safetensors"
    if known and checkpoint.is_file():
        return checkpoint, False
    for name in ("model.onnx", "onnx/model.onnx"):
        if (path / name).is_file():
            return path / name, True
    if checkpoint.is_file():
        return checkpoint, False
    raise ModelUnavailable(
        f"the model directory {path} has neither model.onnx nor model.safetensors; copy one there "
        "(a pytorch_model.bin is not read, because unpickling runs code)",
        metadata={"path": str(path)},
    )


def _pooling(path: Path) -> Pooling:
    """Mean where nothing is said, as sentence-transformers does."""
    file = path / "modules.json"
    modules = _json_value(file)
    pooling_path = path / "1_Pooling"
    for module in modules if isinstance(modules, list) else []:
        name = str(module.get("type", "")).rsplit(".", 1)[-1]
        if name not in _MODULES_KNOWN:
            raise unsupported(file, "module", name, "Transformer, Pooling and Normalize")
        if name == "Pooling":
            pooling_path = path / str(module.get("path", ""))
    file = pooling_path / "config.json"
    config = _json(file)
    asked = {
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key, value in config.items()
        if key.startswith("pooling_mode_") and value is True
    }
    if isinstance(config.get("pooling_mode"), str):
        asked = {config["pooling_mode"]}
    if config.get("include_prompt", True) is not True:
        raise unsupported(file, "include_prompt", False, "pooling over the prompt too")
    if asked in ({"mean"}, set()):
        return "mean"
    if asked == {"cls"}:
        return "cls"
    if asked == {"lasttoken"}:
        return "last"
    raise unsupported(file, "pooling", ", ".join(sorted(asked)), "mean, cls or last-token pooling")


def _tokens_max(
    path: Path, config: Mapping[str, Any], sentence: Mapping[str, Any], family: Family | None
) -> int:
    """`max_seq_length`, never more than the position table has rows."""
    positions = _positive(config, "max_position_embeddings", path / "config.json")
    if family is not None:
        positions -= family.first_position(config)
    if sentence.get("max_seq_length") is None:
        return positions
    asked = _positive(sentence, "max_seq_length", path / "sentence_bert_config.json")
    return min(asked, positions)


def _prompts(path: Path) -> Mapping[Kind, str]:
    config = _json(path / "config_sentence_transformers.json")
    named = config.get("prompts") or {}
    default = named.get(config.get("default_prompt_name") or "", "")
    passage = next((named[name] for name in _PASSAGE_PROMPTS if name in named), default)
    return {"query": str(named.get("query", default)), "passage": str(passage)}


def _dimensions_offered(config: Mapping[str, Any], dimensions: int) -> frozenset[int]:
    """From `matryoshka_dimensions` or `is_matryoshka`, the keys that vLLM reads as well."""
    if not dimensions:
        return frozenset()
    if config.get("matryoshka_dimensions"):
        declared = {int(n) for n in config["matryoshka_dimensions"]}
        return frozenset({n for n in declared if 1 <= n <= dimensions} | {dimensions})
    if config.get("is_matryoshka") is True:
        return frozenset(range(1, dimensions + 1))
    return frozenset({dimensions})
