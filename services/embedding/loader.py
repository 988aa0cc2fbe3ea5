"""From a model that the configuration names to one that runs. All of this blocks: for threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import RagmeshError
from engine.models import model_dir, precision, providers
from engine.models.cross_encoder import CrossEncoder
from engine.models.encoder import Encoder
from engine.models.model_dir import ModelDir, Task
from engine.models.tokenize import Tokenized
from services.config import ModelSettings
from services.embedding import hub, memory
from services.embedding.hub import OnProgress
from services.embedding.specs import ModelSpec

WARM_SHAPES = ((1, 8), (8, 32), (1, 256))
"""Texts and tokens of the passes that a model makes before it serves: the first ones allocate, and
no caller should wait for that. About 0.1 s for all-MiniLM-L6-v2."""


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of a model; what is not yet known is "", 0 or None.

    `memory_bytes` is an upper estimate. `provider` and `precision` are those it runs or would run
    in; they and `fingerprint` are "" where it cannot.
    """

    id: str
    source: str
    task: Task | None = None
    hidden: int = 0
    dimensions: int = 0
    dimensions_offered: frozenset[int] = frozenset()
    tokens_max: int = 0
    precision: str = ""
    memory_bytes: int = 0
    provider: str = ""
    fingerprint: str = ""
    loaded: bool = False


class Loader:
    """Reads and loads models, by what the settings say of all of them: `provider`, as it was asked
    for, and `threads` of a forward pass."""

    def __init__(self, settings: ModelSettings, cache_dir: Path) -> None:
        self._settings = settings
        self.provider = settings.provider
        self.threads = settings.threads or len(os.sched_getaffinity(0))
        self._cache_dir = cache_dir
        self._described: dict[str, tuple[object, Description]] = {}
        self._describing = threading.Lock()

    def fetch(self, spec: ModelSpec, on_progress: OnProgress) -> Path:
        """The directory of a model, downloaded where it has to be. Raises as `hub.fetch`."""
        if isinstance(spec.source, Path):
            return spec.source
        return hub.fetch(spec.source, self._cache_dir / "hub", on_progress)

    def find(self, spec: ModelSpec) -> Path | None:
        """The directory of a model; None for one of the hub that was never fetched."""
        if isinstance(spec.source, Path):
            return spec.source
        return hub.find(spec.source, self._cache_dir / "hub")

    def describe(self, spec: ModelSpec) -> Description:
        """What the files of a model say without loading it. Raises as `model_dir.read`.

        Kept until a file changes, because hashing takes 0.1 s for 90 MB.
        """
        directory = self.find(spec)
        if directory is None:
            return Description(spec.id, str(spec.source))
        with self._describing:
            state = _state(directory)
            known = self._described.get(spec.id)
            if known is None or known[0] != state:
                known = state, self._read(spec, model_dir.read(directory, spec.overrides))
                self._described[spec.id] = known
            return known[1]

    def _read(self, spec: ModelSpec, model: ModelDir) -> Description:
        provider, digits = self.would_run(spec, model)
        return Description(
            id=spec.id,
            source=str(spec.source),
            task=model.task,
            hidden=model.hidden,
            dimensions=model.dimensions,
            dimensions_offered=model.dimensions_offered,
            tokens_max=model.tokens_max,
            provider=provider,
            precision=digits,
            fingerprint=model.fingerprint(digits).text if digits else "",
            memory_bytes=memory.estimate(
                memory.weights_bytes(model), model.hidden, self._settings.batch_padded_tokens_max
            ),
        )

    def would_run(self, spec: ModelSpec, model: ModelDir) -> tuple[str, str]:
        """Provider and precision that a load would choose; "" where it would fail."""
        try:
            provider = providers.choose(self.provider, providers.offered())
            if model.onnx:
                return provider, precision.of_onnx(model.weights)
            return provider, precision.choose(spec.precision, model, provider, self._cache_dir)
        except RagmeshError:
            return "", ""

    def load(self, spec: ModelSpec, directory: Path) -> Encoder | CrossEncoder:
        """The model, warm. Raises as `Encoder.load`."""
        task = self.describe(spec).task
        kind: type[Encoder] | type[CrossEncoder] = CrossEncoder if task == "rerank" else Encoder
        encoder = kind.load(
            directory,
            self._cache_dir,
            provider=self.provider,
            threads=self.threads,
            precision=spec.precision,
            name=spec.id,
            overrides=spec.overrides,
            gpu_memory_bytes_max=self._settings.gpu_memory_bytes_max,
        )
        for batch in _warm_batches(encoder):
            encoder.forward(batch)
        return encoder

    def running(self, description: Description, encoder: Encoder | CrossEncoder) -> Description:
        """The description of a model that runs."""
        return replace(
            description,
            provider=encoder.provider,
            precision=encoder.fingerprint.precision,
            fingerprint=encoder.fingerprint.text,
            memory_bytes=memory.estimate(
                memory.file_bytes(encoder.file),
                description.hidden,
                self._settings.batch_padded_tokens_max,
            ),
            loaded=True,
        )


def _warm_batches(encoder: Encoder | CrossEncoder) -> Iterator[list[Tokenized]]:
    text = "warm up " * WARM_SHAPES[-1][1]
    if isinstance(encoder, Encoder):
        item = encoder.tokenize([text], "passage", truncate=True)[0]
    else:
        item = encoder.windows("warm up", [text])[0][0]
    for count, tokens in WARM_SHAPES:
        cut = replace(item, ids=item.ids[:tokens])
        yield [cut] * count


def _state(directory: Path) -> object:
    """Changes whenever a file of the directory does."""
    found = []
    for path in sorted(directory.rglob("*")):
        status = path.stat()
        found.append((path, status.st_mtime_ns, status.st_size))
    return tuple(found)
