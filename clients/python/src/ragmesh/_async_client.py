"""The client for event loops."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from ragmesh._async import AsyncRunner, call, listing, stream
from ragmesh._calls import (
    answers,
    archives,
    collections,
    documents,
    embedding,
    generation,
    jobs,
    memories,
    migrations,
    points,
    searches,
    sessions,
    snapshots,
)
from ragmesh._session import TIMEOUT_S, Lane, Session


class AsyncClient(AsyncRunner):
    """A connection to ragmesh for one event loop: the methods of Client, awaited.

        async with AsyncClient("localhost:50051") as client:
            await client.search_collection("papers", "how fast is it?")
            async for document in client.list_documents("papers"): ...

    `address` is `host:port`, `unix:/path` or `xds:///name`. `timeout_s` bounds every request that
    does not say otherwise. `metadata` goes with every request. `lane="bulk"` lets callers who wait
    for an answer go first. With `consistent_reads`, searches, gets, lists and counts see what
    this client wrote before.
    """

    def __init__(
        self,
        address: str = "localhost:50051",
        *,
        timeout_s: float = TIMEOUT_S,
        metadata: Mapping[str, str] | None = None,
        lane: Lane = "interactive",
        consistent_reads: bool = True,
    ) -> None:
        super().__init__(
            Session(
                address,
                timeout_s=timeout_s,
                metadata=metadata,
                lane=lane,
                consistent_reads=consistent_reads,
            )
        )

    embed_texts = call(embedding.embed_texts)
    rerank_passages = call(embedding.rerank_passages)
    count_tokens = call(embedding.count_tokens)
    list_embedding_models = listing(embedding.list_embedding_models)
    get_embedding_model = call(embedding.get_embedding_model)

    create_collection = call(collections.create_collection)
    get_collection = call(collections.get_collection)
    list_collections = listing(collections.list_collections)
    update_collection = call(collections.update_collection)
    delete_collection = call(collections.delete_collection)
    get_collection_stats = call(collections.get_collection_stats)
    search_collection = call(searches.search_collection)
    batch_search_collection = call(searches.batch_search_collection)

    compact_collection = call(snapshots.compact_collection)
    create_snapshot = call(snapshots.create_snapshot)
    get_snapshot = call(snapshots.get_snapshot)
    list_snapshots = listing(snapshots.list_snapshots)
    delete_snapshot = call(snapshots.delete_snapshot)
    restore_snapshot = call(snapshots.restore_snapshot)
    export_snapshot = stream(archives.export_snapshot)
    import_snapshot = call(archives.import_snapshot)

    start_migration = call(migrations.start_migration)
    get_migration = call(migrations.get_migration)
    flip_migration = call(migrations.flip_migration)
    end_migration = call(migrations.end_migration)

    upsert_points = call(points.upsert_points)
    delete_points = call(points.delete_points)
    get_points = call(points.get_points)
    list_points = listing(points.list_points)
    count_points = call(points.count_points)

    create_document = call(documents.create_document)
    upload_document = call(documents.upload_document)
    get_document = call(documents.get_document)
    list_documents = listing(documents.list_documents)
    delete_document = call(documents.delete_document)
    reindex_document = call(documents.reindex_document)
    list_passages = listing(documents.list_passages)

    get_ingest_job = call(jobs.get_ingest_job)
    list_ingest_jobs = listing(jobs.list_ingest_jobs)
    cancel_ingest_job = call(jobs.cancel_ingest_job)
    retry_ingest_job = call(jobs.retry_ingest_job)
    watch_ingest_job = stream(jobs.watch_ingest_job)
    wait_for_ingest_job = call(jobs.wait_for_ingest_job)

    create_session = call(sessions.create_session)
    get_session = call(sessions.get_session)
    list_sessions = listing(sessions.list_sessions)
    delete_session = call(sessions.delete_session)
    append_messages = call(sessions.append_messages)
    list_messages = listing(sessions.list_messages)
    get_session_context = call(sessions.get_session_context)

    create_memory = call(memories.create_memory)
    remember_turns = call(memories.remember_turns)
    get_memory = call(memories.get_memory)
    list_memories = listing(memories.list_memories)
    update_memory = call(memories.update_memory)
    delete_memory = call(memories.delete_memory)
    recall_memories = call(memories.recall_memories)
    get_memory_history = listing(memories.get_memory_history)
    undo_memory = call(memories.undo_memory)
    consolidate_memories = call(memories.consolidate_memories)
    erase_subject = call(memories.erase_subject)

    generate_text = call(generation.generate_text)
    stream_generate_text = stream(generation.stream_generate_text)
    list_generation_models = listing(generation.list_generation_models)
    get_generation_model = call(generation.get_generation_model)
    estimate_cost = call(generation.estimate_cost)
    set_budget = call(generation.set_budget)
    get_budget = call(generation.get_budget)
    list_budgets = listing(generation.list_budgets)
    delete_budget = call(generation.delete_budget)
    ask_question = call(answers.ask_question)
    stream_answer = stream(answers.stream_answer)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
