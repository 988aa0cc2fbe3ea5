"""What was acknowledged is there, and nothing twice: callers leave, and writers are killed."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import uuid

from ragmesh.api.memory.v1 import memory_service_pb2 as pb
from ragmesh.api.memory.v1 import session_pb2

from services.store import messages, sessions
from services.store.store import Store
from tests.services.memory.memory_node import MemoryNode, call
from tests.services.store.stored import Database

WRITER = """
import asyncio, sys
from services.store.messages import NewMessage, append_messages
from services.store.store import Store

async def main():
    store = await Store.open(sys.argv[1], migrations=False)
    while True:
        async with store.transaction("t") as tx:
            given = [NewMessage(role=1, text="x", payload={})] * 3
            _, appended = await append_messages(tx, sys.argv[2], given, None)
        print(appended[-1].index, flush=True)

asyncio.run(main())
"""


async def test_a_caller_who_left_and_comes_again_is_served_once(memory_node: MemoryNode) -> None:
    name = await memory_node.session()
    append = memory_node.mesh.method("memory", "AppendMessages")
    for pause_ms in range(16):
        request = pb.AppendMessagesRequest(
            session=name,
            messages=[
                session_pb2.SessionMessage(
                    role=session_pb2.SessionMessage.ROLE_USER, text=f"said {pause_ms}"
                )
            ],
            request_id=str(uuid.uuid4()),
        )
        left = asyncio.create_task(append(request, call()))
        await asyncio.sleep(pause_ms / 1000)  # wherever that is in the call
        left.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await left
        (index,) = (await append(request, call())).message_indexes
        assert index == pause_ms + 1
    found = await memory_node.context(name)
    assert [one.message.text for one in found.answer.messages] == [f"said {i}" for i in range(16)]


async def test_what_a_killed_writer_was_told_is_kept(
    sessions_database: Database, sessions_store: Store
) -> None:
    session_id = str(uuid.uuid4())
    async with sessions_store.transaction("t") as tx:
        await sessions.create_session(tx, session_id, payload={})
    acknowledged = 0
    for _ in range(2):
        told = await asyncio.to_thread(_killed_after, 20, sessions_database.url, session_id)
        assert len(told) >= 20
        acknowledged = told[-1]
    async with sessions_store.transaction("t") as tx:
        session = await sessions.get_session(tx, session_id)
        page = await messages.list_all(tx, session, after=0, limit=10_000)
        leaf = await messages.get_place(tx, session, session.messages, "leaf_index")
    assert [one.index for one in page.messages] == list(range(1, session.messages + 1))
    # One more may have been committed whose writer did not live to say so.
    assert acknowledged <= session.messages <= acknowledged + 6
    assert leaf.depth == session.messages


def _killed_after(writes: int, url: str, session_id: str) -> list[int]:
    """What a writer was told that is killed when it has written so often."""
    command = [sys.executable, "-c", WRITER, url, session_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [int(line) for _, line in zip(range(writes), writer.stdout, strict=False)]
        writer.kill()
        return told + [int(line) for line in writer.stdout if line.endswith("\n")]
