"""Bad requests are refused with the same reason over every transport, or with what
`transport_differences.py` says; and they change nothing."""

from __future__ import annotations

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from services.errors import TABLE as ERRORS
from tests.behaviour import (
    bad_documents,
    bad_memories,
    bad_migrations,
    bad_models,
    bad_retrieval,
    bad_searches,
    bad_sessions,
    bad_snapshots,
)
from tests.behaviour.bad_requests import Bad, Table, World
from tests.behaviour.damage import Damage
from tests.behaviour.given import Given, point, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import RPCS, WITHOUT_PATH, Rung
from tests.behaviour.transcoding import rules
from tests.behaviour.transport_differences import (
    ANSWERED,
    DEADLINE_OVER,
    NAMES_NO_FIELD,
    UNROUTABLE,
    expected,
)
from tests.behaviour.valid_requests import VALID

TABLES: Table = {
    **bad_retrieval.TABLE,
    **bad_searches.TABLE,
    **bad_snapshots.TABLE,
    **bad_migrations.TABLE,
    **bad_documents.TABLE,
    **bad_models.TABLE,
    **bad_sessions.TABLE,
    **bad_memories.TABLE,
}
CODES = {row.reason: row.code.name for row in ERRORS.values()}
ENTRIES_MIN = 5
"""Bad requests of each RPC, beside the damage done to bytes and the deadline."""

_WORLDS: dict[str, World] = {}


@pytest.fixture
async def world(rung: Rung, given: Given) -> World:
    """One world for each rung: nothing here changes it."""
    if rung.name not in _WORLDS:
        texts = await given.text_collection()
        document, _ = await given.ingested(texts, "Rain fell on the town all night.", "rain.txt")
        holder = await given.vector_collection()
        await given.points(holder, [point("here", vectors(1)[0])], wait=True)
        kept = await given.snapshot(holder)
        await given.budget(holder)
        migrating = await given.migrating()
        cancelled = await given.cancelled(texts)
        session = await given.session("What?", "That.")
        job = document.ingest_job
        _WORLDS[rung.name] = World(
            *(holder, texts, document.name, job, kept, migrating, cancelled, session),
            memory=await given.memory(),
        )
    return _WORLDS[rung.name]


async def refusal(rung: Rung, rpc: str, request: Message | tuple[Message, ...]) -> Refused:
    """How a request is refused. One that is not fails the test."""
    method = RPCS[rpc]
    try:
        if isinstance(request, tuple):
            answer = await rung.upload(rpc, request)
        elif method.server_streaming:
            answer = [event async for event in rung.stream(rpc, request)]
        else:
            answer = await rung.call(rpc, request)
    except Refused as refused:
        return refused
    raise AssertionError(f"answered: {str(answer)[:300]}")


def test_every_rpc_has_bad_requests_and_a_valid_one() -> None:
    world = World(
        "collections/v",
        "collections/t",
        "collections/t/documents/d",
        "ingestJobs/j",
        "collections/v/snapshots/s",
        "collections/m",
        "ingestJobs/c",
        "sessions/s",
    )
    assert TABLES.keys() == RPCS.keys()
    assert VALID.keys() == RPCS.keys()
    for rpc, make in TABLES.items():
        entries = [bad.what for bad in make(world)]
        assert len(entries) == len(set(entries)), f"{rpc} has an entry twice"
        assert len(entries) >= ENTRIES_MIN, f"{rpc} has {len(entries)} entries"
        reasons = {bad.reason for bad in make(world)}
        assert reasons <= CODES.keys()


def test_only_rpcs_without_a_path_are_left_out_over_rest() -> None:
    assert {name for name, method in RPCS.items() if not method.has_http} == set(WITHOUT_PATH)


def one(request: Message | tuple[Message, ...]) -> Message:
    """A request that is no stream."""
    assert isinstance(request, Message)
    return request


def problem(rung: Rung, bad: Bad, refused: Refused) -> str:
    """What is wrong with a refusal; empty if nothing is."""
    answer = (CODES[bad.reason], bad.reason)
    if bad.unroutable and rung.name == "rest":
        wanted = expected("rest", UNROUTABLE)
        answer = (wanted.code, wanted.reason)
    if (refused.code, refused.reason) != answer:
        return f"{bad.what}: {refused}, not {answer}"
    silent = refused.message.startswith(NAMES_NO_FIELD.get(rung.name, "\0"))
    if refused.reason == "INVALID_FIELD" and not refused.fields and not silent:
        return f"{bad.what}: names no field: {refused}"
    if not refused.metadata.get("request_id"):
        return f"{bad.what}: has no request id: {refused}"
    return ""


async def test_requests_that_mean_nothing(rung: Rung, world: World, rpc: str) -> None:
    found = []
    for bad in TABLES[rpc](world):
        if rung.name == "rest" and not bad.in_json:
            with pytest.raises(json_format.SerializeToJsonError):
                json_format.MessageToJson(one(bad.request))
            continue
        try:
            refused = await refusal(rung, rpc, bad.request)
        except AssertionError as error:
            found.append(f"{bad.what}: {error}")
            continue
        found.append(problem(rung, bad, refused))
    problems = [line for line in found if line]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("damage", Damage)
async def test_bytes_that_are_wrong(rung: Rung, world: World, rpc: str, damage: Damage) -> None:
    body = rung.name != "rest" or bool(rules(RPCS[rpc])[0].body)
    wanted = expected(rung.name, damage, in_body=body)
    if wanted is ANSWERED:
        await rung.send_damaged(rpc, VALID[rpc](world), damage)
        return
    with pytest.raises(Refused) as refused:
        await rung.send_damaged(rpc, VALID[rpc](world), damage)
    assert (refused.value.code, refused.value.reason) == (wanted.code, wanted.reason)
    if damage is Damage.TOO_LARGE and wanted.reason:
        assert refused.value.metadata["limit_bytes"] == str(16 << 20)


async def test_deadlines_that_are_over(rung: Rung, world: World, rpc: str) -> None:
    request, over_s = VALID[rpc](world), -1.0
    with pytest.raises(Refused) as refused:
        if RPCS[rpc].client_streaming:
            await rung.upload(rpc, [request], timeout_s=over_s)
        elif RPCS[rpc].server_streaming:
            async for _ in rung.stream(rpc, request, timeout_s=over_s):
                pass
        else:
            await rung.call(rpc, request, timeout_s=over_s)
    wanted = expected(rung.name, DEADLINE_OVER)
    assert (refused.value.code, refused.value.reason) == (wanted.code, wanted.reason)
