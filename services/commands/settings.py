"""Settings of a command: its flags over the environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.config import Settings


def load(**flags: Any) -> Settings:
    """The settings, where a flag that is None leaves the environment's word.

    A flag of a part is named `part__field`. Raises pydantic.ValidationError.
    """
    from services.config import Settings

    tree: dict[str, Any] = {}
    for name, value in flags.items():
        if value is None:
            continue
        part, _, field = name.rpartition("__")
        if part:
            tree.setdefault(part, {})[field] = value
        else:
            tree[field] = value.absolute() if isinstance(value, Path) else value
    return Settings(**tree)
