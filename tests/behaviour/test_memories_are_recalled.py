"""What is remembered is recalled with its reasons; a contradiction closes the old fact; every
change can be seen and undone; what is erased is gone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf import timestamp_pb2
from ragmesh.api.memory.v1 import memory_pb2
from ragmesh.api.memory.v1 import memory_service_pb2 as pb

from tests.behaviour.given import new_id
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

FACT, EVENT, BLOCK = (
    memory_pb2.Memory.KIND_FACT,
    memory_pb2.Memory.KIND_EVENT,
    memory_pb2.Memory.KIND_BLOCK,
)
WHY = pb.RecalledMemory
MAY = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


def at(time: datetime) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(time)
    return message


async def add(rung: Rung, subject: str, text: str, **fields: Any) -> pb.CreateMemoryResponse:
    fields.setdefault("kind", FACT)
    memory = memory_pb2.Memory(subject=subject, text=text, **fields)
    made: pb.CreateMemoryResponse = await rung.call(
        "CreateMemory", pb.CreateMemoryRequest(memory=memory)
    )
    return made


async def recall(
    rung: Rung, subject: str, query: str, watermark: str, **fields: Any
) -> pb.RecallMemoriesResponse:
    request = pb.RecallMemoriesRequest(
        subject=subject, query=query, min_watermark=watermark, **fields
    )
    found: pb.RecallMemoriesResponse = await rung.call("RecallMemories", request)
    return found


def texts(found: pb.RecallMemoriesResponse) -> list[str]:
    return [one.memory.text for one in found.memories]


async def test_a_contradiction_closes_the_old_fact_and_as_of_still_finds_it(rung: Rung) -> None:
    subject = new_id("user")
    berlin = await add(rung, subject, "Ada lives in Berlin.", slot="home", valid_from=at(MAY))
    later = MAY + timedelta(days=100)
    paris = await add(rung, subject, "Ada lives in Paris.", slot="home", valid_from=at(later))
    assert list(paris.closed) == [berlin.memory.name]
    where, mark = "Where does Ada live?", paris.watermark
    assert texts(await recall(rung, subject, where, mark)) == ["Ada lives in Paris."]
    before = await recall(rung, subject, where, mark, as_of=at(MAY + timedelta(days=1)))
    assert texts(before) == ["Ada lives in Berlin."]
    assert texts(await recall(rung, subject, where, mark, as_of=at(MAY - timedelta(days=1)))) == []
    same = await add(rung, subject, "Ada lives in Paris.", slot="home")
    assert same.known and same.memory.name == paris.memory.name
    # What is learned late takes its place in the middle.
    between = MAY + timedelta(days=50)
    rome = await add(rung, subject, "Ada lives in Rome.", slot="home", valid_from=at(between))
    assert rome.memory.valid_to.ToDatetime(UTC) == later
    request = pb.ListMemoriesRequest(subject=subject)
    listed = (await rung.call("ListMemories", request)).memories
    ends = {one.text: one.valid_to.ToDatetime(UTC) for one in listed if one.HasField("valid_to")}
    assert ends == {"Ada lives in Berlin.": between, "Ada lives in Rome.": later}


async def test_a_recall_says_why_and_prefers_what_is_recent_among_equals(rung: Rung) -> None:
    subject, now = new_id("user"), datetime.now(UTC)
    old = at(now - timedelta(days=400))
    await add(rung, subject, "Ada plays tennis with Grace.", kind=EVENT, learned_at=old)
    last = await add(rung, subject, "Ada plays tennis with Alan.", kind=EVENT, importance=0.9)
    other = await add(rung, new_id("user"), "Ada plays tennis with nobody.", kind=EVENT)
    assert other.watermark
    found = await recall(rung, subject, "Who plays tennis?", other.watermark)
    first, second = found.memories
    assert first.memory.text == last.memory.text
    assert {WHY.REASON_MEANING, WHY.REASON_WORDS, WHY.REASON_RECENT, WHY.REASON_IMPORTANT} == set(
        first.reasons
    )
    assert WHY.REASON_RECENT not in second.reasons
    assert first.score > second.score
    assert first.recency == pytest.approx(1, abs=0.01)
    facts = await recall(rung, subject, "Who plays tennis?", other.watermark, kinds=[FACT])
    assert not facts.memories


async def test_turns_are_remembered_with_exact_evidence(rung: Rung) -> None:
    subject, session = new_id("user"), f"sessions/{new_id('s')}"
    text = "Hi! I live in Berlin now. I love jazz. Yesterday I went to the support group."
    request = pb.RememberTurnsRequest(
        subject=subject,
        session=session,
        turns=[
            pb.Turn(speaker="Grace", text="How have you been?", said_at=at(MAY), message_index=1),
            pb.Turn(speaker="Ada", text=text, said_at=at(MAY), message_index=2),
        ],
    )
    made = await rung.call("RememberTurns", request)
    found = {one.kind: one for one in made.memories if one.evidence.message_index == 2}
    home = next(one for one in made.memories if one.slot == "ada: home")
    span = home.evidence.span
    assert text[span.start : span.end] == "I live in Berlin now."
    assert home.text == "Ada: I live in Berlin now."
    assert home.evidence.session == session
    events = [one for one in made.memories if one.HasField("happens_at")]
    assert [one.happens_at.ToDatetime(UTC) for one in events] == [datetime(2023, 5, 7, tzinfo=UTC)]
    assert found[memory_pb2.Memory.KIND_PREFERENCE].slot == "ada: taste for jazz"
    recalled = await recall(
        rung, subject, "Where was Ada yesterday?", made.watermark, sessions_limit=5
    )
    assert recalled.sessions[0].session == session
    moved = pb.Turn(speaker="Ada", text="I moved to Paris.", said_at=at(MAY + timedelta(days=9)))
    again = pb.RememberTurnsRequest(subject=subject, turns=[moved], facts_only=True)
    closed = (await rung.call("RememberTurns", again)).closed
    assert list(closed) == [home.name]


async def test_of_two_writers_of_a_block_one_is_told_to_read_again(rung: Rung) -> None:
    subject = new_id("user")
    block = (await add(rung, subject, "v1", kind=BLOCK, label="persona")).memory

    async def write(text: str) -> str:
        request = pb.UpdateMemoryRequest(name=block.name, version=block.version, text=text)
        try:
            await rung.call("UpdateMemory", request)
        except Refused as refused:
            return refused.reason
        return "done"

    ends = await asyncio.gather(*(write(f"by writer {i}") for i in range(4)))
    assert sorted(ends) == ["MEMORY_CHANGED"] * 3 + ["done"]
    with pytest.raises(Refused) as refused:
        await rung.call("UpdateMemory", pb.UpdateMemoryRequest(name=block.name, text="blindly"))
    assert refused.value.reason == "MEMORY_CHANGED"
    with pytest.raises(Refused) as taken:
        await add(rung, subject, "another", kind=BLOCK, label="persona")
    assert taken.value.reason == "MEMORY_EXISTS"


async def test_every_change_is_in_the_history_and_can_be_undone(rung: Rung) -> None:
    subject = new_id("user")
    name = (await add(rung, subject, "Ada drives a red car.")).memory.name
    await rung.call("UpdateMemory", pb.UpdateMemoryRequest(name=name, text="Ada drives a bus."))
    gone = await rung.call("DeleteMemory", pb.DeleteMemoryRequest(name=name))
    assert texts(await recall(rung, subject, "What does Ada drive?", gone.watermark)) == []
    with pytest.raises(Refused) as refused:
        await rung.call("DeleteMemory", pb.DeleteMemoryRequest(name=name))
    assert refused.value.reason == "MEMORY_NOT_FOUND"
    back = await rung.call("UndoMemory", pb.UndoMemoryRequest(name=name))
    assert back.memory.text == "Ada drives a bus."
    assert texts(await recall(rung, subject, "What does Ada drive?", back.watermark)) == [
        "Ada drives a bus."
    ]
    first = await rung.call("UndoMemory", pb.UndoMemoryRequest(name=name, version=1))
    assert first.memory.text == "Ada drives a red car."
    history = await rung.call("GetMemoryHistory", pb.GetMemoryHistoryRequest(name=name))
    actions = [memory_pb2.MemoryEvent.Action.Name(one.action) for one in history.events]
    assert actions == [
        "ACTION_UNDONE",
        "ACTION_UNDONE",
        "ACTION_DELETED",
        "ACTION_UPDATED",
        "ACTION_CREATED",
    ]
    assert [one.version for one in history.events] == [5, 4, 3, 2, 1]


async def test_a_consolidation_can_be_tried_made_and_undone(rung: Rung) -> None:
    subject = new_id("user")
    said = ("Ada adopted a small dog named Rex.", "Ada adopted the small dog named Rex!")
    for text in (*said, "Ada did not adopt a small dog named Rex.", "Ada has 2 cats."):
        await add(rung, subject, text)
    last = await add(rung, subject, "Ada has 3 cats.")
    tried = await rung.call(
        "ConsolidateMemories", pb.ConsolidateMemoriesRequest(subject=subject, dry_run=True)
    )
    assert tried.memories == 5
    assert [len(one.merged) for one in tried.merges] == [1]
    assert len((await recall(rung, subject, "Ada's dog Rex", last.watermark)).memories) == 5
    done = await rung.call("ConsolidateMemories", pb.ConsolidateMemoriesRequest(subject=subject))
    assert done.merges == tried.merges
    assert len((await recall(rung, subject, "Ada's dog Rex", done.watermark)).memories) == 4
    merged = done.merges[0].merged[0]
    shown = await rung.call("GetMemory", pb.GetMemoryRequest(name=merged))
    assert shown.memory.merged_into == done.merges[0].kept
    back = await rung.call("UndoMemory", pb.UndoMemoryRequest(name=merged))
    assert not back.memory.merged_into
    assert len((await recall(rung, subject, "Ada's dog Rex", back.watermark)).memories) == 5


async def test_an_erased_subject_is_gone_and_others_stay(rung: Rung) -> None:
    subject, other = new_id("user"), new_id("user")
    made = await add(rung, subject, "Ada keeps a secret garden.")
    await rung.call("UpdateMemory", pb.UpdateMemoryRequest(name=made.memory.name, importance=1))
    await add(rung, subject, "Ada keeps bees.")
    kept = await add(rung, other, "Grace keeps a secret garden.")
    receipt = (
        await rung.call("EraseSubject", pb.EraseSubjectRequest(subject=subject), timeout_s=120)
    ).receipt
    assert (receipt.memories, receipt.events) == (2, 3)
    assert (receipt.rows_left, receipt.points_left, receipt.complete) == (0, 0, True)
    assert subject not in str(receipt)
    mark = receipt.watermark
    assert texts(await recall(rung, subject, "Who keeps a secret garden?", mark)) == []
    with pytest.raises(Refused):
        await rung.call("GetMemoryHistory", pb.GetMemoryHistoryRequest(name=made.memory.name))
    assert texts(await recall(rung, other, "Who keeps a secret garden?", mark)) == [
        kept.memory.text
    ]
    again = await rung.call("EraseSubject", pb.EraseSubjectRequest(subject=subject), timeout_s=120)
    assert again.receipt.memories == 0


async def test_what_is_to_be_forgotten_is_not_recalled(rung: Rung) -> None:
    subject, now = new_id("user"), datetime.now(UTC)
    await add(rung, subject, "Ada is in room 4.", expire_time=at(now - timedelta(seconds=1)))
    stays = await add(rung, subject, "Ada is in the hall.", expire_time=at(now + timedelta(days=1)))
    found = await recall(rung, subject, "Where is Ada?", stays.watermark)
    assert texts(found) == ["Ada is in the hall."]
