"""Which models the configuration names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InvalidField
from engine.models import default
from engine.models.model_dir import AS_THEY_SAY, Overrides
from services.config import ModelSettings, Precision, ServedModel
from services.embedding import hub
from services.embedding.hub import HubModel
from services.rpc import names

DEFAULT = "default"
"""The id that stands for the model of the configuration."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model by its id: a directory or a model of the hub, and how it is to run."""

    id: str
    source: Path | HubModel
    precision: Precision = "auto"
    overrides: Overrides = AS_THEY_SAY
    preload: bool = False


def configured(settings: ModelSettings) -> tuple[ModelSpec, ...]:
    """Every model of the configuration, the default one first.

    Raises InvalidField for an id of the wrong form or one that is given twice, and
    ModelUnavailable where the bundled model is wanted and not installed.
    """
    specs = [default_spec(settings)]
    for number, more in enumerate(settings.more):
        field = f"models.more[{number}]"
        model_id = names.check_id(more.id, f"{field}.id")
        if model_id in {DEFAULT, *(spec.id for spec in specs)}:
            raise InvalidField(
                f"{field}.id is {model_id!r}, which is taken; choose another id",
                field=f"{field}.id",
                metadata={"id": model_id},
            )
        source, overrides = parse(more.source), _overrides(more)
        specs.append(ModelSpec(model_id, source, more.precision, overrides, more.preload))
    return tuple(specs)


def default_spec(settings: ModelSettings) -> ModelSpec:
    """The default model. Raises as `configured`."""
    if settings.directory is not None and settings.hub_id:
        raise InvalidField(
            f"models.directory is {settings.directory} and models.hub_id is {settings.hub_id}; "
            "give one of them",
            field="models.hub_id",
            metadata={"directory": str(settings.directory), "hub_id": settings.hub_id},
        )
    source: Path | HubModel
    if settings.hub_id:
        found = hub.parse(settings.hub_id)
        if found is None:
            raise InvalidField(
                f"models.hub_id is {settings.hub_id!r}; it must be org/name or org/name@revision",
                field="models.hub_id",
                metadata={"hub_id": settings.hub_id},
            )
        source = found
    else:
        source = settings.directory or default.directory()
    bundled = settings.directory is None and not settings.hub_id
    model_id = settings.id or (default.MODEL_ID if bundled else id_of(source))
    names.check_id(model_id, "models.id")
    return ModelSpec(model_id, source, settings.precision, _overrides(settings))


def _overrides(settings: ModelSettings | ServedModel) -> Overrides:
    return Overrides(
        settings.query_prompt, settings.passage_prompt, settings.pooling, settings.tokens_max
    )


def parse(text: str) -> Path | HubModel:
    """A source as people write it: a directory where there is one, else what has the form of the
    hub's ids, else a directory that is missing."""
    path = Path(text).expanduser()
    return path if path.is_dir() else hub.parse(text) or path


def id_of(source: Path | HubModel) -> str:
    """An id for a model that was given none, from its last name: `intfloat/e5_Small` is
    `e5-small`."""
    name = source.repo if isinstance(source, HubModel) else source.absolute().name
    return re.sub(r"[^a-z0-9]+", "-", name.rpartition("/")[2].lower())[:63].strip("-") or "model"
