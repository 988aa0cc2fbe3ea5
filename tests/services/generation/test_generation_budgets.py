"""Nobody spends more than a budget has, however many ask at once, leave, fail or are killed; and
what was used is counted, however an answer ends."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from ragmesh.api.generation.v1 import budget_pb2, message_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from engine.errors import BudgetExceeded, PriceMissing, RagmeshError, StoreUnavailable
from services.store.store import Store
from tests.services.generation.generation_mesh import call
from tests.services.generation.model_node import ModelNode, model_node
from tests.services.generation.openai_endpoint import MODEL, Deaf, Events, Refusal, Reply
from tests.services.generation.protocols import pieces, whole
from tests.services.store.stored import Database

WRITER = "generationModels/writer"
OUTPUT = 40
LEFT_S = 0.2
"""Within which a caller who leaves is gone from the endpoint too."""


@pytest_asyncio.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """One whose callers wait for a connection as long as a busy machine takes."""
    opened = await Store.open(database.url, connections_max=8, wait_s=60.0)
    yield opened
    await opened.close()


@asynccontextmanager
async def budgeted(store: Store, tmp_path: Path, **how: Any) -> AsyncIterator[ModelNode]:
    """A node whose `writer` costs 1,000 nanos a token, read or written."""
    file = tmp_path / "prices.toml"
    file.write_text(
        f'version = "v1"\ncurrency = "USD"\n[models."{MODEL}"]\n'
        "input_per_million = 1\noutput_per_million = 1\n"
    )
    wide = {"concurrency_max": 200, "waiting_max": 200, "wait_s": 60.0}
    models = how.pop("models", ({"id": "writer", **wide},))
    async with model_node(*models, store=store, prices=file, **how) as made:
        yield made


async def set_budget(node: ModelNode, tenant: str = "default", **fields: Any) -> budget_pb2.Budget:
    request = pb.SetBudgetRequest(budget=budget_pb2.Budget(**{"name": "budgets/all", **fields}))
    made: budget_pb2.Budget = (await node.ask("SetBudget", request, tenant)).budget
    return made


async def budget(node: ModelNode, name: str = "budgets/all") -> budget_pb2.Budget:
    found: budget_pb2.Budget = (await node.ask("GetBudget", pb.GetBudgetRequest(name=name))).budget
    return found


async def settled(node: ModelNode, name: str = "budgets/all") -> budget_pb2.Budget:
    """The budget once nothing is reserved any more."""
    give_up_s = time.monotonic() + 60
    while (found := await budget(node, name)).reserved_tokens:
        assert time.monotonic() < give_up_s, found
        await asyncio.sleep(0.02)
    return found


async def most(node: ModelNode) -> int:
    """The tokens that an answer reserves."""
    request = pb.EstimateCostRequest(model=WRITER, question="When?", output_tokens_max=OUTPUT)
    estimate = await node.ask("EstimateCost", request)
    return int(estimate.input_tokens_high) + OUTPUT


def counted(input_tokens: int, output_tokens: int) -> Events:
    """An answer whose endpoint says these counts."""
    whole_answer = whole("openai", ["In 1847."], output_tokens)
    usage = whole_answer.events[-2]
    assert not isinstance(usage, bytes)
    counts = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    return Events([*whole_answer.events[:-2], {**usage, "usage": counts}, whole_answer.events[-1]])


async def outcomes(nodes: Sequence[ModelNode], calls: int) -> list[Any]:
    asked = [
        asyncio.ensure_future(nodes[i % len(nodes)].text(output_tokens_max=OUTPUT))
        for i in range(calls)
    ]
    done: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
    return done


@pytest.mark.parametrize("money", [False, True])
async def test_a_hundred_at_once_at_a_budget_for_fifty_overspend_nothing(
    store: Store, tmp_path: Path, money: bool
) -> None:
    async with budgeted(store, tmp_path) as one, budgeted(store, tmp_path) as two:
        each = await most(one)
        tokens = 50 * each
        request = budget_pb2.Budget(name="budgets/all", limit_tokens=0 if money else tokens)
        request.limit_nanos = tokens * 1_000 if money else 0
        await one.ask("SetBudget", pb.SetBudgetRequest(budget=request))
        for node in (one, two):
            # Each answer uses all that it reserved.
            node.endpoints["writer"].will(counted(each - OUTPUT, OUTPUT))
        found = await outcomes([one, two], 100)
        refused = [error for error in found if isinstance(error, BudgetExceeded)]
        assert len(refused) == 50
        assert all(not isinstance(f, Exception) or f in refused for f in found)
        after = await settled(one)
        assert after.spent_tokens == 50 * each
        assert after.spent_nanos == 50 * each * 1_000
        assert (after.reserved_nanos, after.reserved_tokens) == (0, 0)


async def test_whatever_becomes_of_them_what_is_spent_is_what_was_used(
    store: Store, tmp_path: Path
) -> None:
    chance = random.Random(1)
    async with budgeted(store, tmp_path, breaker_failures_max=10_000) as node:
        each = await most(node)
        limit = 12 * each
        await set_budget(node, limit_tokens=limit)
        begun = pieces("openai", ["In "])
        replies: list[Reply] = [
            counted(3, 2),
            counted(each - OUTPUT, OUTPUT),
            Refusal(500),
            Deaf(),
            Events(begun),
            Events(begun, hang=True),
        ]
        node.endpoints["writer"].will(*chance.choices(replies, k=60), counted(3, 2))
        asked = [asyncio.ensure_future(node.text(output_tokens_max=OUTPUT)) for _ in range(60)]
        await asyncio.sleep(0.3)
        for task in asked:
            if not task.done() or chance.random() < 0.3:
                task.cancel()
        found = await asyncio.gather(*asked, return_exceptions=True)
        told = [f.usage for f in found if isinstance(f, pb.GenerateTextResponse)]
        after = await settled(node)
        assert sum(u.input_tokens + u.output_tokens for u in told) <= after.spent_tokens <= limit
        assert after.spent_nanos == after.spent_tokens * 1_000


async def test_all_budgets_that_apply_are_held_or_none(store: Store, tmp_path: Path) -> None:
    async with budgeted(store, tmp_path) as node:
        each = await most(node)
        await set_budget(node, limit_tokens=100 * each)
        mine = {"name": "budgets/mine", "session": "sessions/mine"}
        await set_budget(node, limit_tokens=each, **mine)
        await set_budget(node, "another", limit_tokens=1)
        node.endpoints["writer"].will(counted(each - OUTPUT, OUTPUT))
        wishes = {"output_tokens_max": OUTPUT, "session": "sessions/mine"}
        await node.text(**wishes)
        with pytest.raises(BudgetExceeded, match="budgets/mine") as caught:
            await node.text(**wishes)
        assert caught.value.metadata["left_tokens"] == "0"
        await node.text(output_tokens_max=OUTPUT, session="sessions/other")
        assert (await settled(node)).spent_tokens == 2 * each
        assert (await settled(node, "budgets/mine")).spent_tokens == each


async def test_an_answer_ends_where_the_budget_does_though_its_endpoint_goes_on(
    store: Store, tmp_path: Path
) -> None:
    async with budgeted(store, tmp_path) as node:
        limit = await most(node) - OUTPUT + 20
        await set_budget(node, limit_tokens=limit)
        endpoint = node.endpoints["writer"]
        endpoint.will(Events(pieces("openai", ["word "] * 500), pause_s=0.002, hang=True))
        events = await node.events(output_tokens_max=OUTPUT)
        finished = events[-1].finished
        assert finished.finish_reason == message_pb2.FINISH_REASON_BUDGET
        assert finished.cut
        assert finished.text == "word " * 20
        assert finished.usage.estimated
        await asyncio.wait_for(endpoint.gone.wait(), 60)
        assert endpoint.asked[0].body["max_tokens"] == 20
        assert 20 <= (await settled(node)).spent_tokens <= limit


async def test_an_endpoint_that_stops_where_the_budget_does_is_said_to_have(
    store: Store, tmp_path: Path
) -> None:
    async with budgeted(store, tmp_path) as node:
        await set_budget(node, limit_tokens=await most(node) - 10)
        node.endpoints["writer"].will(whole("openai", ["word "] * 30, 30, "length"))
        answer = await node.text(output_tokens_max=OUTPUT)
        assert answer.finish_reason == message_pb2.FINISH_REASON_BUDGET
        assert node.endpoints["writer"].asked[0].body["max_tokens"] == 30


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_leaves_is_gone_from_the_endpoint_at_once_and_pays_for_what_came(
    store: Store, tmp_path: Path, stream: bool
) -> None:
    async with budgeted(store, tmp_path) as node:
        await set_budget(node, limit_tokens=10**9)
        endpoint, spent, took_s = node.endpoints["writer"], 0, 60.0
        for _ in range(50):  # a machine that stands still for a moment is given another chance
            endpoint.will(Events(pieces("openai", ["word "] * 8), hang=True))
            task = asyncio.ensure_future(leave_or_wait(node, stream))
            await asyncio.wait_for(endpoint.heard.wait(), 60)
            await asyncio.sleep(0.1)
            left_s = time.monotonic()
            task.cancel()
            await asyncio.wait([task])
            await asyncio.wait_for(endpoint.gone.wait(), 60)
            took_s = endpoint.gone_s - left_s
            before, spent = spent, (await settled(node)).spent_tokens
            assert spent > before
            if took_s <= LEFT_S:
                return
        raise AssertionError(f"the endpoint was left after {took_s:.3f} s")


async def leave_or_wait(node: ModelNode, stream: bool) -> None:
    """Asks, and is waiting for more when it is cancelled."""
    if not stream:
        await node.text()
        return
    request = pb.StreamGenerateTextRequest(model=WRITER, question="When?")
    async for _ in node.mesh.generation.StreamGenerateText(request, call(None)):
        pass


async def test_an_endpoint_that_never_began_costs_nothing(store: Store, tmp_path: Path) -> None:
    async with budgeted(store, tmp_path) as node:
        await set_budget(node, limit_tokens=10**6)
        node.endpoints["writer"].will(Refusal(500, headers={"retry-after-ms": "1"}))
        with pytest.raises(RagmeshError):
            await node.text()
        assert (await settled(node)).spent_tokens == 0


async def test_the_dearest_of_the_order_is_reserved_and_the_one_that_wrote_is_paid(
    store: Store, tmp_path: Path
) -> None:
    models = ({"id": "writer", "fallbacks": ("spare",)}, {"id": "spare", "model": "dear"})
    async with budgeted(store, tmp_path, models=models) as node:
        file = tmp_path / "prices.toml"
        dear = '[models."dear"]\ninput_per_million = 10\noutput_per_million = 10\n'
        file.write_text(file.read_text() + dear)
    async with model_node(*models, store=store, prices=file) as node:
        each = await most(node)
        await set_budget(node, limit_nanos=each * 10_000)
        node.endpoints["writer"].will(counted(7, 5))
        node.endpoints["spare"].will(counted(7, 5))
        usage = (await node.text(output_tokens_max=OUTPUT)).usage
        assert usage.cost_nanos == 12_000
        assert (await settled(node)).spent_nanos == 12_000
        node.endpoints["writer"].will(Refusal(500))
        usage = (await node.text(output_tokens_max=OUTPUT)).usage
        assert usage.cost_nanos == 120_000
        assert (await settled(node)).spent_nanos == 132_000


async def test_money_is_not_spent_on_a_model_without_a_price(store: Store, tmp_path: Path) -> None:
    async with model_node({"id": "writer"}, store=store) as node:
        await set_budget(node, limit_nanos=10**12)
        with pytest.raises(PriceMissing, match="price file"):
            await node.text()
        assert not node.endpoints["writer"].asked


async def test_a_structured_answer_reserves_its_repair(store: Store, tmp_path: Path) -> None:
    async with budgeted(store, tmp_path) as node:
        schema = '{"type": "object", "required": ["year"]}'
        await set_budget(node, limit_tokens=10**6)
        node.endpoints["writer"].will(
            whole("openai", ["1847"], OUTPUT), whole("openai", ['{"year": 1847}'], OUTPUT)
        )
        answer = await node.text(output_schema=schema, output_tokens_max=OUTPUT)
        assert answer.text == '{"year": 1847}'
        assert (await settled(node)).spent_tokens == 2 * OUTPUT + 14


async def test_a_budget_keeps_what_was_spent_until_it_is_reset_or_deleted(
    store: Store, tmp_path: Path
) -> None:
    async with budgeted(store, tmp_path) as node:
        await set_budget(node, limit_tokens=10**6)
        node.endpoints["writer"].will(counted(7, 5))
        await node.text()
        assert (await set_budget(node, limit_tokens=10)).spent_tokens == 12
        with pytest.raises(BudgetExceeded):
            await node.text()
        request = pb.SetBudgetRequest(budget=await budget(node), reset=True)
        assert (await node.ask("SetBudget", request)).budget.spent_tokens == 0
        endpoint = node.endpoints["writer"]
        endpoint.will(Events(pieces("openai", ["word "]), hang=True))
        await node.ask("DeleteBudget", pb.DeleteBudgetRequest(name="budgets/all"))
        task = asyncio.ensure_future(node.text())
        await asyncio.wait_for(endpoint.heard.wait(), 60)
        task.cancel()
        await asyncio.wait([task])


async def test_without_its_budgets_a_node_asks_nobody(
    store: Store, database: Database, tmp_path: Path
) -> None:
    away = await Store.open(database.url, connections_max=2, wait_s=0.2)
    async with budgeted(away, tmp_path) as node:
        await away.close()
        with pytest.raises(StoreUnavailable):
            await node.text()
        assert not node.endpoints["writer"].asked


async def test_what_a_killed_node_held_is_settled_when_its_time_is_over(
    store: Store, database: Database, tmp_path: Path
) -> None:
    async with budgeted(store, tmp_path) as node:
        await set_budget(node, limit_tokens=300)
        endpoint = node.endpoints["writer"]
        endpoint.will(Events([*pieces("openai", ["word "])], hang=True))
        program = [sys.executable, "-m", "tests.services.generation.budgeted_node"]
        process = await asyncio.create_subprocess_exec(*program, database.url, endpoint.url)
        try:
            await asyncio.wait_for(endpoint.heard.wait(), 60)
        finally:
            process.kill()
            await process.wait()
        held = await budget(node)
        assert held.reserved_tokens > 150
        assert held.spent_tokens == 0
        with pytest.raises(BudgetExceeded):
            await node.text(output_tokens_max=100)
        async with store.transaction("default") as tx:
            moved = await tx.run("UPDATE budget_reservations SET expire_time = now()")
        assert moved == 1
        with pytest.raises(BudgetExceeded):
            await node.text(output_tokens_max=100)
        after = await budget(node)
        assert (after.reserved_tokens, after.spent_tokens) == (0, held.reserved_tokens)
