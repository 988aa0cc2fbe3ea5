"""What the parts of the suite share: a mesh that has SQuAD's paragraphs, and the questions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from types import TracebackType

from ragmesh import Client, Point

from benchmarks.bench import Bench
from benchmarks.data import Question, Text, squad_questions
from benchmarks.mesh import RunningMesh
from benchmarks.suites.chat.provider import Provider

COLLECTION = "squad"
SCRIPTED = "scripted"
_BATCH = 64
_WRITERS = 2


class Material:
    """A context that closes the client. `say` tells whoever waits what is being done."""

    def __init__(self, mesh: RunningMesh, provider: Provider, bench: Bench) -> None:
        self.mesh = mesh
        self.provider = provider
        self.quick = bench.quick
        self.say = bench.say
        self.client = Client(mesh.addresses.nodes[0], timeout_s=120)

    def __enter__(self) -> Material:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()

    @cached_property
    def _data(self) -> tuple[list[Text], list[Question]]:
        texts, questions = squad_questions(40 if self.quick else 1_000)
        if self.quick:
            wanted = {one.document for one in questions}
            texts = [one for one in texts if one.id in wanted] + texts[:100]
            texts = list({one.id: one for one in texts}.values())
        return texts, questions

    @property
    def questions(self) -> list[Question]:
        """The 1,000 that are asked; 40 in a quick run."""
        return self._data[1]

    @cached_property
    def paragraphs(self) -> dict[str, Text]:
        """All paragraphs by id, as one collection; written when first asked for."""
        texts = self._data[0]
        self.client.create_collection(COLLECTION)
        self.upsert(COLLECTION, texts)
        return {one.id: one for one in texts}

    def upsert(self, collection: str, texts: list[Text]) -> None:
        """A point for each text, which knows its id as a field; returns when all can be found."""
        self.say(f"upserting and embedding {len(texts):,} passages of {collection}")
        batches = [texts[at : at + _BATCH] for at in range(0, len(texts), _BATCH)]

        def write(batch: list[Text]) -> None:
            points = [Point(one.id, text=one.text, payload={"paragraph": one.id}) for one in batch]
            self.client.upsert_points(collection, points, lane="bulk", timeout_s=300)

        with ThreadPoolExecutor(_WRITERS) as writers:
            list(writers.map(write, batches))
        self.client.count_points(collection)
