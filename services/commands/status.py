"""`ragmesh status`: nodes, leases, versions, and what Envoy accepted or rejected."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from services.commands import options
from services.commands.output import print_json, stdout

if TYPE_CHECKING:
    from rich.console import Console


def status(
    data_dir: options.DataDir = None, redis_url: options.RedisUrl = None, json: options.Json = False
) -> None:
    """Show the nodes with their leases, and what Envoy and gRPC clients run on."""
    report = asyncio.run(_look(_registry(data_dir, redis_url)))
    if json:
        print_json(report)
    else:
        _print(stdout(), report)


def _registry(data_dir: Any, redis_url: str | None) -> str:
    """The registry's URL: the one given, or that of the mesh which runs in the directory."""
    from engine.errors import FailedPrecondition
    from services.commands.settings import load
    from services.local.directory import find_holder

    settings = load(data_dir=data_dir, store__redis_url=redis_url)
    given = settings.store.redis_url.get_secret_value()
    if given:
        return given
    holder = find_holder(settings.data_dir)
    found = holder.addresses.get("registry", "") if holder is not None else ""
    if not found:
        raise FailedPrecondition(
            f"no mesh is running in {settings.data_dir}: start one with `ragmesh up`, or name its "
            "registry with --redis-url",
            metadata={"path": str(settings.data_dir)},
        )
    return found


async def _look(url: str) -> dict[str, Any]:
    """The control plane's report, or the leases alone where it is gone."""
    from redis.exceptions import RedisError

    from engine.errors import ServiceUnavailable
    from services.commands import board
    from services.mesh.registry import Registry
    from services.store.redis import connect

    redis = connect(url)
    try:
        report = await board.read(redis)
        if report is not None:
            return {"control_plane": "running", **report}
        leases = await Registry(redis, 1.0).read()
        return {
            "control_plane": "silent",
            "registry_readable": True,
            "nodes": [asdict(lease) for lease in leases],
            "held": [],
            "versions": {},
            "problems": [],
            "clients": [],
            "rejected": [],
        }
    except (RedisError, OSError, TimeoutError) as error:
        raise ServiceUnavailable(
            f"the registry does not answer: {error}; nodes and gateway go on with what they know, "
            "look at redis.log",
            metadata={"problem": str(error)},
        ) from error
    finally:
        await redis.aclose()


def _print(console: Console, report: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not report["nodes"]:
        console.print("No node has a lease. A node announces itself when it serves.")
    else:
        nodes = Table(title="nodes", title_justify="left")
        for name in ("node", "services", "address", "lease", "load", "version", "metrics"):
            nodes.add_column(name, overflow="fold")
        for node in report["nodes"]:
            held = " (lease gone, held)" if node["node_id"] in report["held"] else ""
            color = "green" if node["state"] == "SERVING" and not held else "yellow"
            nodes.add_row(
                node["node_id"],
                ", ".join(node["services"]),
                node["address"],
                f"[{color}]{node['state']}{held}[/]",
                f"{node['load']:.0%}",
                node["version"],
                node["metrics_address"],
            )
        console.print(nodes)
    if report["control_plane"] == "silent":
        console.print(
            "[yellow]The control plane does not report:[/] clients go on with what they last got."
        )
        return
    if not report["registry_readable"]:
        console.print("[yellow]The control plane cannot read the registry;[/] the last set holds.")
    clients = Table(title="configuration", title_justify="left")
    for name in ("client", "group", "type", "accepted", "rejected"):
        clients.add_column(name, overflow="fold")
    for client in report["clients"]:
        for one in client["types"]:
            refusal = f"{one['rejected_version']}: {one['error']}"
            clients.add_row(
                f"{client['node_id']} ({client['version']})",
                client["group"],
                one["type_url"],
                one["accepted_version"],
                f"[red]{escape(refusal)}[/]" if one["rejected_version"] else "",
            )
    console.print(clients)
    published = ", ".join(f"{group} {version}" for group, version in report["versions"].items())
    console.print(f"published: {published or 'nothing yet'}")
    for problem in report["problems"]:
        console.print(f"[red]not published:[/] {escape(problem)}")
