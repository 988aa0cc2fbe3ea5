"""The environments that peers run in: one for each set of pinned packages, in the user's cache.

A directory is named after what it holds, so a changed pin is another environment, and it counts
only once its marker says that all of it is there. pip, not uv, fills it: a machine's pip may be
configured with builds of PyTorch without CUDA, which are a tenth of the size and satisfy the pin.
"""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import platformdirs

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
CACHE = platformdirs.user_cache_path("ragmesh") / "benchmarks" / "peers"

BY_ADDRESS = {"qdrant": "search", "tei": "embed"}
"""Peers whose server runs elsewhere, with the suite that measures beside them."""

_MARKER = "complete"
_METADATA = re.compile(
    r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$",
)
"""The reference expression of PEP 723."""


class PeerMissing(Exception):
    """A peer whose environment is not there; the message has the command that makes it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A module that ends in `wire.serve`. `requirements` is empty for one that runs in our own
    environment; others are kept in `cache`."""

    file: Path
    requirements: tuple[str, ...]
    cache: Path = CACHE

    @property
    def name(self) -> str:
        """What it is called in commands."""
        return self.file.stem

    @property
    def directory(self) -> Path:
        """Where its environment is, or would be."""
        told = "\n".join((platform.python_version(), *self.requirements))
        return self.cache / hashlib.sha256(told.encode()).hexdigest()[:12]

    @property
    def is_ready(self) -> bool:
        """Whether it can be started."""
        return not self.requirements or (self.directory / _MARKER).is_file()

    def python(self) -> Path:
        """The interpreter to start it with. Raises PeerMissing."""
        if not self.requirements:
            return Path(sys.executable)
        if not self.is_ready:
            raise PeerMissing(
                f"{self.name} is not installed; run `uv run python -m benchmarks.peers prepare "
                f"{self.name}`"
            )
        return self.directory / "bin" / "python"

    def prepare(self) -> None:
        """Makes the environment unless it is there. Raises subprocess.CalledProcessError, after
        pip has said on standard error what is wrong."""
        if self.is_ready:
            return
        directory = self.directory
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
        subprocess.run(
            [
                *(str(directory / "bin" / "python"), "-m", "pip", "install"),
                *("-qq", "--no-input", "--disable-pip-version-check"),
                *self.requirements,
            ],
            check=True,
            stdout=sys.stderr,
        )
        (directory / _MARKER).touch()


def read(file: Path, cache: Path = CACHE) -> Peer:
    """The peer that a module is."""
    return Peer(file, _requirements(file.read_text(encoding="utf-8")), cache)


def find(name: str) -> Peer:
    """The peer of this folder. Raises LookupError where there is none of the name."""
    file = FOLDER / f"{name}.py"
    if not file.is_file():
        raise LookupError(f"{FOLDER} has no peer {name!r}")
    return read(file)


def installed_apart() -> list[Peer]:
    """All peers of this folder that need an environment of their own, by name."""
    peers = map(read, sorted(FOLDER.glob("*.py")))
    return [peer for peer in peers if peer.requirements]


def not_reached(suites: Collection[str], addresses: Collection[str]) -> list[str]:
    """What is said of servers that no address was given for, in a run of these suites."""
    return [
        f"{name}: its server runs elsewhere; give --peer {name}=URL to measure beside it"
        for name, suite in BY_ADDRESS.items()
        if suite in suites and name not in addresses
    ]


def _requirements(source: str) -> tuple[str, ...]:
    for match in _METADATA.finditer(source):
        if match["type"] == "script":
            lines = match["content"].splitlines()
            toml = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines)
            return tuple(tomllib.loads(toml).get("dependencies", ()))
    return ()
