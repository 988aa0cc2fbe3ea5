# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "PyStemmer==3.1.0",
#     "bm25s==0.3.16",
#     "numpy==2.4.6",
# ]
# ///
"""bm25s, BM25 in Python over sparse matrices: English stop words and stems as its documentation
has them, k1 0.9 and b 0.4 as Anserini's.

    {"fill": a file with a JSON list of texts} -> {"seconds": s}
    {"search": [query, ...], "k": n} -> {"seconds": s, "found": [[row, ...], ...]}
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.wire import Answer, Message, serve_answers


def load(given: Mapping[str, Any]) -> Answer:
    """An index that `fill` makes; nothing is read from what it is given."""
    import bm25s  # type: ignore[import-not-found]
    import Stemmer  # type: ignore[import-not-found]

    stemmer = Stemmer.Stemmer("english")
    index: Any = bm25s.BM25(k1=0.9, b=0.4)

    def tokens(texts: list[str]) -> Any:
        return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)

    def answer(asked: Message) -> Message:
        begin_s = time.perf_counter()
        if "fill" in asked:
            index.index(tokens(json.loads(Path(asked["fill"]).read_text())), show_progress=False)
            return {"seconds": time.perf_counter() - begin_s}
        rows, _ = index.retrieve(tokens(asked["search"]), k=asked["k"], show_progress=False)
        return {"seconds": time.perf_counter() - begin_s, "found": rows.tolist()}

    return answer


if __name__ == "__main__":
    serve_answers(load, ("bm25s", "PyStemmer"))
