"""How a second index answers beside the first, on the same questions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.index.comparing import DEPTH
from engine.index.search import Mode, Query, search
from engine.index.view import View
from engine.types import Vector
from services.store.index_migrations import Compared

QUERY_CHARACTERS_MAX = 300
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")


def query_of(text: str) -> str:
    """A question as long as people's: the first sentence of a text."""
    return _SENTENCE_END.split(text.strip(), maxsplit=1)[0][:QUERY_CHARACTERS_MAX]


def compare_indexes(
    before: View, after: View, queries: Sequence[tuple[Vector, Vector]]
) -> Compared:
    """Search both views for each query, which has a vector in the space of each.

    The views may have been moved apart by a few writes; that costs as much overlap.
    """
    same = most = 0
    found, wanted = [0, 0], [0, 0]
    for vectors in queries:
        answers = []
        for side, (view, vector) in enumerate(zip((before, after), vectors, strict=True)):
            answer, truth = _ids(view, vector), _ids(view, vector, exact=True)
            found[side] += len(answer & truth)
            wanted[side] += len(truth)
            answers.append(answer)
        same += len(answers[0] & answers[1])
        most += max(map(len, answers))
    recalls = [part / whole if whole else 1.0 for part, whole in zip(found, wanted, strict=True)]
    return Compared(len(queries), same / most if most else 1.0, recalls[0], recalls[1])


def _ids(view: View, vector: Vector, *, exact: bool = False) -> set[str]:
    query = Query(vector, limit=DEPTH, mode=Mode.DENSE, exact=exact)
    return {hit.point.id for hit in search(view, query).hits}
