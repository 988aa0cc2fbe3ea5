"""The seeds that data, questions and arrivals are drawn from, read from where they stand."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent


def seeds(folder: Path = FOLDER) -> dict[str, list[int]]:
    """For each module below a folder that has some, by its path: the numbers given as `seed`, as
    the default of a parameter of that name, as `SEED`, or to a generator."""
    found = {}
    for file in sorted(folder.rglob("*.py")):
        numbers = sorted({*_numbers(ast.parse(file.read_text(encoding="utf-8")))})
        if numbers:
            found[str(file.relative_to(folder).with_suffix(""))] = numbers
    return found


def _numbers(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        given: list[ast.expr | None] = []
        if isinstance(node, ast.Call):
            given = [one.value for one in node.keywords if one.arg == "seed"]
            if ast.unparse(node.func).endswith("default_rng"):
                given += node.args
        elif isinstance(node, ast.arguments):
            pairs = zip(node.kwonlyargs, node.kw_defaults, strict=True)
            plain = [*node.posonlyargs, *node.args]
            last = plain[len(plain) - len(node.defaults) :]
            pairs_of_all = [*pairs, *zip(last, node.defaults, strict=True)]
            given = [value for one, value in pairs_of_all if one.arg == "seed"]
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            name = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            given = [node.value] if ast.unparse(name) in ("seed", "SEED") else []
        for one in given:
            if isinstance(one, ast.Constant) and type(one.value) is int:
                yield one.value
