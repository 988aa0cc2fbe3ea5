"""A picture of an ingestion for a page: what a terminal showed while it went on, and at its end."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 96
FONTS = "ui-monospace, Menlo, Consolas, monospace"


class Recording:
    """A terminal that nobody sees, until it is saved."""

    def __init__(self, command: str) -> None:
        from rich.console import Console
        from rich.text import Text

        self.console = Console(
            record=True, file=io.StringIO(), width=WIDTH, force_terminal=True, highlight=False
        )
        self.console.print(Text("$ ", "green") + Text(command))

    def show(self, frame: RenderableType | None) -> None:
        """A moment of it."""
        if frame is not None:
            self.console.print(frame, "")

    def save(self, path: Path) -> None:
        """Write it as SVG, with the fonts of whoever looks at it: nothing is fetched."""
        drawn = self.console.export_svg(title="ragmesh")
        drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
        path.write_text(drawn.replace("Fira Code, monospace", FONTS), "utf-8")
