# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "onnx==1.23.2",
#     "onnxruntime==1.31.1",
#     "onnxscript==0.7.2",
#     "sentence-transformers==6.2.0",
#     "tokenizers==0.23.3",
#     "torch==2.13.0",
#     "transformers==5.23.0",
# ]
# ///
"""sentence-transformers with PyTorch, as its documentation uses it: `encode`, batches of 32,
which it makes of texts that it has sorted by length.

The packages of onnx are for onnxruntime.py, which shares the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.wire import Embed, serve


def load(given: Mapping[str, Any]) -> Embed:
    """The model on the CPU."""
    import torch  # type: ignore[import-not-found]
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]

    torch.set_num_threads(given["threads"])
    model = SentenceTransformer(given["model"], device="cpu")

    def embed(texts: list[str]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = model.encode(texts, batch_size=32, show_progress_bar=False)
        return vectors

    return embed


if __name__ == "__main__":
    serve(load, ("sentence-transformers", "transformers", "tokenizers", "torch"))
