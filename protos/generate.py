"""Writes everything that is generated from the contract: the SDK's stubs and `api.binpb`.

    python protos/generate.py            write into clients/python
    python protos/generate.py --out DIR  write there instead (the test that compares uses it)

The only writer of generated files. Stubs land in `ragmesh/api/**`, whose proto package is its
Python package, so that nothing is rewritten.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
THIRD_PARTY = PROTOS / "third_party"
BIN = Path(sys.executable).parent
DESCRIPTOR = Path("ragmesh/api/api.binpb")


def copy_third_party() -> None:
    """Copies google/api and google/rpc from the installed googleapis-common-protos."""
    wanted = ("google/api/annotations", "google/api/http", "google/rpc/status")
    wanted += ("google/rpc/error_details", "google/rpc/code")
    shutil.rmtree(THIRD_PARTY, ignore_errors=True)
    for path in files("googleapis-common-protos") or []:
        if path.suffix == ".proto" and str(path).removesuffix(".proto") in wanted:
            target = THIRD_PARTY / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path.locate(), target)


def sources() -> list[str]:
    """The contract's files, relative to `protos`, in a stable order."""
    return sorted(str(p.relative_to(PROTOS)) for p in (PROTOS / "ragmesh").rglob("*.proto"))


def generate(out: Path) -> None:
    """Writes stubs, their types and the descriptor below `out`."""
    shutil.rmtree(out / "ragmesh" / "api", ignore_errors=True)
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{THIRD_PARTY}"]
        + [f"--python_out={out}", f"--grpc_python_out={out}"]
        + [f"--plugin={BIN / 'protoc-gen-mypy'}", f"--plugin={BIN / 'protoc-gen-mypy_grpc'}"]
        + [f"--mypy_out=quiet:{out}", f"--mypy_grpc_out=quiet:{out}", *sources()],
        check=True,
    )
    for directory in [out / "ragmesh" / "api", *(out / "ragmesh" / "api").rglob("*")]:
        if directory.is_dir():
            (directory / "__init__.py").touch()
    # error_details belongs to no import of ours, but Envoy needs it to print details as JSON.
    subprocess.run(
        [BIN / "buf", "build", PROTOS.parent, "--exclude-source-info", "-o", out / DESCRIPTOR], check=True
    )


def main() -> None:
    """Generates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=PROTOS.parent / "clients" / "python" / "src")
    out = parser.parse_args().out.resolve()
    copy_third_party()
    out.mkdir(parents=True, exist_ok=True)
    generate(out)


if __name__ == "__main__":
    main()
