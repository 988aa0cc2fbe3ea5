"""Every static check of the house, all reported, each with its repair.

    uv run poe check

No tests run here, nothing is downloaded and no file is changed. A check that fails does not stop
the others; the exit code is 1 if any failed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.house import generated, pins

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
RELEASED = ROOT / "protos" / "released.binpb"

BREAKING_CONFIG = '{"version": "v2", "breaking": {"use": ["WIRE_JSON"], "ignore": ["google"]}}'
"""As in buf.yaml, for two built images instead of a workspace."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what it is called, what runs it, and what to do when it fails.

    `run` returns what is wrong, empty if nothing is.
    """

    name: str
    run: Callable[[], str]
    repair: str


def tool(program: str, *arguments: str) -> Callable[[], str]:
    """A check that is a program of the environment: wrong is a non-zero exit, with its output."""

    def run() -> str:
        done = subprocess.run(
            [BIN / program, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return (done.stdout.strip() or f"exit code {done.returncode}") if done.returncode else ""

    return run


def breaking() -> str:
    """What of the contract differs from the released one in a way that breaks its users.

    Two images are compared, because a workspace of several modules cannot be compared with one.
    """
    with tempfile.TemporaryDirectory() as scratch:
        built = str(Path(scratch) / "now.binpb")
        return (
            tool("buf", "build", "-o", built)()
            or tool(
                *("buf", "breaking", built, "--against", str(RELEASED), "--config", BREAKING_CONFIG)
            )()
        )


# The cheap ones first. `generated` also brings the protos of others that buf reads.
CHECKS: Sequence[Check] = (
    Check("generated files are current", generated.stale, "uv run poe gen"),
    Check("pins are current", pins.stale, "uv run poe pin"),
    Check("ruff check", tool("ruff", "check", "--quiet", "."), "uv run poe fix, then by hand"),
    Check("ruff format", tool("ruff", "format", "--check", "."), "uv run poe fix"),
    Check("buf lint", tool("buf", "lint"), "by hand, in the .proto file named"),
    Check(
        "buf format",
        tool("buf", "format", "--diff", "--exit-code", "protos", "--exclude-path", "third_party"),
        "uv run poe fix",
    ),
    Check(
        "buf breaking",
        breaking,
        "by hand: keep what is released and add beside it (CONTRIBUTING.md, A release)",
    ),
    Check(
        "imports",
        tool("lint-imports", "--no-cache", "--no-logo"),
        "by hand: ARCHITECTURE.md, Who may import what",
    ),
    Check("mypy", tool("mypy"), "by hand"),
    Check("mypy of the generator", tool("mypy", "protos/generate.py"), "by hand"),
)


def main() -> int:
    """Runs all checks and says how each went."""
    failed = 0
    for check in CHECKS:
        start = time.monotonic()
        wrong = check.run()
        took_s = time.monotonic() - start
        print(f"{'FAIL' if wrong else 'ok':4}  {check.name}  ({took_s:.1f} s)", flush=True)
        if wrong:
            failed += 1
            print(f"\n{wrong}\n\n      repair: {check.repair}\n", flush=True)
    print(f"{failed} of {len(CHECKS)} checks failed" if failed else f"{len(CHECKS)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
