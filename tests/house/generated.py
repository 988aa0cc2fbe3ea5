"""Whether the generated files are what the generator writes now."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "clients" / "python" / "src"
API = Path("ragmesh/api")


def contents(root: Path) -> dict[Path, bytes]:
    """Every generated file below `root`, by its path there."""
    return {
        path.relative_to(root): path.read_bytes()
        for path in sorted((root / API).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


@cache
def generate() -> dict[Path, bytes]:
    """What the generator writes from the present .proto files."""
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(
            [sys.executable, ROOT / "protos" / "generate.py", "--out", out],
            check=True,
            capture_output=True,
            text=True,
        )
        return contents(Path(out))


def stale() -> str:
    """Which committed files differ from what the generator writes, a line each."""
    try:
        fresh = generate()
    except subprocess.CalledProcessError as error:
        return f"protos/generate.py failed:\n{error.stderr}{error.stdout}"
    committed = contents(COMMITTED)
    lines = [f"missing: {path}" for path in sorted(fresh.keys() - committed.keys())]
    lines += [f"left over: {path}" for path in sorted(committed.keys() - fresh.keys())]
    lines += [
        f"differs: {path}"
        for path in sorted(fresh.keys() & committed.keys())
        if fresh[path] != committed[path]
    ]
    return "\n".join(lines)
