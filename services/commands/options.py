"""Flags that several commands have, with the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DataDir: TypeAlias = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Directory of the mesh [default: $XDG_DATA_HOME/ragmesh]."),
]
Address: TypeAlias = Annotated[
    str,
    typer.Option(
        "--address",
        help="host:port of a node or gateway [default: $RAGMESH_ADDRESS, else the mesh that "
        "`ragmesh up` runs].",
    ),
]
Collection: TypeAlias = Annotated[
    str, typer.Option("--collection", "-c", help="Id of the collection, such as `papers`.")
]
RedisUrl: TypeAlias = Annotated[
    str | None, typer.Option("--redis-url", help="redis://… or unix://…; the registry.")
]
PostgresUrl: TypeAlias = Annotated[
    str | None, typer.Option("--postgres-url", help="libpq URI; the store.")
]
LogLevel: TypeAlias = Annotated[
    str | None, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")
]
AllowUnauthenticated: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--allow-unauthenticated",
        help="Listen beyond loopback although nothing checks who calls.",
    ),
]
RayAddress: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="ADDRESS", help="With --ray: host:port of a Ray head [default: a Ray here]."
    ),
]
Ray: TypeAlias = Annotated[
    bool, typer.Option("--ray", help="Let Ray Serve place the nodes, on ADDRESS's cluster.")
]
RayReplicas: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Nodes by service, such as `embedding=2,retrieval=1`, or `1..4`."),
]
RayCpus: TypeAlias = Annotated[
    str | None, typer.Option(help="Ray's CPUs for one node, such as `embedding=4`.")
]
RayGpus: TypeAlias = Annotated[
    str | None, typer.Option(help="GPUs for one node, such as `embedding=1`.")
]
