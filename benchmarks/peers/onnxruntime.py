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
"""onnxruntime as most would use it: PyTorch's export, onnxruntime's default options, batches of 32
texts in the order given, each padded to its longest, and numpy for the mean.

The packages are those of sentence_transformers.py, so that both share an environment.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.wire import Embed, serve

BATCH = 32


def load(given: Mapping[str, Any]) -> Embed:
    """The model in float32; exported the first time, which takes 10 s and more."""
    import onnxruntime
    from tokenizers import Tokenizer

    model = Path(given["model"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = given["threads"]
    session = onnxruntime.InferenceSession(
        str(_exported(model)), options, providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    settings = json.loads((model / "sentence_bert_config.json").read_text())
    tokenizer.enable_truncation(settings["max_seq_length"])
    tokenizer.enable_padding()

    def embed(texts: list[str]) -> NDArray[np.float32]:
        batches = []
        for start in range(0, len(texts), BATCH):
            encoded = tokenizer.encode_batch(texts[start : start + BATCH])
            ids = np.array([one.ids for one in encoded], np.int64)
            mask = np.array([one.attention_mask for one in encoded], np.int64)
            (tokens,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
            sums = (tokens * mask[:, :, None].astype(np.float32)).sum(1)
            batches.append(sums / np.linalg.norm(sums, axis=1, keepdims=True))
        return np.concatenate(batches)

    return embed


def _exported(model: Path) -> Path:
    """The ONNX file, kept in this peer's environment for the next run."""
    with (model / "model.safetensors").open("rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    file = Path(sys.prefix) / f"{digest[:16]}.onnx"
    if not file.is_file():
        fresh = file.with_name(f"new-{file.name}")
        _export(model, fresh)
        fresh.replace(file)
    return file


def _export(model: Path, file: Path) -> None:
    import torch  # type: ignore[import-not-found]
    from transformers import AutoModel  # type: ignore[import-not-found]

    encoder = AutoModel.from_pretrained(model, add_pooling_layer=False).eval()
    encoder.config.return_dict = False
    example = torch.ones(2, 16, dtype=torch.int64)
    axes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=512)}
    torch.onnx.export(
        encoder,
        (),
        str(file),
        kwargs={"input_ids": example, "attention_mask": example.clone()},
        dynamic_shapes={"input_ids": axes, "attention_mask": axes},
        output_names=["token_embeddings"],
        external_data=False,
        dynamo=True,
    )


if __name__ == "__main__":
    serve(load, ("onnxruntime", "torch", "transformers", "tokenizers"))
