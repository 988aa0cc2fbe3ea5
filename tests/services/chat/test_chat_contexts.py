"""What an answer is written from: the larger passage around a small one, once."""

from __future__ import annotations

from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from services.chat.convert import found_values, passage_message

WHOLE = "One sentence. Two of them. Three at last."
DOCUMENT = "collections/c/documents/d"


def _sentence(start: int, end: int) -> vector_pb2.SentenceVector:
    return vector_pb2.SentenceVector(span=vector_pb2.TextSpan(start=start, end=end))


def _part(index: int, start: int, end: int, score: float) -> retrieval.SearchHit:
    """A part of WHOLE, which stands at 100 in its document."""
    return retrieval.SearchHit(
        point=point_pb2.Point(
            id=f"d#{index}",
            document=DOCUMENT,
            passage_index=index,
            text=WHOLE[start:end],
            span=vector_pb2.TextSpan(start=100 + start, end=100 + end),
            sentences=[_sentence(0, end - start)],
        ),
        score=score,
        parent=retrieval.ParentPassage(
            span=vector_pb2.TextSpan(start=100, end=100 + len(WHOLE)),
            text=WHOLE,
            sentences=[_sentence(0, 13), _sentence(14, 26), _sentence(27, 41)],
        ),
    )


def test_parts_of_one_passage_are_read_once_as_the_whole_of_it() -> None:
    alone = retrieval.SearchHit(point=point_pb2.Point(id="p", text="A point."), score=0.8)
    single = _part(7, 0, 13, 0.7)
    single.ClearField("parent")
    hits = [_part(1, 14, 26, 0.9), alone, _part(2, 27, 41, 0.75), single]
    found = found_values(retrieval.SearchCollectionResponse(hits=hits), "collections/c")
    assert [(one.passage.point_id, one.passage.text, one.start) for one in found] == [
        ("d#1", WHOLE, 100),
        ("p", "A point.", 0),
        ("d#7", WHOLE[:13], 100),
    ]
    assert [one.passage.score for one in found] == [
        hit.score for hit in (hits[0], hits[1], hits[3])
    ]
    read = passage_message(found[0])
    assert (read.text, read.span.start, read.span.end) == (WHOLE, 100, 100 + len(WHOLE))
    assert [WHOLE[s.span.start : s.span.end] for s in read.sentences] == [
        "One sentence.",
        "Two of them.",
        "Three at last.",
    ]
    assert len(passage_message(found[2]).sentences) == 1
