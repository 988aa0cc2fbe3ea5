"""What is read of a session before a question: never more than there is room for, the newest turns,
older ones that say something about the question, or a summary that is kept."""

from __future__ import annotations

from typing import Any

import pytest
from ragmesh.api.memory.v1 import memory_service_pb2 as pb

from engine.errors import GenerationModelNotFound, ServiceUnavailable
from tests.services.generation.openai_endpoint import Answer, Refusal
from tests.services.memory.memory_node import WRITER, MemoryNode, call, small_talk

DOG = ("My dog is called Bruno.", "Bruno is a fine name.")
SUMMARY = "My dog is called Bruno [1]."


async def test_all_of_a_short_session_is_read_whatever_is_asked(memory_node: MemoryNode) -> None:
    name = await memory_node.session(*DOG, *small_talk(3))
    found = await memory_node.context(name, "What is the price of tea?")
    assert found.indexes == list(range(1, 9))
    assert found.answer.older == pb.OLDER_TURNS_UNSPECIFIED
    assert (found.answer.summary, found.answer.messages_left_out) == ("", 0)
    assert found.answer.tokens == sum(one.tokens for one in found.answer.messages) > 50
    empty = await memory_node.context(await memory_node.session(), "What?")
    assert (empty.indexes, empty.answer.tokens) == ([], 0)


@pytest.mark.parametrize("question", ["What is the name of my dog?", "Which pet do I own?"])
async def test_an_old_turn_is_found_by_its_words_and_by_its_meaning(
    memory_node: MemoryNode, question: str
) -> None:
    name = await memory_node.session(*DOG, *small_talk(40))
    found = await memory_node.context(name, question, tokens_max=200)
    assert found.answer.older == pb.OLDER_TURNS_RELEVANT
    assert found.indexes[:2] == [1, 2], "the turn as a whole"
    assert found.indexes[-1] == 82
    relevant = [one for one in found.answer.messages if one.HasField("relevance")]
    assert all(0.25 <= one.relevance <= 1 for one in relevant)
    assert found.answer.messages_left_out == 82 - len(found.indexes)
    without = await memory_node.context(name, question, tokens_max=200, older=pb.OLDER_TURNS_NONE)
    assert without.indexes == list(range(83 - len(without.indexes), 83))


@pytest.mark.parametrize("tokens_max", [1, 7, 30, 60, 500, 5_000])
async def test_no_budget_is_passed(memory_node: MemoryNode, tokens_max: int) -> None:
    name = await memory_node.session(*small_talk(12), "word " * 3_000)
    for leaf in (24, 25):
        found = await memory_node.context(
            name, "What of town number 3?", tokens_max=tokens_max, leaf_index=leaf
        )
        assert found.answer.tokens == sum(one.tokens for one in found.answer.messages)


async def test_of_a_message_that_is_too_long_its_end_is_read(memory_node: MemoryNode) -> None:
    text = "filler " * 3_000 + "and so we chose the blue one."
    name = await memory_node.session("Which one?", text)
    found = await memory_node.context(name, "And then?", tokens_max=300)
    one = found.answer.messages[-1]
    assert one.cut and one.message.text.endswith("we chose the blue one.")
    assert 100 < one.tokens <= 300


async def test_a_branch_is_read_and_not_its_siblings(memory_node: MemoryNode) -> None:
    name = await memory_node.session("Is it red?", "No.")
    (again,) = await memory_node.say(name, "Is it blue?", parent=0)
    (answer,) = await memory_node.say(name, "Yes.", parent=again)
    assert (await memory_node.context(name, "Which?", leaf_index=answer)).indexes == [3, 4]
    assert (await memory_node.context(name, "Which?", leaf_index=2)).indexes == [1, 2]
    assert (await memory_node.context(name, "Which?", leaf_index=0)).indexes == []


async def test_a_model_that_can_summarizes_once_and_the_originals_stay(
    memory_node: MemoryNode,
) -> None:
    memory_node.endpoint.script = [Answer([SUMMARY])]
    name = await memory_node.session(*DOG, *small_talk(30))
    asked: dict[str, Any] = {"tokens_max": 300, "generation_model": WRITER}
    found = await memory_node.context(name, "What is the name of my dog?", **asked)
    assert found.answer.older == pb.OLDER_TURNS_SUMMARY
    assert found.answer.summary == "My dog is called Bruno."
    covered = found.answer.summary_index
    newest = [i for i in found.indexes if i > covered]
    assert found.answer.messages_left_out == 62 - covered - len(newest)
    sent = memory_node.endpoint.asked[0].body["messages"]
    assert DOG[0] in sent[1]["content"], "as a passage: data, and no instruction"
    again = await memory_node.context(name, "And my cat?", **asked)
    assert again.answer.summary_index == covered
    assert len(memory_node.endpoint.asked) == 1, "it is kept"
    listed = await memory_node.mesh.method("memory", "ListMessages")(
        pb.ListMessagesRequest(session=name, page_size=1_000), call()
    )
    assert [one.text for one in listed.messages] == [*DOG, *small_talk(30)]


async def test_a_summary_goes_on_where_it_ended(memory_node: MemoryNode) -> None:
    memory_node.endpoint.script = [Answer([SUMMARY])]
    name = await memory_node.session(*DOG, *small_talk(30))
    asked: dict[str, Any] = {"tokens_max": 300, "generation_model": WRITER}
    first = await memory_node.context(name, **asked)
    await memory_node.say(name, *small_talk(40))
    later = await memory_node.context(name, **asked)
    assert later.answer.summary_index > first.answer.summary_index
    sent = memory_node.endpoint.asked[-1].body["messages"][1]["content"]
    assert "My dog is called Bruno." in sent and DOG[1] not in sent
    old = await memory_node.context(name, leaf_index=62, **asked)
    assert old.answer.summary_index == first.answer.summary_index, "of that branch"


@pytest.mark.parametrize("model", [WRITER, "generationModels/gone", ""])
async def test_without_a_summary_older_turns_are_chosen_by_relevance(
    memory_node: MemoryNode, model: str
) -> None:
    memory_node.endpoint.script = [Refusal(500)]
    name = await memory_node.session(*DOG, *small_talk(40))
    found = await memory_node.context(
        name,
        "What is the name of my dog?",
        tokens_max=200,
        generation_model=model,
        older=pb.OLDER_TURNS_SUMMARY,
    )
    assert (found.answer.older, found.answer.summary) == (pb.OLDER_TURNS_RELEVANT, "")
    assert found.indexes[:2] == [1, 2]


async def test_a_model_that_does_not_exist_is_an_error(memory_node: MemoryNode) -> None:
    name = await memory_node.session(*small_talk(40))
    with pytest.raises(GenerationModelNotFound):
        await memory_node.context(name, tokens_max=100, generation_model="generationModels/absent")


async def test_without_an_embedding_service_words_are_enough(memory_node: MemoryNode) -> None:
    class Away:
        """An embedding service that no node serves."""

        def __getattr__(self, name: str) -> object:
            raise ServiceUnavailable("No node serves embedding.")

    name = await memory_node.session(*DOG, *small_talk(40))
    memory_node.mesh.host("embedding", Away())
    found = await memory_node.context(name, "What is the name of my dog?", tokens_max=200)
    assert found.indexes[:2] == [1, 2]
    assert found.indexes[-1] == 82
