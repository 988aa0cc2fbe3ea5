"""How documents, their failures and their passages are shown to people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from services.commands.document_names import short_name
from services.commands.output import stdout

if TYPE_CHECKING:
    from ragmesh import Document, IngestJob, Passage

COLORS = {"active": "green", "ingesting": "cyan", "failed": "red"}
BEGINNING_CHARACTERS_MAX = 300


def print_documents(documents: Sequence[Document]) -> None:
    """A table, a document a row."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in ("document", "state", "name", "kind", "passages", "KiB", "changed"):
        table.add_column(name, overflow="fold")
    for one in documents:
        table.add_row(
            one.name.rpartition("/")[2],
            Text(one.state, COLORS.get(one.state, "")),
            Text(one.title or one.display_name),
            one.media_type.rpartition("/")[2],
            f"{one.passages:,}",
            f"{one.size_bytes / 1024:,.1f}",
            "" if one.update_time is None else f"{one.update_time:%Y-%m-%d %H:%M}",
        )
    stdout().print(table)


def print_document(document: Document, job: IngestJob, first: Sequence[Passage]) -> None:
    """All that is known of one."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name in ("name", "display_name", "title", "media_type", "source_uri"):
        table.add_row(name.replace("_", " "), Text(getattr(document, name)))
    table.add_row("state", Text(document.state, COLORS.get(document.state, "")))
    for name in ("size_bytes", "content_sha256", "text_characters", "passages", "payload"):
        table.add_row(name.replace("_", " "), Text(str(getattr(document, name))))
    for name in ("create_time", "update_time"):
        table.add_row(name.replace("_", " "), _time(getattr(document, name)))
    stage = "" if job.done or job.stage == "unspecified" else f" ({job.stage})"
    tries = "1 try" if job.attempts == 1 else f"{job.attempts} tries"
    table.add_row("job", f"{job.name}: {job.state}{stage}, {tries}")
    if job.error is not None:
        table.add_row("error", Text(f"{job.error.reason}: {job.error.message}", "red"))
    console = stdout()
    console.print(table)
    print_passages(first)
    if len(first) < document.passages:
        console.print(f"… and more: ragmesh documents passages {short_name(document.name)}")


def print_failures(found: Sequence[tuple[Document, IngestJob]]) -> None:
    """A table of what failed, and why."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in ("document", "name", "reason", "why"):
        table.add_column(name, overflow="fold")
    for document, job in found:
        reason = "CANCELLED" if job.error is None else job.error.reason
        why = "cancelled before it was searchable" if job.error is None else job.error.message
        if document.state == "active":
            why += " (searchable as it was before)"
        name = document.name.rpartition("/")[2]
        table.add_row(name, Text(document.display_name), reason, Text(why))
    stdout().print(table)


def print_passages(passages: Sequence[Passage]) -> None:
    """Each with its number, its place and its beginning."""
    from rich.text import Text

    console = stdout()
    for one in passages:
        console.print(Text(f"#{one.passage_index}", "bold") + Text(f"  {_place(one)}", "dim"))
        text = " ".join(one.text.split())
        over = len(text) > BEGINNING_CHARACTERS_MAX
        console.print(Text("  " + (text[: BEGINNING_CHARACTERS_MAX - 1] + "…" if over else text)))


def print_in_context(document: Document, passage: Passage, some: Sequence[Passage]) -> None:
    """A passage among its neighbors `some`, which it is one of, as the text goes on."""
    from rich.text import Text

    console = stdout()
    title = document.title or document.display_name or document.name
    console.print(Text(title, "bold"))
    console.print(Text(document.source_uri or document.display_name, "dim"), soft_wrap=True)
    place = f"passage {passage.passage_index} of {document.passages} · {_place(passage)}"
    console.print(Text(place, "dim"))
    before, after = in_context(passage, some)
    whole = Text(before, "dim") + Text(passage.text, "bold") + Text(after, "dim")
    console.print()
    console.print(whole)


def in_context(passage: Passage, some: Sequence[Passage]) -> tuple[str, str]:
    """The text before and after a passage, as far as its neighbors `some` have it, without what
    overlaps."""
    before, after = "", ""
    at = passage.span.start
    for one in sorted(some, key=lambda each: each.span.start, reverse=True):
        if one.span.start < at:
            gap = "\n\n" if one.span.end < at else ""
            before = one.text[: at - one.span.start] + gap + before
            at = one.span.start
    at = passage.span.end
    for one in sorted(some, key=lambda each: each.span.end):
        if one.span.end > at:
            gap = "\n\n" if one.span.start > at else ""
            after += gap + one.text[max(0, at - one.span.start) :]
            at = one.span.end
    return before, after


def _place(passage: Passage) -> str:
    parts = [" / ".join(passage.heading_path)] if passage.heading_path else []
    parts += [f"page {passage.page}"] if passage.page else []
    parts.append(f"characters {passage.span.start:,} to {passage.span.end:,}")
    return " · ".join(parts)


def _time(time: Any) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"
