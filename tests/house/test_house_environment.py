"""services/config.py is the only reader of the environment."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Final

from tests.house.test_house_tidy import texts

MAY: Final[Mapping[str, str]] = {
    "services/config.py": "the one reader",
    "services/cli.py": "tells gRPC to leave forks alone, before it is first used",
    "services/local/process.py": "hands its own environment on to the programs it starts",
    "services/ray/replica.py": "hands it on to nodes, without what Ray set for its own workers",
    "services/documents/parser.py": "gives the confined parser PATH and OCR's data, nothing else",
    "services/commands/serve.py": "writes gRPC's bootstrap, which gRPC takes from nowhere else",
    "services/commands/bridge.py": "the same",
}
"""Who may touch os.environ, each with its reason."""


def test_nobody_else_reads_the_environment() -> None:
    readers = set()
    for path, text in texts(".py", under=("engine/", "services/", "clients/python/src/")):
        for node in ast.walk(ast.parse(text)):
            named = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
            brought = isinstance(node, ast.ImportFrom) and any(
                alias.name in ("environ", "getenv") for alias in node.names
            )
            if named or brought:
                readers.add(path)
    assert not readers - MAY.keys(), "make it a field of services/config.py"
    assert MAY.keys() - readers <= {"services/config.py"}, "no longer: take it out of MAY"
