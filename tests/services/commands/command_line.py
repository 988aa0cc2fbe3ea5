"""The `ragmesh` program as people run it: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs
import psutil

WAIT_S = 100.0
RAGMESH = [sys.executable, "-P", "-m", "services.cli"]


def environment(home: Path) -> dict[str, str]:
    """Ours without any setting of ragmesh, and with a home of its own. Only the cache of
    converted models is the user's, as it is for the demo."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAGMESH_")}
    models = platformdirs.user_cache_path("ragmesh", appauthor=False) / "models"
    return {
        **kept,
        "XDG_DATA_HOME": str(home),
        "TMPDIR": str(home),
        "RAGMESH_MODELS__CACHE_DIR": str(models),
    }


def run(
    home: Path,
    *arguments: str,
    timeout_s: float = WAIT_S,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with more variables in its environment."""
    return subprocess.run(
        [*RAGMESH, *arguments],
        env=environment(home) | dict(variables or {}),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object on stdout of a command that succeeded."""
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The JSON objects on stdout of a command that tells how it goes, a line each."""
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def failure(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON error on stderr of a command that failed, with nothing on stdout."""
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    value: dict[str, Any] = json.loads(done.stderr)["error"]
    return value


class Up:
    """A running `ragmesh up --json` and what it said."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [*RAGMESH, "up", "--json", "--port", "0", "--grpc-port", "0", *arguments],
            env=environment(home),
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said: list[dict[str, Any]] = []
        self.ready = self.wait_for(event="ready")

    def wait_for(self, **wanted: object) -> dict[str, Any]:
        """Read on until a line has all these fields."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            fields: dict[str, Any] = json.loads(line)
            self.said.append(fields)
            if wanted.items() <= fields.items():
                return fields
        raise AssertionError(f"ended without {wanted}; it said {self.said}")

    def descendants(self) -> list[int]:
        """Every process below it."""
        return [p.pid for p in psutil.Process(self.process.pid).children(recursive=True)]

    def close(self) -> None:
        """Gone, whatever happened."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
