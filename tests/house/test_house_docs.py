"""What the documents promise exists, and what exists is documented."""

from __future__ import annotations

import ast
import re
from typing import Final

import pytest

from services.rpc.methods import methods
from tests.house import command_line, pins
from tests.house.check import CHECKS, ROOT

PAGES: Final = {
    path: (ROOT / path).read_text(encoding="utf-8")
    for path in (
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "deploy/README.md",
        "docs/chat.md",
        "protos/README.md",
        "clients/python/README.md",
        "docs/generation.md",
    )
}
COMMANDS: Final = command_line.commands()
TASKS: Final = frozenset(pins.settings()["tool"]["poe"]["tasks"])
OF_TESTS_AND_COMPOSE: Final = {
    *("RAGMESH_DATA", "RAGMESH_SOAK_ROUNDS", "RAGMESH_DATABASE_PASSWORD"),
}


def code(page: str) -> list[str]:
    """Every line of a fenced block, and every piece of inline code."""
    blocks = re.findall(r"^```.*\n((?:.*\n)*?)```", page, re.M)
    prose = re.sub(r"^```.*\n(?:.*\n)*?```", "", page, flags=re.M)
    return [line for block in blocks for line in block.splitlines()] + re.findall(
        r"`([^`\n]+)`", prose
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_exists(page: str) -> None:
    known = {command.split()[0] for command in COMMANDS if command}
    for line in code(PAGES[page]):
        called = re.match(r"\s*(?:\$ )?(?:uv run )?ragmesh ([a-z-]+)(.*)", line)
        if called is None:
            continue
        name, rest = called.groups()
        assert name in known, f"{page}: there is no `ragmesh {name}`"
        own = {f for c, fs in COMMANDS.items() if c.split()[:1] == [name] for f in fs}
        for flag in re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", rest.split("#")[0].split("|")[0]):
            assert flag in own, f"{page}: `ragmesh {name}` has no {flag}"


@pytest.mark.parametrize("page", PAGES)
def test_every_task_of_a_page_exists(page: str) -> None:
    for task in re.findall(r"\bpoe ([a-z]+(?:-[a-z]+)*)\b", PAGES[page]):
        assert task in TASKS, f"{page}: there is no `poe {task}`"


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_of_a_page_is_read(page: str) -> None:
    known = command_line.settings().keys() | OF_TESTS_AND_COMPOSE
    for name in re.findall(r"\bRAGMESH_[A-Z_]+[A-Z]\b", PAGES[page]):
        assert name in known, f"{page}: nothing reads {name}"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_a_page_exists(page: str) -> None:
    rooms = "engine|services|clients|protos|deploy|tests|benchmarks|corpus"
    for path in re.findall(rf"`((?:{rooms})/[\w./-]*\w)/?`", PAGES[page]):
        assert (ROOT / path).exists(), f"{page}: there is no {path}"
    prose = re.sub(r"`[^`\n]*`", "", PAGES[page])
    for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", prose):
        assert ((ROOT / page).parent / link).exists(), f"{page}: the link {link} leads nowhere"


def test_every_rpc_is_in_the_table_of_the_contract() -> None:
    named = set(re.findall(r"`(\w+)`", PAGES["protos/README.md"]))
    assert not {method.name for method in methods().values()} - named


@pytest.mark.parametrize("file", ["config.py", "config_generation.py"])
def test_every_setting_says_what_it_means(file: str) -> None:
    """A docstring below each field; settings without one are knobs without a label."""
    text = (ROOT / "services" / file).read_text(encoding="utf-8")
    missing = []
    for part in ast.parse(text).body:
        if not isinstance(part, ast.ClassDef):
            continue
        for field, after in zip(part.body, [*part.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                documents_a_part = isinstance(field.annotation, ast.Name) and (
                    field.annotation.id.endswith("Settings")
                )
                if not said and not documents_a_part:
                    missing.append(f"{part.name}.{field.target.id}")
    assert not missing, f"say what it means, in which unit, and what gets worse: {missing}"


def test_every_check_names_its_repair() -> None:
    assert [check.name for check in CHECKS if not check.repair] == []
    for check in CHECKS:
        for task in re.findall(r"poe (\w+)", check.repair):
            assert task in TASKS
