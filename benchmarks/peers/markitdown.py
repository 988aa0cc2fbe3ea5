# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "markitdown[docx,outlook,pdf,pptx,xls,xlsx]==0.1.8",
# ]
# ///
"""markitdown as its documentation shows it: one converter, files by their path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.peers.reading import ReadFile, serve_reading


def load(given: Mapping[str, Any]) -> ReadFile:
    """The converter with its built-in formats, which fetches nothing for local files."""
    from markitdown import MarkItDown  # type: ignore[import-not-found]

    converter = MarkItDown(enable_plugins=False)

    def read(path: str) -> str:
        return str(converter.convert_local(path).text_content).strip()

    return read


if __name__ == "__main__":
    serve_reading(load, "markitdown")
