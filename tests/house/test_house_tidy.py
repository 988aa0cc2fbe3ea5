"""Small is a rule with a number, and nothing is left unfinished."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from tests.house.check import ROOT

FILE_LINES_MAX: Final = 400
FUNCTION_LINES_MAX: Final = 70
LINE_CHARACTERS_MAX: Final = 100

LONG_FILES: Final[Mapping[str, str]] = {
    "protos/ragmesh/api/retrieval/v1/retrieval_service.proto": "one service is one file",
    "protos/ragmesh/api/chat/v1/chat_service.proto": "one service is one file",
    "protos/ragmesh/api/memory/v1/memory_service.proto": "one service is one file",
    "clients/python/src/ragmesh/__init__.py": "a list: each public name, imported and named",
    "clients/python/src/ragmesh/_errors.py": "one tree: a class for each reason, and little else",
}
"""Files that may be longer, each with its reason. A new row is a decision that someone signs."""

LONG_FUNCTIONS: Final[Mapping[str, str]] = {
    "services/gateway/replies.py::replies": "a table: one row for each kind of reply",
}
"""Functions that may be longer, as `path::name`, each with its reason."""

PRAGMA: Final = re.compile(r"\s*# (noqa|type: ignore).*$")
"""What a tool needs at the end of a line does not count."""

PRINTS: Final = ("services/commands/", "services/cli.py")
"""Rooms whose work is to print."""


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the repository that is not generated and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = (Path(name) for name in listed.split("\0") if name)
    api = Path("clients/python/src/ragmesh/api")
    return tuple(sorted(p for p in set(paths) if not p.is_relative_to(api) and (ROOT / p).exists()))


def texts(*suffixes: str, under: tuple[str, ...] = ("",)) -> Iterator[tuple[str, str]]:
    """Path and content of each text file of these kinds."""
    for path in tracked():
        if path.suffix in suffixes and str(path).startswith(under):
            yield str(path), (ROOT / path).read_text(encoding="utf-8")


def test_files_are_small() -> None:
    long = {
        path: lines
        for path, text in texts(".py", ".proto", ".sql")
        if (lines := text.count("\n")) > FILE_LINES_MAX
    }
    unsigned = {path: lines for path, lines in long.items() if path not in LONG_FILES}
    assert not unsigned, f"split by what it owns, or sign it in LONG_FILES: {unsigned}"
    assert not LONG_FILES.keys() - long.keys(), "short again: take it out of LONG_FILES"


def test_functions_are_small() -> None:
    long = {}
    for path, text in texts(".py"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long[f"{path}::{node.name}"] = lines
    unsigned = {name: lines for name, lines in long.items() if name not in LONG_FUNCTIONS}
    assert not unsigned, f"split, or sign it in LONG_FUNCTIONS: {unsigned}"
    assert not LONG_FUNCTIONS.keys() - long.keys(), "short again: take it out of LONG_FUNCTIONS"


def test_lines_are_short() -> None:
    long = [
        f"{path}:{number}"
        for path, text in texts(".py", ".proto")
        for number, line in enumerate(text.splitlines(), 1)
        if len(PRAGMA.sub("", line)) > LINE_CHARACTERS_MAX
    ]
    assert not long, f"break these lines: {long}"


def test_nothing_is_left_unfinished() -> None:
    marks = re.compile(r"#\s?(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts(".py", under=("engine/", "services/", "clients/", "benchmarks/"))
        for number, line in enumerate(text.splitlines(), 1)
        if marks.search(line)
    ]
    assert not found, f"finish it, or take it out: {found}"


def test_only_commands_print() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, text in texts(".py", under=("engine/", "services/", "clients/"))
        if not path.startswith(PRINTS)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "breakpoint")
    ]
    assert not found, f"log it (services/logs.py), or return it: {found}"


def test_no_test_skips_itself() -> None:
    marks = re.compile(r"\bpytest\.(skip|xfail|importorskip)\b|\bmark\.(skip|skipif|xfail)\b")
    found = [
        f"{path}:{number}"
        for path, text in texts(".py", under=("tests/",))
        if not path.startswith("tests/house/")
        for number, line in enumerate(text.splitlines(), 1)
        if marks.search(line)
    ]
    assert not found, f"a test that cannot run says nothing: {found}"


def test_no_two_modules_of_tests_have_one_name() -> None:
    """Pytest reads only the first of them, where their folders are no packages."""
    tests = (path for path in tracked() if path.parts[0] == "tests")
    names = Counter(path.name for path in tests if path.name.startswith("test_"))
    assert not [name for name, times in names.items() if times > 1]


def test_every_function_that_others_call_says_what_it_does() -> None:
    found = []
    for path, text in texts(".py", under=("engine/", "services/", "clients/python/src/")):
        if "/_" in path and "__" not in path:
            continue
        tree = ast.parse(text)
        if not ast.get_docstring(tree) and text.strip() and not path.endswith("__init__.py"):
            found.append(f"{path}: the module")
        for node in tree.body:
            if (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                and not node.name.startswith("_")
                and not ast.get_docstring(node)
            ):
                found.append(f"{path}:{node.lineno}: {node.name}")
    assert not found, f"add a docstring: {found}"


def test_nothing_names_one_machine_or_a_package_registry() -> None:
    hosts = re.compile(r"py" r"pi\.org|python" r"hosted\.org|registry\.np" r"m|/home/\w+/")
    kinds = (".py", ".md", ".toml", ".txt", ".yaml", ".json", ".proto", ".sql", "")
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path, text in texts(*kinds)
        if not path.startswith("corpus/")
        for number, line in enumerate(text.splitlines(), 1)
        if hosts.search(line)
    ]
    assert not found, f"name no host and no machine: {found}"


def test_no_lock_is_committed() -> None:
    """A uv.lock records where packages were downloaded from."""
    assert not [path for path in tracked() if path.name == "uv.lock"]
