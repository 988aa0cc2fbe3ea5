"""`ragmesh sessions`: conversations that are kept, what was said in them, and their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands import options
from services.commands.output import print_json, stderr, stdout
from services.commands.snapshots import open_client

if TYPE_CHECKING:
    from ragmesh import Session, SessionMessage

COLORS = {"user": "cyan", "assistant": "green", "system": "magenta", "tool": "yellow"}

app = typer.Typer(
    help="List, show and delete conversations.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_Session = Annotated[str, typer.Argument(help="Id of the session, or `sessions/ID`.")]
_Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many at most.")]


@app.command("list")
def show_all(
    subject: Annotated[str, typer.Option(help="Only those of this subject.")] = "",
    limit: _Limit = 50,
    page: Annotated[str, typer.Option(help="Go on from here: what the list before said.")] = "",
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """List sessions, the newest first."""
    with open_client(address, data_dir) as client:
        found = next(client.list_sessions(subject=subject, page_size=limit).pages(page))
    if json:
        print_json(
            {
                "sessions": [asdict(one) for one in found.items],
                "next_page": found.next_page_token,
            }
        )
        return
    if not found.items:
        stdout().print("There is no session" + (f" of {subject}." if subject else "."))
        return
    _print_sessions(found.items)
    if found.next_page_token:
        stdout().print(f"There are more: --page {found.next_page_token}", soft_wrap=True)


@app.command("show")
def show(
    session: _Session,
    leaf: Annotated[
        int | None,
        typer.Option(min=1, help="The branch up to this message [default: the last appended]."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All branches, as they were written.")] = (
        False
    ),
    limit: _Limit = 20,
    page: Annotated[str, typer.Option(help="Go back from here: what the command said.")] = "",
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Show a session and the last messages of its branch, the newest at the end."""
    if every and leaf is not None:
        from engine.errors import InvalidField

        raise InvalidField("--all shows every branch; leave out --leaf.", field="leaf")
    with open_client(address, data_dir) as client:
        found = client.get_session(session)
        listing = client.list_messages(
            found.name,
            leaf_index=None if every or not found.messages else leaf or found.messages,
            newest_first=True,
            page_size=limit,
        )
        some = next(listing.pages(page))
    messages = list(reversed(some.items))
    if json:
        print_json(
            {
                **asdict(found),
                "said": [asdict(one) for one in messages],
                "next_page": some.next_page_token,
            }
        )
        return
    _print_session(found)
    if some.next_page_token:
        stdout().print(f"There are earlier ones: --page {some.next_page_token}", soft_wrap=True)
    _print_messages(messages)


@app.command("delete")
def delete(
    sessions: Annotated[list[str], typer.Argument(help="Ids of sessions, or `sessions/ID`.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Delete sessions with all that was said in them."""
    with open_client(address, data_dir) as client:
        if not yes:
            for name in sessions:
                found = client.get_session(name)
                title = f" ({found.display_name})" if found.display_name else ""
                stderr().print(f"{name}{title}: {found.messages:,} messages", markup=False)
            typer.confirm("Delete? This cannot be undone.", abort=True, err=True)
        deleted = []
        for name in sessions:
            messages = client.delete_session(name)
            deleted.append({"session": name, "messages": messages})
            if not json:
                stdout().print(f"deleted [bold]{name}[/] with {messages:,} messages")
    if json:
        print_json({"deleted": deleted})


def _print_sessions(sessions: Sequence[Session]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in ("session", "name", "subject", "messages", "changed", "ends"):
        table.add_column(name, overflow="fold")
    for one in sessions:
        table.add_row(
            one.name.rpartition("/")[2],
            Text(one.display_name),
            Text(one.subject),
            f"{one.messages:,}",
            "" if one.update_time is None else f"{one.update_time:%Y-%m-%d %H:%M}",
            "" if one.expire_time is None else f"{one.expire_time:%Y-%m-%d %H:%M}",
        )
    stdout().print(table)


def _print_session(session: Session) -> None:
    from rich.text import Text

    said = [f"{session.messages:,} messages"]
    if session.subject:
        said.append(f"of {session.subject}")
    if session.expire_time is not None:
        said.append(f"ends {session.expire_time:%Y-%m-%d %H:%M}")
    title = f" {session.display_name}" if session.display_name else ""
    stdout().print(Text(session.name, "bold") + Text(f"{title} ({', '.join(said)})", "not bold"))


def _print_messages(messages: Sequence[SessionMessage]) -> None:
    """Each with its index, and what it follows where that is not the one before."""
    from rich.text import Text

    console = stdout()
    before = messages[0].parent_index if messages else 0
    for one in messages:
        follows = "" if one.parent_index == before else f" after {one.parent_index}"
        head = Text(f"{one.message_index}{follows} ", "dim") + Text(
            one.role, COLORS.get(one.role, "")
        )
        console.print(head + Text(f"  {one.text}", "not dim"), soft_wrap=True)
        before = one.message_index
