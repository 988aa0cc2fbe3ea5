"""The `ragmesh` program: every command, and how failures leave it."""

from __future__ import annotations

import os
import sys

import typer

from services.commands import (
    ask,
    bridge,
    budgets,
    collections,
    control_plane,
    demo,
    doctor,
    documents,
    gateway,
    generate,
    ingest,
    memory,
    models,
    ray,
    search,
    serve,
    sessions,
    status,
    up,
)
from services.commands.output import complain

# gRPC reads this when it is first used. Its handler of forks starts threads in the child, which
# crash before a program that we run (a parser, a build) gets to replace it: grpc issue 43055.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

app = typer.Typer(
    name="ragmesh",
    help="A mesh of gRPC services for retrieval-augmented generation, behind one gateway.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("ingest")(ingest.ingest)
app.command("search")(search.search)
app.command("ask")(ask.ask)
app.command("generate")(generate.generate)
app.add_typer(collections.app, name="collections")
app.add_typer(documents.app, name="documents")
app.add_typer(memory.app, name="memory")
app.add_typer(models.app, name="models")
app.add_typer(sessions.app, name="sessions")
app.add_typer(budgets.app, name="budgets")
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.add_typer(ray.app, name="ray")
app.command("serve")(serve.serve)
app.command("gateway")(gateway.gateway)
app.command("bridge", hidden=True)(bridge.bridge)
app.command("control-plane", hidden=True)(control_plane.control_plane)


def main() -> None:
    """Runs the command line; a failure that we expect is one sentence and exit code 1."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not complain(error, as_json="--json" in sys.argv[1:]):
            raise
        sys.exit(1)


if __name__ == "__main__":
    main()
