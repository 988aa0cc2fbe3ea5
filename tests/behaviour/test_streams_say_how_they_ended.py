"""A stream of events is numbered from 1, and its last event says how it ended; what fails before
the first event fails the call."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ragmesh.api.chat.v1 import chat_service_pb2 as chat
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.documents.v1 import ingest_job_pb2
from ragmesh.api.generation.v1 import citation_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as generation

from tests.behaviour.given import Given, new_id
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

FACTS = (
    "The lighthouse of Norderhaven was built in 1871. It is thirty meters high. "
    "Its keeper was Anna Brandt. The harbor freezes in hard winters."
)
JOB = ingest_job_pb2.IngestJob


async def read(
    rung: Rung, rpc: str, request: Any, headers: dict[str, str] | None = None
) -> tuple[list[Any], Any]:
    """The events of a stream, checked for what all of them promise, and the last one's answer."""
    events = [event async for event in rung.stream(rpc, request, headers=headers)]
    kinds = [event.WhichOneof("event") for event in events]
    assert [event.event_id for event in events] == list(range(1, len(events) + 1))
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert not {"started", "finished", "failed"} & set(kinds[1:-1])
    return events, events[-1].finished


async def test_an_answer_in_pieces_is_the_answer(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    _, watermark = await given.ingested(collection, FACTS, "lighthouse.txt")
    headers = {"x-ragmesh-watermark": watermark}
    question = "When was the lighthouse of Norderhaven built?"
    request = chat.StreamAnswerRequest(question=question, collections=[collection])
    events, answer = await read(rung, "StreamAnswer", request, headers)
    assert "1871" in answer.text
    assert "".join(e.delta.text for e in events if e.WhichOneof("event") == "delta") == answer.text
    cited = [e.citation for e in events if e.WhichOneof("event") == "citation"]
    assert cited == list(answer.citations)
    assert events[1].retrieved.context_passages == answer.context_passages >= 1
    assert events[0].started.answer == answer.name
    asked = chat.AskQuestionRequest(question=question, collections=[collection])
    at_once = (await rung.call("AskQuestion", asked, headers=headers)).answer
    assert (at_once.text, list(at_once.citations)) == (answer.text, list(answer.citations))


async def test_a_stream_of_text_is_the_text(rung: Rung) -> None:
    passage = citation_pb2.SourcePassage(
        collection="collections/any", point_id="p1", text=FACTS, score=1.0
    )
    fields: dict[str, Any] = {
        "model": "generationModels/extractive",
        "question": "Who was the keeper of the lighthouse?",
        "passages": [passage],
    }
    request = generation.StreamGenerateTextRequest(**fields)
    events, finished = await read(rung, "StreamGenerateText", request)
    assert "Anna Brandt" in finished.text
    deltas = [e.delta.text for e in events if e.WhichOneof("event") == "delta"]
    assert "".join(deltas) == finished.text
    whole = await rung.call("GenerateText", generation.GenerateTextRequest(**fields))
    assert (whole.text, list(whole.citations)) == (finished.text, list(finished.citations))


async def test_an_abstention_is_an_answer_too(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    request = chat.StreamAnswerRequest(question="Who was here?", collections=[collection])
    events, answer = await read(rung, "StreamAnswer", request)
    assert answer.abstention_reason == citation_pb2.ABSTENTION_REASON_NO_PASSAGE
    assert (answer.text, len(answer.citations), len(events)) == ("", 0, 3)


async def test_what_fails_at_once_fails_the_call(rung: Rung) -> None:
    request = chat.StreamAnswerRequest(question="What?", collections=["collections/absent"])
    with pytest.raises(Refused) as refused:
        await read(rung, "StreamAnswer", request)
    assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", "COLLECTION_NOT_FOUND")
    assert refused.value.http_status == (404 if rung.name == "rest" else 0)


async def test_a_watched_job_moves_forward_and_ends(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    for _ in range(5):  # on a busy machine the work may be done before anybody reads
        seen, over_s = await watched(rung, given, collection)
        states = [job.state for job in seen]
        assert states == sorted(states), "a job never goes back"
        assert states[-1] == JOB.STATE_SUCCEEDED
        assert JOB.STATE_SUCCEEDED not in states[:-1]
        stages = [job.stage for job in seen]
        assert stages == sorted(stages)
        done = [job.passages_done for job in seen]
        assert done == sorted(done)
        assert seen[-1].passages_done == seen[-1].passages_total > 10
        if len(seen) >= 3 and over_s > 0.2:
            return
    raise AssertionError("events come all at the end, not while it works")


async def watched(
    rung: Rung, given: Given, collection: str
) -> tuple[list[ingest_job_pb2.IngestJob], float]:
    """What a job went through, and how long after the first event the last one came."""
    # New words: a text that was ingested before is searchable at once.
    text = "\n\n".join(f"{FACTS} {new_id()} said so {i} times." for i in range(60))
    stored = await given.document(collection, text, "long.txt")
    seen: list[ingest_job_pb2.IngestJob] = []
    arrivals_s: list[float] = []
    watch = documents.WatchIngestJobRequest(name=stored.ingest_job.name)
    async for event in rung.stream("WatchIngestJob", watch, timeout_s=60):
        seen.append(event.ingest_job)
        arrivals_s.append(time.monotonic())
    return seen, arrivals_s[-1] - arrivals_s[0]


async def test_watching_a_finished_job_says_so_once(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    stored = await given.document(collection, "A short text.", "short.txt")
    await given.finished(stored.ingest_job.name)
    watch = documents.WatchIngestJobRequest(name=stored.ingest_job.name)
    events = [event async for event in rung.stream("WatchIngestJob", watch)]
    assert [e.ingest_job.state for e in events] == [JOB.STATE_SUCCEEDED]
    assert events[0].ingest_job.HasField("finish_time")
