"""Who may import what, as ARCHITECTURE.md draws it."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

from tests.house.check import BIN, ROOT, tool

RULES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]


def test_rooms_import_only_what_they_may() -> None:
    assert not tool("lint-imports", "--no-cache", "--no-logo")()


def test_an_engine_that_reads_the_clock_is_reported_with_file_and_line(tmp_path: Path) -> None:
    """The contracts can fail: a small copy of the house with one wrong import."""
    for room, text in (("engine", "import time\n"), ("services", ""), ("ragmesh", "")):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text(text)
    (tmp_path / "rules.toml").write_text(
        "[tool.importlinter]\nroot_packages = ['engine']\ninclude_external_packages = true\n"
        "[[tool.importlinter.contracts]]\nname = 'pure'\ntype = 'forbidden'\n"
        f"source_modules = ['engine']\nforbidden_modules = {_forbidden_to_the_engine()}\n"
    )
    done = subprocess.run(
        [BIN / "lint-imports", "--no-cache", "--config", "rules.toml"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "engine -> time (l.1)" in done.stdout


def _forbidden_to_the_engine() -> list[str]:
    (names,) = [
        contract["forbidden_modules"]
        for contract in RULES["contracts"]
        if contract["type"] == "forbidden" and contract["source_modules"] == ["engine"]
    ]
    return list(names)
