"""Writes everything that is generated from the contract: the SDK's stubs, `api.binpb` and
`openapi.json`.

    python protos/generate.py            write into clients/python
    python protos/generate.py --out DIR  write there instead (the test that compares uses it)

The only writer of generated files. Stubs land in `ragmesh/api/**`, whose proto package is its
Python package, so that nothing is rewritten.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path

from services.gateway.openapi import openapi

PROTOS = Path(__file__).resolve().parent
THIRD_PARTY = PROTOS / "third_party"
BIN = Path(sys.executable).parent
DESCRIPTOR = Path("ragmesh/api/api.binpb")
OPENAPI = Path("ragmesh/api/openapi.json")
API_VERSION = "v1"
WANTED = (
    *("google/api/annotations", "google/api/http"),
    *("google/rpc/code", "google/rpc/error_details", "google/rpc/status"),
)


def copy_third_party() -> None:
    """Copies google/api and google/rpc from the installed googleapis-common-protos."""
    for path in files("googleapis-common-protos") or []:
        if path.suffix == ".proto" and str(path).removesuffix(".proto") in WANTED:
            source, target = Path(str(path.locate())).read_bytes(), THIRD_PARTY / path
            # Left alone where it is the same, so that nobody reads a half-written file.
            if not target.exists() or target.read_bytes() != source:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source)


def sources() -> list[str]:
    """The contract's files, relative to `protos`, in a stable order."""
    return sorted(str(p.relative_to(PROTOS)) for p in (PROTOS / "ragmesh").rglob("*.proto"))


def generate(out: Path) -> None:
    """Writes stubs, their types, the descriptor and the OpenAPI document below `out`."""
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{THIRD_PARTY}"),
            *(f"--python_out={out}", f"--grpc_python_out={out}"),
            *(f"--plugin={BIN / 'protoc-gen-mypy'}", f"--plugin={BIN / 'protoc-gen-mypy_grpc'}"),
            *(f"--mypy_out=quiet:{out}", f"--mypy_grpc_out=quiet:{out}", *sources()),
        ],
        check=True,
    )
    for directory in [out / "ragmesh" / "api", *(out / "ragmesh" / "api").rglob("*")]:
        if directory.is_dir():
            (directory / "__init__.py").touch()
    # error_details belongs to no import of ours, but Envoy needs it to print details as JSON.
    build_descriptor(out / DESCRIPTOR, "--exclude-source-info")
    with tempfile.TemporaryDirectory() as scratch:
        commented = Path(scratch) / "commented.binpb"
        build_descriptor(commented)
        document = openapi(commented.read_bytes(), API_VERSION)
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (out / OPENAPI).write_text(text + "\n", encoding="utf-8")


def build_descriptor(target: Path, *options: str) -> None:
    """Writes the contract as one serialized FileDescriptorSet."""
    subprocess.run([BIN / "buf", "build", PROTOS.parent, *options, "-o", target], check=True)


def main() -> None:
    """Generates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=PROTOS.parent / "clients" / "python" / "src")
    out = parser.parse_args().out.resolve()
    copy_third_party()
    # Made aside and then swapped in, so that whoever imports the stubs meanwhile finds them.
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        shutil.rmtree(out / "ragmesh" / "api", ignore_errors=True)
        shutil.copytree(Path(scratch) / "ragmesh" / "api", out / "ragmesh" / "api")


if __name__ == "__main__":
    main()
