"""How long the tests of faults go on: a seeded slice normally, more under a soak."""

from __future__ import annotations

import os

ROUNDS_VARIABLE = "RAGMESH_SOAK_ROUNDS"


def seeds() -> range:
    """One seed a round. A soak sets the variable to have more than one."""
    return range(1, 1 + int(os.environ.get(ROUNDS_VARIABLE, "1")))
