"""`ragmesh demo`: from nothing to answers with citations, and nothing left behind."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands import options
from services.commands.output import print_json, stderr, stdout

if TYPE_CHECKING:
    from services.commands.demo_run import DemoReport
    from services.config import Settings

_CORPUS = Path(__file__).parents[2] / "corpus"


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the mesh's directory, and say where it is.")
    ] = False,
    json: options.Json = False,
    limit: Annotated[
        int | None, typer.Option(min=0, hidden=True, help="Abstracts to ingest, of 600.")
    ] = None,
    corpus: Annotated[Path, typer.Option(hidden=True, help="Another corpus.")] = _CORPUS,
) -> None:
    """Start a mesh of its own, ingest a real corpus, ask questions, and stop it all.

    Each question is asked over gRPC and over REST. Exits with 1 if any step failed.
    """
    from services.commands.demo_run import Demo, read_corpus
    from services.commands.signals import finished_before, stop_event

    material = read_corpus(corpus, limit)
    with _directory(keep) as root:
        run = Demo(_settings(root), material, as_json=json)

        async def until_done() -> bool:
            return await finished_before(stop_event(), run.run())

        if not asyncio.run(until_done()):
            stderr().print("interrupted: the mesh is stopped")
            raise typer.Exit(130)
        report = run.report()
        if keep:
            stderr().print(f"kept {root}: ragmesh up --data-dir {root}")
    if json:
        print_json({**report.to_dict(), "data_dir": str(root) if keep else ""})
    else:
        _print_end(report)
    if report.problems:
        raise typer.Exit(1)


@contextmanager
def _directory(keep: bool) -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="ragmesh-demo-"))
    try:
        yield root
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)


def _settings(root: Path) -> Settings:
    """Everything of its own whatever the environment says, except the converted model."""
    import platformdirs

    from services.commands.settings import load

    models = platformdirs.user_cache_path("ragmesh", appauthor=False) / "models"
    cache_dir: Path | None = models
    try:
        models.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=models).close()
    except OSError:
        cache_dir = None  # it is converted in the demo's own directory: 2 s more
    return load(
        data_dir=root,
        store__postgres_url="",
        store__redis_url="",
        node__listen="127.0.0.1:0",
        gateway__listen="127.0.0.1:0",
        models__cache_dir=cache_dir,
        generation__default="generationModels/extractive",
    )


def _print_end(report: DemoReport) -> None:
    from rich.text import Text

    console = stdout()
    seconds = " · ".join(f"{name} {value:.1f}" for name, value in report.seconds.items())
    counts = report.counts
    console.print()
    console.print(
        f"[bold]{counts['documents']}[/] documents, [bold]{counts['passages']}[/] passages, "
        f"[bold]{counts['answered']}[/] of {counts['questions']} questions answered over gRPC and "
        f"REST, {counts['quotes_verified']} of {counts['citations']} quotes verified against the "
        "stored text"
    )
    console.print(f"[dim]seconds: {seconds}[/]")
    for problem in report.problems:
        console.print(Text(f"failed: {problem}", "bold red"))
