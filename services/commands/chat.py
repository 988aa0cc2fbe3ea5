"""`ragmesh chat`: questions one after the other, answers as they are written, with footnotes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands import options
from services.commands.answers import from_answer, print_answer
from services.commands.output import complain, print_json, stderr, stdout
from services.commands.receipt import print_receipt
from services.commands.snapshots import open_client

if TYPE_CHECKING:
    from ragmesh import Answer, Client
    from rich.console import Console

ANSWER_S = 300.0
QUOTE_CHARACTERS_MAX = 240
TURNS_MAX = 20
"""What was said before that goes along with a question."""
HELP = (
    "/sources  the quotes of the last answer     /why   how it was made\n"
    "/undo     forget the last question          /help  this         /quit  the end, as Ctrl-D\n"
    "Ctrl-C ends the answer that is being written."
)


def chat(
    collection: Annotated[
        list[str], typer.Option("--collection", "-c", help="Where to look; up to 16 of them.")
    ],
    model: Annotated[str, typer.Option(help="Generation model [default: the server's].")] = "",
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Ask one question after the other; answers come as they are written, with their sources.

    Questions are read from standard input, a line each; one may lean on those before it. With
    --json, an answer is one line.
    """
    with open_client(address, data_dir) as client:
        talk = _Talk(client, collection, model, as_json=json)
        for line in _questions(prompt=not json and sys.stdin.isatty()):
            if not talk.take(line):
                return


def _questions(*, prompt: bool) -> Iterator[str]:
    if prompt:
        stdout().print(f"[dim]{HELP}[/]")
    while True:
        try:
            line = input("> " if prompt else "").strip()
        except EOFError:
            return
        if line:
            yield line


class _Talk:
    """A person, and what was answered last."""

    def __init__(
        self, client: Client, collections: list[str], model: str, *, as_json: bool
    ) -> None:
        self._client = client
        self._collections = collections
        self._model = model
        self._json = as_json
        self._console: Console = stdout()
        self._answers: list[Answer] = []

    @property
    def _last(self) -> Answer | None:
        return self._answers[-1] if self._answers else None

    def take(self, line: str) -> bool:
        """A question or a command; false for the end."""
        if line in ("/quit", "/exit"):
            return False
        if line == "/help":
            self._console.print(HELP)
        elif line in ("/sources", "/why", "/undo"):
            if self._last is None:
                stderr().print("Nothing was answered yet.")
            elif line == "/undo":
                self._answers.pop()
                stderr().print("The last question is forgotten.")
            elif line == "/sources":
                print_answer(self._console, from_answer(self._last))
            else:
                self._why(self._last)
        elif line.startswith("/"):
            stderr().print(f"{line.split()[0]} is not known; /help names what is.")
        else:
            self._ask(line)
        return True

    def _why(self, answer: Answer) -> None:
        kept = self._client.get_answer(answer.name)
        self._console.print(f"[dim]{kept.name}, until {kept.expire_time:%Y-%m-%d %H:%M} UTC[/]")
        if kept.receipt is not None:
            print_receipt(self._console, kept.receipt)

    def _ask(self, question: str) -> None:
        """One answer. What fails is said, and the next question may be asked."""
        from ragmesh import RagmeshError

        try:
            answer = self._streamed(question)
        except RagmeshError as error:
            complain(error, as_json=self._json)
            return
        if answer is None:
            return
        self._answers = [*self._answers, answer][-TURNS_MAX:]
        if self._json:
            print_json({"name": answer.name, **from_answer(answer).to_dict()})
        else:
            _print_footnotes(self._console, answer)

    def _streamed(self, question: str) -> Answer | None:
        """Prints text as it comes, and a number where a source was named; None where the person
        ended it."""
        from ragmesh import (
            Answer,
            AnswerFinished,
            AnswerStarted,
            AnswerWarning,
            ChatTurn,
            Citation,
            TextDelta,
        )

        name, notes = "", 0
        stream = self._client.stream_answer(
            question,
            self._collections,
            generation_model=self._model,
            history=[ChatTurn(one.question, one.text) for one in self._answers],
            timeout_s=ANSWER_S,
        )
        try:
            with stream as events:
                for event in events:
                    if isinstance(event, AnswerStarted):
                        name = event.answer
                    elif isinstance(event, Answer):
                        return event
                    elif self._json:
                        continue
                    elif isinstance(event, TextDelta):
                        self._write(event.text)
                    elif isinstance(event, Citation):
                        notes += 1
                        self._write(f" [{notes}]")
                    elif isinstance(event, AnswerWarning):
                        stderr().print(event.message)
        except KeyboardInterrupt:
            if name:
                with contextlib.suppress(AnswerFinished):
                    self._client.cancel_answer(name)
            stderr().print("\ncancelled")
        return None

    def _write(self, text: str) -> None:
        # Not rich's markup: what documents say may look like it.
        self._console.out(text, end="", highlight=False)
        sys.stdout.flush()


def _print_footnotes(console: Console, answer: Answer) -> None:
    from rich.text import Text

    if answer.abstention_reason:
        reason = answer.abstention_reason.replace("_", " ")
        console.print(Text(f"No answer: nothing there supports one ({reason}).", "yellow"))
        return
    console.print()
    for number, citation in enumerate(answer.citations, start=1):
        place = (citation.document or citation.point_id).rpartition("/")[2]
        quote = " ".join(citation.quote.split())
        if len(quote) > QUOTE_CHARACTERS_MAX:
            quote = quote[: QUOTE_CHARACTERS_MAX - 1] + "…"
        console.print(Text(f"  [{number}] {place} · passage {citation.passage_index}", "cyan"))
        console.print(Text(f"      “{quote}”", "dim"))
