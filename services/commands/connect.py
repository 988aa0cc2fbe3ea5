"""Where the mesh is."""

from __future__ import annotations

from pathlib import Path

from engine.errors import FailedPrecondition


def find_address(address: str, data_dir: Path | None) -> str:
    """`host:port` for gRPC: the one given, the configured one, or that of the running `up`.

    Raises FailedPrecondition where there is none.
    """
    from services.commands.settings import load
    from services.local.directory import find_holder

    settings = load(data_dir=data_dir)
    if address or settings.address:
        return address or settings.address
    holder = find_holder(settings.data_dir)
    found = holder.addresses.get("gRPC", "") if holder is not None else ""
    if found:
        return found
    if holder is not None:
        raise FailedPrecondition(
            f"the mesh in {settings.data_dir} is still starting (process {holder.pid}); try again "
            "in a few seconds",
            metadata={"path": str(settings.data_dir), "pid": holder.pid},
        )
    raise FailedPrecondition(
        f"no mesh is running in {settings.data_dir}: start one with `ragmesh up`, or name one with "
        "--address host:port",
        metadata={"path": str(settings.data_dir)},
    )
