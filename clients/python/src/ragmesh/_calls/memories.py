"""Calls of the memory service about what is remembered of subjects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from ragmesh import _rpcs as rpcs
from ragmesh._convert import memories as convert
from ragmesh._names import optional, plain_id, refuse, resource
from ragmesh._plan import Pages, Plan, paged, send
from ragmesh._session import Session, write_id
from ragmesh._types import memories as types
from ragmesh.api.memory.v1 import memory_pb2
from ragmesh.api.memory.v1 import memory_service_pb2 as pb

MEMORIES = "memories"
"""What a session knows the commits of memories by."""


def create_memory(
    session: Session,
    subject: str,
    text: str,
    *,
    kind: types.MemoryKind = "fact",
    memory_id: str = "",
    label: str = "",
    slot: str = "",
    value: str = "",
    context: str = "",
    importance: float | None = None,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
    happens_at: datetime | None = None,
    learned_at: datetime | None = None,
    expire_time: datetime | None = None,
    evidence: types.MemoryEvidence | None = None,
    request_id: str | None = None,
    timeout_s: float | None = None,
) -> Plan[types.RememberedMemory]:
    """Remembers something of a subject.

    With a `slot`, such as `home`, it closes the fact that the slot had until then; where the slot
    says the same already, that memory is returned and `known` is set. A block has a `label`, which
    each subject has once. Raises MemoryExists or RequestIdReused.
    """
    memory = memory_pb2.Memory(
        subject=subject,
        kind=convert.to_kind(kind),
        text=text,
        label=label,
        slot=slot,
        value=value,
        context=context,
        importance=importance,
        valid_from=convert.to_time(valid_from, "valid_from"),
        valid_to=convert.to_time(valid_to, "valid_to"),
        happens_at=convert.to_time(happens_at, "happens_at"),
        learned_at=convert.to_time(learned_at, "learned_at"),
        expire_time=convert.to_time(expire_time, "expire_time"),
        evidence=convert.to_evidence(evidence),
    )
    request = pb.CreateMemoryRequest(
        memory=memory,
        memory_id=plain_id("memories", memory_id, "memory_id"),
        request_id=write_id(request_id),
    )
    response = yield from send(session, rpcs.CREATE_MEMORY, request, timeout_s=timeout_s)
    session.remember(MEMORIES, response.watermark)
    return types.RememberedMemory(
        convert.memory(response.memory),
        response.known,
        tuple(response.closed),
        response.watermark,
    )


def remember_turns(
    session: Session,
    subject: str,
    turns: Sequence[types.Turn],
    *,
    session_name: str = "",
    facts_only: bool = False,
    request_id: str | None = None,
    timeout_s: float | None = None,
) -> Plan[types.RememberedTurns]:
    """Remembers 1 to 64 turns: each word by word, and what rules find in it.

    `session_name` is the conversation, `sessions/{id}`, so that a turn that comes alone is
    understood from the one before it. With `facts_only` the turns themselves are not kept. Raises
    RequestIdReused.
    """
    if isinstance(turns, types.Turn):
        raise refuse("turns", "is one turn; give a list.")
    request = pb.RememberTurnsRequest(
        subject=subject,
        session=optional("sessions", session_name, "session_name"),
        turns=map(convert.to_turn, turns),
        facts_only=facts_only,
        request_id=write_id(request_id),
    )
    response = yield from send(session, rpcs.REMEMBER_TURNS, request, timeout_s=timeout_s)
    session.remember(MEMORIES, response.watermark)
    return types.RememberedTurns(
        tuple(map(convert.memory, response.memories)),
        response.known,
        tuple(response.closed),
        response.watermark,
    )


def get_memory(
    session: Session, name: str, *, timeout_s: float | None = None
) -> Plan[types.Memory]:
    """Returns one memory; raises MemoryNotFound."""
    request = pb.GetMemoryRequest(name=resource("memories", name, "name"))
    response = yield from send(session, rpcs.GET_MEMORY, request, timeout_s=timeout_s)
    return convert.memory(response.memory)


def list_memories(
    session: Session,
    *,
    subject: str = "",
    kind: types.MemoryKind | Literal[""] = "",
    page_size: int = 0,
    timeout_s: float | None = None,
) -> Pages[types.Memory]:
    """Lists memories by name: of one subject and one kind if given. Those that hold no more, and
    those that were merged, are among them."""
    return paged(
        session,
        rpcs.LIST_MEMORIES,
        pb.ListMemoriesRequest(subject=subject, kind=convert.to_kind(kind), page_size=page_size),
        lambda response: map(convert.memory, response.memories),
        timeout_s=timeout_s,
    )


def update_memory(
    session: Session,
    name: str,
    *,
    version: int = 0,
    text: str | None = None,
    importance: float | None = None,
    valid_to: datetime | None = None,
    expire_time: datetime | None = None,
    request_id: str | None = None,
    timeout_s: float | None = None,
) -> Plan[types.Memory]:
    """Changes what is given, and returns the memory as it is now.

    `version` is the one that was read: blocks need it, so that no writer overwrites what it has not
    seen. Raises MemoryNotFound, MemoryChanged or RequestIdReused.
    """
    if text is None and importance is None and valid_to is None and expire_time is None:
        raise refuse("text", "is not given, and nothing else is to be changed.")
    request = pb.UpdateMemoryRequest(
        name=resource("memories", name, "name"),
        version=version,
        text=text,
        importance=importance,
        valid_to=convert.to_time(valid_to, "valid_to"),
        expire_time=convert.to_time(expire_time, "expire_time"),
        request_id=write_id(request_id),
    )
    response = yield from send(session, rpcs.UPDATE_MEMORY, request, timeout_s=timeout_s)
    session.remember(MEMORIES, response.watermark)
    return convert.memory(response.memory)


def delete_memory(session: Session, name: str, *, timeout_s: float | None = None) -> Plan[str]:
    """Deletes a memory and returns the watermark; `undo_memory` brings it back.

    Raises MemoryNotFound.
    """
    request = pb.DeleteMemoryRequest(name=resource("memories", name, "name"))
    response = yield from send(session, rpcs.DELETE_MEMORY, request, timeout_s=timeout_s)
    session.remember(MEMORIES, response.watermark)
    return response.watermark


def recall_memories(
    session: Session,
    subject: str,
    query: str,
    *,
    limit: int = 0,
    kinds: Sequence[types.MemoryKind] = (),
    as_of: datetime | None = None,
    recency_weight: float | None = None,
    importance_weight: float | None = None,
    half_life_days: float = 0.0,
    sessions_limit: int = 0,
    min_watermark: str | None = None,
    timeout_s: float | None = None,
) -> Plan[types.RecallResult]:
    """Finds what is remembered of a subject, the best first, each with its reasons.

    `as_of` asks for what held at a time. The weights say by how much being recent, or important,
    can raise a score. With `sessions_limit`, the sessions in which something like it was said come
    along. It sees what this client wrote before.
    """
    request = pb.RecallMemoriesRequest(
        subject=subject,
        query=query,
        limit=limit,
        kinds=convert.to_kinds(kinds),
        as_of=convert.to_time(as_of, "as_of"),
        recency_weight=recency_weight,
        importance_weight=importance_weight,
        half_life_days=half_life_days,
        sessions_limit=sessions_limit,
        min_watermark=session.min_watermark(MEMORIES, min_watermark),
    )
    response = yield from send(session, rpcs.RECALL_MEMORIES, request, timeout_s=timeout_s)
    return convert.recalled(response)


def get_memory_history(
    session: Session, name: str, *, page_size: int = 0, timeout_s: float | None = None
) -> Pages[types.MemoryEvent]:
    """Lists the changes of a memory, the newest first, also of one that was deleted.

    Raises MemoryNotFound.
    """
    return paged(
        session,
        rpcs.GET_MEMORY_HISTORY,
        pb.GetMemoryHistoryRequest(name=resource("memories", name, "name"), page_size=page_size),
        lambda response: map(convert.event, response.events),
        timeout_s=timeout_s,
    )


def undo_memory(
    session: Session,
    name: str,
    *,
    version: int = 0,
    request_id: str | None = None,
    timeout_s: float | None = None,
) -> Plan[types.Memory | None]:
    """Makes a memory what it was before its last change, or at `version`; None where it was not
    there then, and so is gone. Raises MemoryNotFound, MemoryExists or RequestIdReused."""
    request = pb.UndoMemoryRequest(
        name=resource("memories", name, "name"), version=version, request_id=write_id(request_id)
    )
    response = yield from send(session, rpcs.UNDO_MEMORY, request, timeout_s=timeout_s)
    session.remember(MEMORIES, response.watermark)
    return convert.memory(response.memory) if response.HasField("memory") else None


def consolidate_memories(
    session: Session,
    subject: str,
    *,
    budget: int = 0,
    dry_run: bool = False,
    page_token: str = "",
    timeout_s: float | None = None,
) -> Plan[types.Consolidation]:
    """Lets one memory stand for all that say the same, among `budget` memories from `page_token`
    on. `dry_run` changes nothing; `undo_memory` takes a merged one out again."""
    request = pb.ConsolidateMemoriesRequest(
        subject=subject, budget=budget, dry_run=dry_run, page_token=page_token
    )
    response = yield from send(session, rpcs.CONSOLIDATE_MEMORIES, request, timeout_s=timeout_s)
    session.remember(MEMORIES, response.watermark)
    return convert.consolidation(response)


def erase_subject(
    session: Session, subject: str, *, timeout_s: float | None = None
) -> Plan[types.ErasureReceipt]:
    """Removes all that is remembered of a subject, with its history and its vectors in sealed
    segments, looks for it, and returns what is left. Repeating it is safe."""
    request = pb.EraseSubjectRequest(subject=subject)
    response = yield from send(session, rpcs.ERASE_SUBJECT, request, timeout_s=timeout_s)
    session.remember(MEMORIES, response.receipt.watermark)
    return convert.receipt(response.receipt)
