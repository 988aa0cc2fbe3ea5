"""What there is to know of a model from its files, and its conversion."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import EmbeddingModelNotFound, InvalidField, RagmeshError
from services.commands.output import stderr

if TYPE_CHECKING:
    from engine.models.gate import GateRecord
    from engine.models.model_dir import ModelDir
    from services.config import Settings
    from services.embedding.loader import Description, Loader
    from services.embedding.specs import ModelSpec


@dataclass(frozen=True, slots=True)
class Found:
    """A model, how it is to run, and where converted ones are kept."""

    spec: ModelSpec
    loader: Loader
    cache_dir: Path

    def directory(self) -> Path:
        """Its directory; one that is only on the hub is downloaded first, with a bar on stderr."""
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        from services.embedding import hub

        known = self.loader.find(self.spec)
        if known is not None:
            return known
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
        with Progress(*columns, console=stderr(), transient=True) as bar:
            task = bar.add_task(str(self.spec.source), total=None)

            def advance(progress: hub.Progress) -> None:
                bar.update(
                    task,
                    description=f"{self.spec.source} {progress.file}",
                    completed=progress.done_bytes,
                    total=progress.total_bytes,
                )

            return self.loader.fetch(self.spec, advance)

    def read(self) -> ModelDir:
        """Its directory, read."""
        from engine.models import model_dir

        return model_dir.read(self.directory(), self.spec.overrides)


def find(name: str, precision: str | None, data_dir: Path | None) -> Found:
    """The model that somebody names: an id of the settings, a directory, or one of the hub.

    Raises EmbeddingModelNotFound, and InvalidField for an unknown precision.
    """
    from services.embedding import specs

    settings, cache_dir, loader = _settings(data_dir)
    known = {spec.id: spec for spec in specs.configured(settings.models)}
    known[specs.DEFAULT] = next(iter(known.values()))
    spec = known.get(name)
    if spec is None:
        source = specs.parse(name)
        if isinstance(source, Path) and not source.is_dir():
            raise EmbeddingModelNotFound(
                f"{name} is no model of the settings (there is: {', '.join(sorted(known))}), no "
                "directory, and no id of the Hugging Face hub, which is org/name",
                metadata={"model": name},
            )
        spec = specs.ModelSpec(specs.id_of(source), source, settings.models.precision)
    if precision is not None:
        spec = replace(spec, precision=_checked(precision))
    return Found(spec, loader, cache_dir)


def configured(data_dir: Path | None) -> list[dict[str, Any]]:
    """The models of the settings, the default one first."""
    from services.embedding import specs

    settings, _, loader = _settings(data_dir)
    rows = []
    for number, spec in enumerate(specs.configured(settings.models)):
        try:
            found = loader.describe(spec)
            note = "" if found.task else "on the hub"
        except RagmeshError as error:
            found, note = _unreadable(spec), error.message
        rows.append(_row(found, ", ".join(filter(None, ["default" if not number else "", note]))))
    return rows


def served(address: str) -> list[dict[str, Any]]:
    """The models of the mesh at `address`. Raises what the client raises."""
    from ragmesh import Client

    with Client(address) as client:
        found = list(client.list_embedding_models())
    return [
        {
            "id": one.name.removeprefix("embeddingModels/"),
            "task": one.task,
            "dimensions": one.dimensions,
            "tokens_max": one.tokens_max,
            "precision": one.precision,
            "provider": one.provider,
            "memory_bytes": one.memory_kib << 10,
            "fingerprint": one.fingerprint,
            "loaded": one.loaded,
            "note": "loaded" if one.loaded else "",
        }
        for one in found
    ]


def show(found: Found) -> dict[str, Any]:
    """Everything about one model. Raises what is wrong with it."""
    model = found.read()
    description = found.loader.describe(found.spec)
    record = gate_record(model, found.cache_dir)
    return {
        "id": found.spec.id,
        "directory": str(model.path),
        "family": model.config.get("model_type", ""),
        "task": model.task,
        "pooling": model.pooling if model.task == "embed" else "",
        "prompts": dict(model.prompts),
        "tokens_max": model.tokens_max,
        "dimensions": model.dimensions,
        "dimensions_offered": sorted(model.dimensions_offered),
        "weights": f"{model.weights.name}, {'run as it is' if model.onnx else 'converted'}",
        "provider": description.provider,
        "precision": description.precision,
        "int8_gate": None if record is None else {**asdict(record), "passed": record.passed},
        "fingerprint": description.fingerprint,
        "memory_bytes": description.memory_bytes,
        "files": _sizes(model.path),
    }


def convert(found: Found, output: Path | None) -> dict[str, Any]:
    """Writes the ONNX file that would run, or says that there is one. Raises what is wrong."""
    from engine.models import convert, precision, providers

    model = found.read()
    report = {"id": found.spec.id, "converted": not model.onnx}
    provider = providers.choose(found.loader.provider, providers.offered())
    if model.onnx:
        return {**report, "file": str(model.weights)}
    digits = precision.choose(found.spec.precision, model, provider, found.cache_dir)
    begin_s = time.monotonic()
    with stderr().status(f"converting {found.spec.id} to {digits}"):
        file = convert.onnx_file(
            model, output or found.cache_dir, digits, "cuda" if provider == "cuda" else "cpu"
        )
    return {
        **report,
        "file": str(file),
        "precision": digits,
        "bytes": file.stat().st_size,
        "seconds": time.monotonic() - begin_s,
    }


def gate_record(model: ModelDir, cache_dir: Path) -> GateRecord | None:
    """What was measured of int8 for these weights, if anything."""
    from engine.models import gate

    return gate.record_of(model.weights_hash, cache_dir)


def _unreadable(spec: ModelSpec) -> Description:
    """A model whose directory cannot be read."""
    from services.embedding.loader import Description

    return Description(spec.id, str(spec.source))


def _row(found: Description, note: str) -> dict[str, Any]:
    return {
        "id": found.id,
        "source": found.source,
        "task": found.task or "",
        "dimensions": found.dimensions,
        "tokens_max": found.tokens_max,
        "precision": found.precision,
        "provider": found.provider,
        "memory_bytes": found.memory_bytes,
        "fingerprint": found.fingerprint,
        "note": note,
    }


def _settings(data_dir: Path | None) -> tuple[Settings, Path, Loader]:
    from services.commands.settings import load
    from services.embedding.loader import Loader

    settings = load(data_dir=data_dir)
    cache_dir = settings.models.cache_dir or settings.data_dir / "models"
    return settings, cache_dir, Loader(settings.models, cache_dir)


def _checked(precision: str) -> Any:
    known = ("auto", "fp32", "int8", "fp16")
    if precision not in known:
        raise InvalidField(
            f"precision is {precision!r}; it must be one of {', '.join(known)}",
            field="precision",
            metadata={"precision": precision, "known": ", ".join(known)},
        )
    return precision


def _sizes(directory: Path) -> dict[str, int]:
    """The files of a directory by name, with their bytes."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.stat().st_size for path in files}
