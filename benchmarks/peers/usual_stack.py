# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "chromadb==1.5.9",
#     "fastapi==0.165.0",
#     "sentence-transformers==6.2.0",
#     "tokenizers==0.23.3",
#     "torch==2.13.0",
#     "transformers==5.23.0",
#     "uvicorn==0.54.0",
# ]
# ///
"""The usual stack: a FastAPI service over Chroma and sentence-transformers, as their documentation
shows it. One process, one worker of uvicorn, handlers that are plain functions (FastAPI runs them
in threads), a persistent Chroma collection with its SentenceTransformerEmbeddingFunction.

    POST /documents {"documents": [{"id", "title", "text"}, ...]} -> {"passages": n}
    POST /search {"query", "limit"} -> {"hits": [{"id", "document", "text", "distance"}, ...]}
    POST /ask {"question"} -> {"answer", "sources": [document, ...]}

Texts are cut every 1,000 characters with 200 in common, the numbers of most tutorials. The answer
is made without a language model, as ragmesh's is by default: the two sentences of the five best
passages that are closest to the question.

To the run it says `{"address": host:port, "pid": n}` for any line.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.peers.wire import Answer, serve_answers

CHARACTERS, COMMON = 1_000, 200
PASSAGES, SENTENCES = 5, 2
START_TIMEOUT_S = 60.0
_END = re.compile(r"(?<=[.!?])\s+")

Encode = Callable[[list[str]], Any]
"""Texts to rows of floats."""


def passages(text: str) -> list[str]:
    """Pieces of at most 1,000 characters, each 800 after the one before; at least one."""
    step = CHARACTERS - COMMON
    starts = range(0, max(1, len(text) - COMMON), step)
    return [text[start : start + CHARACTERS] for start in starts]


def answered(question: str, found: Sequence[str], encode: Encode) -> str:
    """The sentences closest to the question, in their own order; nothing of nothing."""
    sentences = [one for text in found for one in _END.split(text) if one.strip()]
    if not sentences:
        return ""
    rows = np.asarray(encode([question, *sentences]))
    best = np.argsort(-(rows[1:] @ rows[0]), kind="stable")[:SENTENCES]
    return " ".join(sentences[row] for row in sorted(best.tolist()))


def make_app(collection: Any, encode: Encode) -> Any:
    """The service on a Chroma collection that embeds by itself."""
    from fastapi import Body, FastAPI

    app = FastAPI()

    @app.post("/documents")
    def documents(documents: list[dict[str, str]] = Body(embed=True)) -> dict[str, int]:  # noqa: B008
        ids: list[str] = []
        texts: list[str] = []
        metadatas: list[dict[str, str]] = []
        for one in documents:
            for number, text in enumerate(passages(f"{one['title']}\n\n{one['text']}")):
                ids.append(f"{one['id']}#{number}")
                texts.append(text)
                metadatas.append({"document": one["id"]})
        collection.upsert(ids=ids, documents=texts, metadatas=metadatas)
        return {"passages": len(ids)}

    @app.post("/search")
    def search(query: str = Body(), limit: int = Body(10, ge=1, le=100)) -> dict[str, Any]:
        return {"hits": _hits(collection, query, limit)}

    @app.post("/ask")
    def ask(question: str = Body(embed=True)) -> dict[str, Any]:
        hits = _hits(collection, question, PASSAGES)
        answer = answered(question, [one["text"] for one in hits], encode)
        return {"answer": answer, "sources": [one["document"] for one in hits]}

    return app


def _hits(collection: Any, query: str, limit: int) -> list[dict[str, Any]]:
    found = collection.query(query_texts=[query], n_results=limit)
    rows = (found[key][0] for key in ("ids", "metadatas", "documents", "distances"))
    return [
        {"id": one, "document": metadata["document"], "text": text, "distance": distance}
        for one, metadata, text, distance in zip(*rows, strict=True)
    ]


def load(given: Mapping[str, Any]) -> Answer:
    """Serves when it returns. `given` has `folder` and `model`, a Hugging Face directory."""
    os.environ["ANONYMIZED_TELEMETRY"] = "False"
    import chromadb  # type: ignore[import-not-found]
    import uvicorn
    from chromadb.utils import embedding_functions  # type: ignore[import-not-found]
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]

    embedding = embedding_functions.SentenceTransformerEmbeddingFunction(
        model_name=given["model"], device="cpu", normalize_embeddings=True
    )
    client = chromadb.PersistentClient(path=given["folder"])
    collection = client.create_collection(
        "documents", embedding_function=embedding, configuration={"hnsw": {"space": "cosine"}}
    )
    model = SentenceTransformer(given["model"], device="cpu")
    app = make_app(collection, lambda texts: model.encode(texts, show_progress_bar=False))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    serving = threading.Thread(target=server.run, args=([listening],), daemon=True)
    serving.start()
    end_s = time.monotonic() + START_TIMEOUT_S
    while not server.started:
        if time.monotonic() > end_s or not serving.is_alive():
            raise RuntimeError("uvicorn did not start; see standard error")
        time.sleep(0.05)
    address = "{}:{}".format(*listening.getsockname())
    return lambda asked: {"address": address, "pid": os.getpid()}


if __name__ == "__main__":
    serve_answers(load, ("chromadb", "fastapi", "sentence-transformers", "torch", "uvicorn"))
