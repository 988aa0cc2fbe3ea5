"""`ragmesh models`: list, show, convert, bench."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from services.commands import options
from services.commands.output import print_json, stdout

app = typer.Typer(
    help="Look at embedding models, convert them, and measure them.", pretty_exceptions_enable=False
)
_Model = Annotated[
    str,
    typer.Argument(
        help="A model: its id here, a directory, or `org/name[@revision]` on the Hugging Face hub."
    ),
]
_Precision = Annotated[
    str | None, typer.Option(help="auto, fp32, int8 or fp16 [default: what the settings say].")
]
_MIB = 1 << 20


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """List the models, or see the commands."""
    if context.invoked_subcommand is None:
        show_all(address, data_dir, json)


@app.command("list")
def show_all(
    address: options.Address = "", data_dir: options.DataDir = None, json: options.Json = False
) -> None:
    """List the models of the settings; with --address, those of a mesh, and which are loaded."""
    from services.commands import model_facts

    rows = model_facts.served(address) if address else model_facts.configured(data_dir)
    if json:
        print_json({"models": rows})
        return
    from rich.table import Table

    table = Table()
    table.add_column("model", overflow="fold")
    for name in ("task", "dim", "tokens", "precision", "on", "memory"):
        table.add_column(name, no_wrap=True)
    table.add_column("", overflow="fold")
    for row in rows:
        table.add_row(
            row["id"],
            row["task"] or "?",
            str(row["dimensions"] or ""),
            str(row["tokens_max"] or ""),
            row["precision"],
            row["provider"],
            f"{row['memory_bytes'] / _MIB:,.0f} MiB" if row["memory_bytes"] else "",
            row["note"],
        )
    stdout().print(table)


@app.command("show")
def show(
    model: _Model,
    precision: _Precision = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Show what a model is, and how it would run here. Downloads it if it is only on the hub."""
    from services.commands import model_facts

    facts = model_facts.show(model_facts.find(model, precision, data_dir))
    if json:
        print_json(facts)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), Text(_plain(value)))
    stdout().print(table)


@app.command("convert")
def convert(
    model: _Model,
    precision: _Precision = None,
    output: Annotated[
        Path | None, typer.Option(help="Where the ONNX file goes [default: the models' cache].")
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(
            help="A data set in BEIR's layout: measures on its training queries whether int8 ranks "
            "as well as fp32. If so, int8 becomes this model's default on a CPU."
        ),
    ] = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Write a model as ONNX, which a node does by itself when it first loads one."""
    from services.commands import model_facts, model_gate

    found = model_facts.find(model, precision, data_dir)
    report = model_facts.convert(found, output)
    if gate is not None:
        report["gate"] = asdict(model_gate.measure(found, gate, quiet=json))
    if json:
        print_json(report)
        return
    console = stdout()
    if report["converted"]:
        what = f"{report['precision']}, {report['bytes'] / _MIB:,.1f} MiB"
        console.print(f"{report['file']}\n[dim]{what}, {report['seconds']:.1f} s[/]")
    else:
        console.print(f"{report['file']} is ONNX already and is run as it is")
    if gate is not None:
        console.print(model_gate.verdict(report["gate"]))


@app.command("bench")
def bench(
    model: _Model,
    texts: Annotated[
        Path | None, typer.Option(help="Texts to embed, one a line [default: made-up ones].")
    ] = None,
    precision: _Precision = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Measure a model on this machine, in some seconds."""
    from services.commands import model_bench, model_facts

    report = model_bench.measure(model_facts.find(model, precision, data_dir), texts)
    if json:
        print_json(asdict(report))
        return
    from rich.table import Table

    console = stdout()
    table = Table(title=f"{report.model} · {report.precision} on {report.provider}")
    for name in ("texts", "tokens each", "ms", "tokens/s"):
        table.add_column(name, justify="right")
    for shape in report.shapes:
        table.add_row(
            str(shape.texts), str(shape.tokens), f"{shape.ms:.1f}", f"{shape.tokens_per_s:,.0f}"
        )
    console.print(table)
    console.print(f"one query: {report.query_ms:.1f} ms (median)")
    console.print(
        f"{report.texts} texts of mixed lengths: {report.tokens_per_s:,.0f} tokens/s, "
        f"{report.padding_share:.1%} padding"
    )


def _plain(value: object) -> str:
    """A value for people: a mapping line by line, a list with commas."""
    if isinstance(value, dict):
        return "\n".join(f"{key}: {part!r}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
