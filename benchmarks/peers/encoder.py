"""ragmesh's own encoder, raw: `Encoder.embed` in a process that does nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.wire import Embed, serve


def load(given: Mapping[str, Any]) -> Embed:
    """`options`, where given, are keywords of `Encoder.load`, such as `precision`."""
    from engine.models.encoder import Encoder

    encoder = Encoder.load(
        Path(given["model"]),
        Path(given["cache"]),
        threads=given["threads"],
        provider="cpu",
        **given.get("options", {}),
    )

    def embed(texts: list[str]) -> NDArray[np.float32]:
        return encoder.embed(texts, "passage", truncate=True).vectors

    return embed


if __name__ == "__main__":
    serve(load, ("ragmesh-server", "onnxruntime", "tokenizers"))
