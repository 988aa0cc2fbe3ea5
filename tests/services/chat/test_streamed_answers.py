"""A streamed answer is a log: whoever reads it, from wherever, gets each event once, in order; it
goes on without its reader, and ends in one way that everybody sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from ragmesh.api.chat.v1 import chat_service_pb2 as pb

from engine.errors import (
    AnswerFinished,
    AnswerNotFound,
    CollectionNotFound,
    InvalidField,
    QueueFull,
)
from services.chat.streams.feed import WINDOW_EVENTS
from services.store import answers
from services.store.redis import connect
from services.store.store import Store
from tests.services.chat.chat_mesh import ChatNode, streamed
from tests.services.chat.kept_answers import (
    Nodes,
    Paced,
    Reader,
    answer_of,
    asked,
    caller,
    question,
    resumed,
    until,
)
from tests.services.store.redis_server import running_redis


@pytest.fixture
async def nodes(chat_node: ChatNode, store: Store) -> AsyncIterator[Nodes]:
    made = Nodes(chat_node.mesh, store)
    yield made
    await made.close()


@pytest.fixture
def paced(chat_node: ChatNode) -> Paced:
    """The model of all nodes."""
    made = Paced()
    chat_node.mesh.host("generation", made)
    return made


async def test_an_answer_begins_with_its_name_before_anything_is_searched(
    nodes: Nodes, chat_node: ChatNode, paced: Paced
) -> None:
    chat_node.shelf.pause_s = 0.3
    reader = asked(await nodes.node())
    first = await reader.next()
    assert first.event_id == 1
    assert first.started.answer.startswith("answers/")
    assert paced.asked == 0
    paced.say("In ", "August ", "1847.")
    paced.finish()
    events = await reader.rest()
    assert reader.ids == list(range(1, len(events) + 1))
    assert reader.kinds == ["started", "retrieved", "delta", "delta", "delta", "finished"]
    assert events[1].retrieved.context_passages > 0
    assert events[-1].finished.text == "In August 1847."
    assert events[-1].finished.name == reader.name


async def test_a_reader_who_comes_back_gets_what_it_missed_and_nothing_twice(
    nodes: Nodes, paced: Paced
) -> None:
    node, other = await nodes.node(), await nodes.node()
    reader = asked(node)
    paced.say("one ", "two ")
    await reader.to("delta", 2)
    await reader.leave()
    paced.say("three ")
    again = resumed(other, reader.name, reader.ids[-1])
    await again.to("delta")
    paced.say("four")
    paced.finish()
    await again.rest()
    assert reader.ids + again.ids == list(range(1, len(reader.ids + again.ids) + 1))
    said = "".join(e.delta.text for e in reader.got + again.got)
    assert said == again.got[-1].finished.text == "one two three four"
    late = resumed(node, reader.name)
    assert await late.rest() == reader.got + again.got
    assert (await resumed(other, reader.name, again.ids[-1]).rest()) == []


async def test_several_readers_on_several_nodes_follow_one_answer(
    nodes: Nodes, paced: Paced
) -> None:
    node, other, third = [await nodes.node() for _ in range(3)]
    first = asked(node)
    await first.to("retrieved")
    readers = [resumed(n, first.name) for n in (node, node, other, other, third)]
    done = [asyncio.create_task(reader.rest()) for reader in readers]
    for i in range(30):
        paced.say(f"{i} ")
        await asyncio.sleep(0.005)
    paced.finish()
    events = await first.rest()
    assert [await one for one in done] == [events] * len(readers)


async def test_readers_on_other_nodes_are_woken_by_redis_and_outlive_it(
    nodes: Nodes, paced: Paced, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a wake nobody would look again in time.
    monkeypatch.setattr("services.chat.streams.following.POLL_WOKEN_S", 1_000.0)
    with running_redis() as (url, process):
        here, there = connect(url), connect(url)
        node, other = await nodes.node(here), await nodes.node(there)
        await until(lambda: other._streams is not None and other._streams._wakes.listening)
        reader = asked(node)
        await reader.to("retrieved")
        follower = resumed(other, reader.name)
        await follower.to("retrieved")
        for word in ("a ", "b ", "c "):
            paced.say(word)
            assert (await follower.to("delta")).delta.text == word
        await here.flushall()
        monkeypatch.setattr("services.chat.streams.following.POLL_WOKEN_S", 0.1)
        paced.say("flushed ")
        assert (await follower.to("delta")).delta.text == "flushed "
        paced.say("killed")
        process.kill()
        paced.finish()
        assert (await follower.rest())[-1].finished.text == "a b c flushed killed"
        assert follower.got == await reader.rest()
        await nodes.close()
        await here.aclose()
        await there.aclose()


async def test_a_slow_reader_holds_nobody_up_and_misses_nothing(nodes: Nodes, paced: Paced) -> None:
    node = await nodes.node()
    slow = asked(node)
    await slow.next()
    quick = resumed(node, slow.name)
    count = 3 * WINDOW_EVENTS
    for i in range(count):
        paced.say(f"{i} ")
    paced.finish()
    events = await quick.rest()
    assert len(events) == count + 3
    assert await slow.rest() == events


async def test_an_answer_goes_on_without_its_reader_until_it_is_unread_for_too_long(
    nodes: Nodes, paced: Paced
) -> None:
    node, other = await nodes.node(unread_s=1.0), await nodes.node(unread_s=1.0)
    left, read = asked(node), asked(node)
    await left.to("retrieved")
    await read.to("retrieved")
    elsewhere = resumed(other, read.name)
    await elsewhere.to("retrieved")
    await left.leave()
    await read.leave()

    async def over() -> bool:
        return (await answer_of(node, left.name)).state != pb.ANSWER_STATE_RUNNING

    await until(over)
    gone = await answer_of(node, left.name)
    assert gone.state == pb.ANSWER_STATE_CANCELLED
    assert "Nobody read" in gone.error.message
    await until(lambda: paced.left == 1)
    # The other one has a reader at another node.
    await asyncio.sleep(1.5)
    assert (await answer_of(node, read.name)).state == pb.ANSWER_STATE_RUNNING
    paced.say("x")
    paced.finish()
    assert (await elsewhere.rest())[-1].HasField("finished")


async def test_a_cancel_at_any_node_ends_the_answer_for_all(nodes: Nodes, paced: Paced) -> None:
    node, other = await nodes.node(), await nodes.node()
    reader = asked(node)
    paced.say("one ")
    await reader.to("delta")
    cancel = pb.CancelAnswerRequest(name=reader.name)
    cancelled = (await other.CancelAnswer(cancel, caller())).answer
    assert cancelled.state == pb.ANSWER_STATE_CANCELLED
    begin_s = asyncio.get_running_loop().time()
    await until(lambda: paced.left == 1)
    assert asyncio.get_running_loop().time() - begin_s < 5.0  # 0.1 s where nothing stands still
    events = await reader.rest()
    assert events[-1].failed.code == 1
    assert (await resumed(other, reader.name).rest()) == events
    again = (await node.CancelAnswer(cancel, caller())).answer
    assert again.state == pb.ANSWER_STATE_CANCELLED
    assert again.finish_time == cancelled.finish_time


async def test_an_answer_that_is_over_cannot_be_cancelled(nodes: Nodes, paced: Paced) -> None:
    node = await nodes.node()
    reader = asked(node)
    paced.say("x")
    paced.finish()
    await reader.rest()
    with pytest.raises(AnswerFinished):
        await node.CancelAnswer(pb.CancelAnswerRequest(name=reader.name), caller())


async def test_an_answer_whose_node_is_lost_fails_and_can_be_asked_anew(
    nodes: Nodes, paced: Paced
) -> None:
    lost, other = await nodes.node(lease_s=1.0), await nodes.node(lease_s=1.0)
    reader = asked(lost)
    paced.say("one ")
    await reader.to("delta")
    follower = resumed(other, reader.name, reader.ids[-1])
    assert lost._streams is not None
    await lost._streams._keeper.close()  # as a killed node: it says nothing any more
    last = (await follower.rest())[-1]
    assert last.failed.code == 14
    assert "gone" in last.failed.message
    assert (await answer_of(other, reader.name)).state == pb.ANSWER_STATE_FAILED
    # What the lost node still had in its hands is not written over that end.
    paced.say("late ")
    again = asked(other)
    await again.to("retrieved")
    paced.say("new")
    paced.finish()
    paced.finish()
    assert (await again.rest())[-1].HasField("finished")
    assert (await resumed(other, reader.name).rest())[-1] == last


async def test_a_node_that_is_stopped_says_so_in_its_logs(nodes: Nodes, paced: Paced) -> None:
    stopped, other = await nodes.node(), await nodes.node()
    reader = asked(stopped)
    await reader.to("retrieved")
    follower = resumed(other, reader.name)
    await stopped.close()
    assert (await follower.rest())[-1].failed.code == 14


async def test_answers_that_are_not_there_are_not_found(
    nodes: Nodes, paced: Paced, store: Store
) -> None:
    node = await nodes.node()
    reader = asked(node)
    paced.say("x")
    paced.finish()
    await reader.rest()
    stranger = replace(caller(), tenant="stranger")
    for name, call in (("answers/absent", caller()), (reader.name, stranger)):
        with pytest.raises(AnswerNotFound):
            await resumed(node, name, call=call).next()
        with pytest.raises(AnswerNotFound):
            await answer_of(node, name, call)
        with pytest.raises(AnswerNotFound):
            await node.CancelAnswer(pb.CancelAnswerRequest(name=name), call)
    async with store.system() as tx:
        await tx.run("UPDATE answers SET create_time = now() - interval '25 hours'")
    with pytest.raises(AnswerNotFound):
        await resumed(node, reader.name).next()
    async with store.system() as tx:
        assert await answers.purge_answers(tx) == 1
        assert await tx.rows("SELECT FROM answer_events") == []
        assert await answers.purge_answers(tx) == 0


async def test_an_event_beyond_the_end_is_refused(nodes: Nodes, paced: Paced) -> None:
    node, other = await nodes.node(), await nodes.node()
    reader = asked(node)
    await reader.to("retrieved")
    for at in (node, other):
        with pytest.raises(InvalidField) as refused:
            await resumed(at, reader.name, 1_000).next()
        assert refused.value.metadata["last_event_id"] == "2"
    await reader.leave()


async def test_what_is_wrong_with_a_question_fails_the_call_and_leaves_nothing(
    nodes: Nodes, paced: Paced, store: Store
) -> None:
    node = await nodes.node(answers_max=1)
    with pytest.raises(CollectionNotFound):
        await Reader(node.StreamAnswer(streamed("What?", "collections/absent"), caller())).next()
    async with store.system() as tx:
        assert await tx.rows("SELECT FROM answers") == []
    first = asked(node)
    await first.next()
    with pytest.raises(QueueFull) as full:
        await asked(node).next()
    assert full.value.retry_after_s
    await first.leave()


async def test_a_silent_model_keeps_its_readers_connected(nodes: Nodes, paced: Paced) -> None:
    node = await nodes.node(heartbeat_s=0.05)
    reader = asked(node)
    await reader.to("retrieved")
    waiting = asyncio.create_task(reader.next())
    await until(lambda: reader.beats >= 3)
    paced.say("x")
    assert (await waiting).event_id == 3
    paced.finish()
    await reader.rest()
    assert reader.ids == [1, 2, 3, 4]


async def test_an_answer_has_a_receipt_of_what_it_was_made_from(
    nodes: Nodes, chat_node: ChatNode
) -> None:
    node = await nodes.node()
    whole = await question(node)
    shown = await answer_of(node, whole.name)
    receipt = shown.receipt
    assert (shown.text, shown.state) == (whole.text, pb.ANSWER_STATE_FINISHED)
    assert list(shown.citations) == list(whole.citations)
    assert receipt.request.question == whole.question
    assert dict(receipt.watermarks) == {"collections/towns": "7"}
    assert len(receipt.passages) == whole.context_passages
    assert all(len(p.text_sha256) == 64 for p in receipt.passages)
    assert [(m.role, m.name, m.fingerprint) for m in receipt.models] == [
        ("search", "embeddingModels/default", "f1"),
        ("generate", "generationModels/extractive", ""),
    ]
    assert len(receipt.prompt_sha256) == 64
    streamed_answer = (await asked(node).rest())[-1].finished
    other = (await answer_of(node, streamed_answer.name)).receipt
    assert (other.prompt_sha256, list(other.passages)) == (
        receipt.prompt_sha256,
        list(receipt.passages),
    )
    listed = (await node.ListAnswers(pb.ListAnswersRequest(page_size=1), caller())).answers
    assert [one.name for one in listed] == [streamed_answer.name]
    assert not listed[0].HasField("receipt")
