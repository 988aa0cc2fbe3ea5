"""What `ray start` calls before it starts our own Ray (RAY_START_HOOK)."""

from __future__ import annotations

from typing import Any


def without_client_server(parameters: Any, head: bool) -> None:
    """Leave out the server for `ray://` clients: nobody here is one, it would be one more door
    and 60 MB. `parameters` are ray._private.parameter.RayParams."""
    if head:
        parameters.ray_client_server_port = None
