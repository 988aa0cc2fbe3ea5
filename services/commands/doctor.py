"""`ragmesh doctor`: what an embedded mesh needs, and what of it is there."""

from __future__ import annotations

from dataclasses import asdict

import typer

from services.commands import options
from services.commands.output import print_json, stdout


def doctor(data_dir: options.DataDir = None, json: options.Json = False) -> None:
    """Look at everything that `ragmesh up` needs, and what some files need: found, how, or what to
    do.

    Exits with 1 if something needed is missing.
    """
    from services.commands.settings import load
    from services.local.check import examine
    from services.local.directory import find_holder
    from services.local.gateway import split_address

    settings = load(data_dir=data_dir)
    ports = {
        "gateway": split_address(settings.gateway.listen)[1],
        "gRPC": split_address(settings.node.listen)[1],
    }
    # A mesh that runs here holds its own ports; and `up` itself takes others unless told.
    held = find_holder(settings.data_dir) is not None
    asked = {
        name: port
        for name, part, port in (
            ("gateway", settings.gateway, ports["gateway"]),
            ("gRPC", settings.node, ports["gRPC"]),
        )
        if "listen" in part.model_fields_set
    }
    findings = examine(settings.data_dir, {} if held else asked, settings.documents.clamd)
    free = {} if held else _usual(ports, asked)
    missing = [finding for finding in findings if finding.needed and not finding.ok]
    if json:
        print_json(
            {
                "ok": not missing,
                "findings": [asdict(finding) for finding in findings],
                "usual_ports_free": free,
            }
        )
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table(show_header=False, box=None, padding=(0, 1))
        table.add_column()
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for finding in findings:
            absent = Text("missing", "bold red") if finding.needed else Text("without", "yellow")
            mark = Text("ok", "green") if finding.ok else absent
            detail = Text(finding.detail)
            if finding.advice:
                detail.append(f"\n{finding.advice}", "yellow")
            table.add_row(mark, finding.name, detail)
        for name, is_free in free.items():
            note = "free" if is_free else "in use: `ragmesh up` takes another one"
            table.add_row(Text("ok", "green"), f"port {name}", f"{ports[name]} is {note}")
        console = stdout()
        console.print(table)
        if missing:
            console.print(f"[red]{len(missing)} of {len(findings)} need something.[/]")
        else:
            console.print("[green]Everything is there:[/] ragmesh up, or ragmesh demo")
    if missing:
        raise typer.Exit(1)


def _usual(ports: dict[str, int], asked: dict[str, int]) -> dict[str, bool]:
    from services.local.ports import is_free

    return {name: is_free(port) for name, port in ports.items() if name not in asked and port}
