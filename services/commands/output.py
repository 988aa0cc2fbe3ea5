"""What commands print: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from engine.errors import RagmeshError

if TYPE_CHECKING:
    from rich.console import Console


def stdout() -> Console:
    """Where results for people go."""
    from rich.console import Console

    return Console(highlight=False)


def stderr() -> Console:
    """Where progress, notes and failures go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """One JSON value on one line of stdout, at once."""
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def complain(error: Exception, *, as_json: bool) -> bool:
    """Say an expected failure on stderr; False for one that is a bug and wants its traceback."""
    found = _described(error)
    if found is None:
        return False
    if as_json:
        print(json.dumps({"error": found}, ensure_ascii=False), file=sys.stderr, flush=True)
        return True
    from rich.text import Text

    message = str(found["message"])
    request_id = found.get("request_id")
    if request_id:
        message += f" (request {request_id})"
    stderr().print(Text("error: ", style="bold red") + Text(message, style="red"), soft_wrap=True)
    return True


def _described(error: Exception) -> dict[str, Any] | None:
    """The failure for programs, of whichever tree it is; None if it is of none."""
    if isinstance(error, RagmeshError):
        return {
            "type": type(error).__name__,
            "message": error.message,
            "metadata": error.metadata,
        }
    # Looked up, not imported: a failure of the client means that its package is loaded.
    client = sys.modules.get("ragmesh")
    if client is not None and isinstance(error, client.RagmeshError):
        return {
            "type": type(error).__name__,
            "reason": error.reason,
            "message": error.message,
            "metadata": error.metadata,
            "request_id": error.request_id,
        }
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(error, pydantic.ValidationError):
        wrong = [
            f"{'.'.join(str(place) for place in one['loc'])}: {one['msg']}"
            for one in error.errors(include_input=False, include_url=False)
        ]
        return {
            "type": "InvalidSettings",
            "message": "the settings (flags and RAGMESH_… variables) are wrong: "
            + "; ".join(wrong),
            "metadata": {},
        }
    return None
