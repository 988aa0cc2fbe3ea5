"""From a model directory to a session that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.models import convert, precision, providers
from engine.models.model_dir import ModelDir


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that can be run: `file`, on `provider` ("cpu" or "cuda"), computing in `digits`."""

    model: ModelDir
    file: Path
    session: providers.Session
    provider: str
    digits: str


def open_model(
    model: ModelDir,
    cache_dir: Path,
    *,
    threads: int,
    provider: str = providers.AUTO,
    asked: precision.Asked = "auto",
    gpu_memory_bytes_max: int = 0,
) -> Opened:
    """Converts a model if needed and opens it; `threads` is how many one run uses.

    Raises ModelUnavailable, DataLoss, ProviderMissing or InvalidField.
    """
    chosen = providers.choose(provider, providers.offered())
    if model.onnx:
        digits = precision.of_onnx(model.weights)
        precision.check_shipped(asked, digits, model.weights)
        file = model.weights
    else:
        target = precision.choose(asked, model, chosen, cache_dir)
        file = convert.onnx_file(model, cache_dir, target, "cuda" if chosen == "cuda" else "cpu")
        digits = target
    session = providers.open_session(file, chosen, threads, gpu_memory_bytes_max)
    return Opened(model, file, session, chosen, digits)
