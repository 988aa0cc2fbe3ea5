# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "infinity-emb[torch]==0.0.78",
#     "sentence-transformers==3.4.1",
#     "tokenizers==0.22.2",
#     "torch==2.13.0",
#     "transformers==4.57.6",
# ]
# ///
"""infinity-emb's engine in process, with PyTorch and batches of 32: its queue and threads, no
server before them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.wire import Embed, serve


def load(given: Mapping[str, Any]) -> Embed:
    """A started engine with its own defaults; the run warms it up."""
    import torch  # type: ignore[import-not-found]
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs  # type: ignore[import-not-found]

    torch.set_num_threads(given["threads"])
    engine = AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path=given["model"],
            engine="torch",
            device="cpu",
            model_warmup=False,
        )
    )
    runner = asyncio.Runner()
    runner.run(engine.astart())

    def embed(texts: list[str]) -> NDArray[np.float32]:
        vectors, _ = runner.run(engine.embed(texts))
        return np.stack(vectors)

    return embed


if __name__ == "__main__":
    serve(load, ("infinity-emb", "sentence-transformers", "transformers", "tokenizers", "torch"))
