"""`ragmesh memory`: what is remembered of a subject, seen, searched, changed and forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, cast

import typer

from engine.errors import InvalidField
from services.commands import options
from services.commands.output import print_json, stderr, stdout
from services.commands.snapshots import open_client

if TYPE_CHECKING:
    from ragmesh import Memory, MemoryKind

app = typer.Typer(
    help="List, search, add, edit, forget and erase what is remembered of a subject.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(help="Id of the memory, as `ragmesh memory list` shows it.")]
Subject = Annotated[str, typer.Argument(help="Of whom, such as the id of a user.")]
OfKind = Annotated[
    str, typer.Option("--kind", "-k", help="fact, preference, event, task or block.")
]

TEXT_SHOWN = 100
"""Characters of a memory in a line of a list."""


@app.command("list")
def list_(
    subject: Annotated[str, typer.Argument(help="Of whom; all subjects if left out.")] = "",
    kind: OfKind = "",
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """List memories by id, those that hold no more among them."""
    with open_client(address, data_dir) as client:
        found = client.list_memories(
            subject=subject, kind=cast("MemoryKind", kind), page_size=1_000
        )
        _print_all(found, json)


@app.command()
def search(
    subject: Subject,
    query: Annotated[str, typer.Argument(help="What about.")],
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many; at most 100.")] = 10,
    as_of: Annotated[
        str, typer.Option(help="What held then: a date or time of ISO 8601, UTC if it says none.")
    ] = "",
    kind: OfKind = "",
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Recall what fits a question, and why it does."""
    with open_client(address, data_dir) as client:
        found = client.recall_memories(
            subject,
            query,
            limit=limit,
            kinds=[cast("MemoryKind", kind)] if kind else [],
            as_of=_time(as_of) if as_of else None,
        )
    if json:
        print_json(asdict(found))
        return
    for one in found.memories:
        reasons = ", ".join(one.reasons)
        stdout().print(f"{one.score:.2f}  {_line(one.memory)}  [dim]{reasons}[/]")
    if not found.memories:
        stdout().print("Nothing is remembered about that.")


@app.command()
def add(
    subject: Subject,
    text: Annotated[str, typer.Argument(help="What to remember.")],
    kind: OfKind = "fact",
    label: Annotated[str, typer.Option(help="Of a block: what it is found by.")] = "",
    slot: Annotated[
        str, typer.Option(help="What has one value at a time, such as `home`; closes the old one.")
    ] = "",
    importance: Annotated[float | None, typer.Option(help="0 to 1 [default: by its kind].")] = None,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Remember something."""
    with open_client(address, data_dir) as client:
        made = client.create_memory(
            subject,
            text,
            kind=cast("MemoryKind", kind),
            label=label,
            slot=slot,
            importance=importance,
        )
    if json:
        print_json(asdict(made))
        return
    stdout().print(f"{'known already' if made.known else 'remembered'}: {_line(made.memory)}")
    for name in made.closed:
        stdout().print(f"closed: {_short(name)}")


@app.command()
def edit(
    name: Name,
    text: Annotated[str, typer.Argument(help="The new text.")],
    version: Annotated[
        int, typer.Option(help="The version that you read [default: what it is at now].")
    ] = 0,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Change a memory's text."""
    with open_client(address, data_dir) as client:
        at = version or client.get_memory(name).version
        changed = client.update_memory(name, version=at, text=text)
    _print_one("changed", changed, json)


@app.command()
def forget(
    name: Name,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Delete a memory; `ragmesh memory undo` brings it back."""
    with open_client(address, data_dir) as client:
        client.delete_memory(name)
    if json:
        print_json({"deleted": name})
    else:
        stdout().print(f"forgotten: {_short(name)}")


@app.command()
def history(
    name: Name,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """List what was done to a memory, the newest first."""
    with open_client(address, data_dir) as client:
        events = list(client.get_memory_history(name))
    if json:
        print_json({"events": [asdict(event) for event in events]})
        return
    for event in events:
        text = event.memory.text[:TEXT_SHOWN] if event.memory else ""
        stdout().print(
            f"{event.version:>4}  {event.event_time:%Y-%m-%d %H:%M:%S}  {event.action:<8}  ", end=""
        )
        stdout().print(text, markup=False)


@app.command()
def undo(
    name: Name,
    version: Annotated[
        int, typer.Option(help="What it was at then [default: before its last change].")
    ] = 0,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Make a memory what it was, also one that is deleted; that can be undone too."""
    with open_client(address, data_dir) as client:
        now = client.undo_memory(name, version=version)
    if now is not None:
        _print_one("is again", now, json)
    elif json:
        print_json({"memory": None})
    else:
        stdout().print(f"gone again: {_short(name)}")


@app.command()
def erase(
    subject: Subject,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Remove every trace of a subject from memory, for good, and print a receipt."""
    if not yes:
        typer.confirm(f"Erase all that is remembered of {subject!r}, for good?", abort=True)
    with open_client(address, data_dir) as client:
        receipt = client.erase_subject(subject, timeout_s=600)
    if json:
        print_json(asdict(receipt))
    else:
        stdout().print(
            f"erased {receipt.memories:,} memories and {receipt.events:,} changes; left: "
            f"{receipt.rows_left} rows, {receipt.points_left} points "
            f"(receipt {receipt.receipt_id}, {receipt.erase_time:%Y-%m-%d %H:%M:%S} UTC)"
        )
    if not receipt.complete:
        stderr().print("not complete: the index could not be compacted; erase once more")
        raise typer.Exit(1)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidField(
            f"--as-of is {text!r}; give a date or a time, such as 2024-05-01.", field="as_of"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _print_all(found: Iterable[Memory], as_json: bool) -> None:
    if as_json:
        print_json({"memories": [asdict(one) for one in found]})
        return
    empty = True
    for one in found:
        empty = False
        stdout().print(_line(one))
    if empty:
        stdout().print("Nothing is remembered.")


def _print_one(what: str, memory: Memory, as_json: bool) -> None:
    if as_json:
        print_json(asdict(memory))
    else:
        stdout().print(f"{what}: {_line(memory)}")


def _line(memory: Memory) -> str:
    """A memory in one line, as rich reads it."""
    from rich.markup import escape

    text = " ".join(memory.text.split())
    shown = text if len(text) <= TEXT_SHOWN else f"{text[: TEXT_SHOWN - 1]}…"
    since = f"{memory.valid_from:%Y-%m-%d}" if memory.valid_from else ""
    ended = f" to {memory.valid_to:%Y-%m-%d}" if memory.valid_to else ""
    merged = f" in {_short(memory.merged_into)}" if memory.merged_into else ""
    label = f"{memory.label}: " if memory.label else ""
    return (
        f"[bold]{_short(memory.name)}[/]  {memory.kind}  [dim]{since}{ended}{merged}[/]  "
        f"{escape(label + shown)}"
    )


def _short(name: str) -> str:
    return name.rpartition("/")[2]
