"""Memories: whether the sessions that answer LoCoMo's questions are recalled, and how long a recall
takes among 100,000 memories of one subject."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ragmesh import Client, Turn

from benchmarks.bench import Bench
from benchmarks.data import DATA_VARIABLE, DataMissing, Matrix
from benchmarks.report import Figure, SuiteReport, Target, joined
from benchmarks.settled import until_settled
from benchmarks.timing import in_turns
from services.memory import indexing
from services.store import collections, memories
from services.store.memories import Memory
from services.store.points import PointRow, apply_batch
from services.store.store import Store, Tx

SUBJECT = "benchmark"
MEMORIES = 100_000
WORDS = 20_000
WORDS_A_MEMORY = 12
BATCH = 2_000
WRITE_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns by session, and questions with the sessions that answer them."""

    subject: str
    turns: Sequence[tuple[str, Turn]]
    questions: Sequence[tuple[str, frozenset[str]]]


def memory(bench: Bench) -> SuiteReport:
    """Both parts."""
    return joined("memory", [_locomo(bench), _many(bench)])


def locomo(part: int = 0) -> Iterator[Conversation]:
    """Five conversations of LoCoMo, or the first turns of each. Raises DataMissing.

    Maharana et al., "Evaluating Very Long-Term Conversational Memory of LLM Agents", ACL 2024
    (CC BY-NC 4.0). Questions without evidence are left out. A picture that is shared counts as its
    caption.
    """
    given = os.environ.get(DATA_VARIABLE)
    file = Path(given or ".") / "locomo" / "locomo5.json.gz"
    if not given or not file.is_file():
        raise DataMissing(
            f"LoCoMo is needed in ${DATA_VARIABLE}/locomo/locomo5.json.gz; {DATA_VARIABLE} is "
            f"{given or 'not set'}. Take data/locomo10.json of github.com/snap-research/LoCoMo."
        )
    with gzip.open(file, "rt", encoding="utf-8") as text:
        for number, one in enumerate(json.load(text)):
            turns = list(_turns(one["conversation"], f"l{number}"))
            questions = [
                (str(asked["question"]), frozenset(f"sessions/l{number}-{day}" for day in days))
                for asked in one["qa"]
                if (days := _days(asked.get("evidence") or ()))
            ]
            yield Conversation(f"locomo-{number}", turns[: part or None], questions)


def _turns(conversation: dict[str, Any], prefix: str) -> Iterator[tuple[str, Turn]]:
    for key, said in conversation.items():
        if not re.fullmatch(r"session_\d+", key):
            continue
        session = f"sessions/{prefix}-{key.removeprefix('session_')}"
        begun = datetime.strptime(conversation[f"{key}_date_time"], "%I:%M %p on %d %B, %Y")
        for index, turn in enumerate(said, 1):
            text = turn["text"]
            if turn.get("blip_caption"):
                text = f"{text} (photo: {turn['blip_caption']})"
            said_at = begun.replace(tzinfo=UTC) + timedelta(seconds=index)
            yield session, Turn(text, turn["speaker"], said_at, index)


def _days(evidence: Sequence[str]) -> list[int]:
    """The numbers of the sessions in `D1:3`, `D8:6; D9:17` and the like."""
    return [int(day) for one in evidence for day, _ in re.findall(r"D:?(\d+):(\d+)", one)]


def _locomo(bench: Bench) -> SuiteReport:
    part = 30 if bench.quick else 0
    client, asked, turns = bench.client, 0, 0
    found = np.zeros(3)
    remember_s = 0.0
    times_ms: list[float] = []
    for conversation in locomo(part):
        bench.say(f"{conversation.subject}: remembering {len(conversation.turns)} turns")
        begin_s = time.perf_counter()
        for session, turn in conversation.turns:
            client.remember_turns(conversation.subject, [turn], session_name=session)
        remember_s += time.perf_counter() - begin_s
        turns += len(conversation.turns)
        questions = conversation.questions[: 5 if bench.quick else None]
        bench.say(f"{conversation.subject}: {len(questions)} questions")
        for question, evidence in questions:
            begin_s = time.perf_counter()
            best = sessions_of(client, conversation.subject, question)
            times_ms.append((time.perf_counter() - begin_s) * 1000)
            found += (
                bool(evidence & set(best[:5])),
                bool(evidence & set(best[:10])),
                evidence <= set(best[:10]),
            )
        asked += len(questions)
    any5, any10, all10 = (found / max(1, asked)).tolist()
    return SuiteReport(
        suite="memory",
        setting={"LoCoMo": f"{turns:,} turns, one at a time; {asked:,} questions, by session"},
        figures=[
            Figure("LoCoMo: some evidence session in the top 5", any5, ""),
            Figure("LoCoMo: some evidence session in the top 10", any10, "", "published: 0.914"),
            Figure("LoCoMo: all of them in the top 10", all10, ""),
            Figure("LoCoMo: recall with sessions, p50", float(np.median(times_ms)), "ms"),
            Figure("LoCoMo: turns remembered", turns / max(remember_s, 1e-9), "turns/s"),
        ],
        targets=[
            Target("memory_locomo_any_top5", any5),
            Target("memory_locomo_any_top10", any10),
            Target("memory_locomo_all_top10", all10),
        ],
    )


def sessions_of(client: Client, subject: str, question: str) -> list[str]:
    """The ten best sessions."""
    recalled = client.recall_memories(subject, question, sessions_limit=10)
    return [one.session for one in recalled.sessions]


def _many(bench: Bench) -> SuiteReport:
    count = 1_000 if bench.quick else MEMORIES
    client = bench.client
    client.create_memory(SUBJECT, "The index is made with the first memory.")
    bench.say(f"writing {count:,} memories of one subject with vectors that are drawn")
    random = np.random.default_rng(0)
    pairs = [f"{first}{second}" for first in _syllables() for second in _syllables()]
    words = np.array(pairs[:WORDS])
    begin_s = time.perf_counter()
    asyncio.run(_write(bench.mesh.postgres, count, random, words))
    written_s = time.perf_counter() - begin_s
    until_settled(client, memories.COLLECTION, bench.running.node_pid())
    rounds = 2 if bench.quick else 5
    calls = 20 if bench.quick else 80
    queries = [" ".join(random.choice(words, 4)) for _ in range((rounds + 1) * calls)]
    search_ms: list[float] = []

    left = iter(queries)

    def new(i: int) -> None:
        found = client.recall_memories(SUBJECT, next(left), min_watermark="")
        search_ms.append(found.search_ms)

    def again(i: int) -> None:
        client.recall_memories(SUBJECT, queries[0], min_watermark="")

    bench.say(f"recalling, {rounds} rounds of {calls} queries")
    times = in_turns({"recall": new, "again": again}, rounds=rounds, calls=calls, warm_up=calls)
    p50_ms = times["recall"].p50_ms()
    return SuiteReport(
        suite="memory",
        setting={
            "one subject": f"{count:,} memories of {WORDS_A_MEMORY} of {WORDS:,} made-up words, "
            "random unit vectors, written through the store; queries of 4 words, each embedded"
        },
        figures=[
            Figure("recall, p50", p50_ms, "ms", "over gRPC, one at a time, no query twice"),
            Figure("recall, p99", times["recall"].p99_ms(), "ms"),
            Figure("recall of a query asked before, p50", times["again"].p50_ms(), "ms", "cached"),
            Figure("… search with embedding, p50", float(np.median(search_ms)), "ms"),
            Figure("rows and points written", count / written_s, "memories/s"),
        ],
        targets=[Target("memory_recall_p50_ms", p50_ms)],
    )


def _syllables() -> list[str]:
    return [f"{a}{b}{c}" for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("l", "n", "r")]


async def _write(
    url: str, count: int, random: np.random.Generator, words: NDArray[np.str_]
) -> None:
    store = await Store.open(url, migrations=False)
    try:
        for start in range(0, count, BATCH):
            rows = [_row(start + n, random, words) for n in range(min(BATCH, count - start))]
            await _put(store, rows, _unit(random, len(rows)))
    finally:
        await store.close()


def _row(number: int, random: np.random.Generator, words: NDArray[np.str_]) -> Memory:
    said_at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    return Memory(
        id=f"m{number:06}",
        subject=SUBJECT,
        kind="event",
        text=" ".join(random.choice(words, WORDS_A_MEMORY)),
        importance=float(random.random()),
        valid_from=said_at,
        learned_at=said_at,
        version=1,
        create_time=said_at,
        update_time=said_at,
    )


def _unit(random: np.random.Generator, count: int) -> Matrix:
    rows = random.standard_normal((count, 384)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


async def _put(store: Store, rows: Sequence[Memory], vectors: Matrix) -> None:
    """Rows and points of memories as the service writes them, but for their history."""
    written = json.dumps([{"tenant": "default", **asdict(row)} for row in rows], default=str)

    async def work(tx: Tx) -> None:
        collection = await collections.get_collection(tx, memories.COLLECTION)
        await tx.run(
            "INSERT INTO memories SELECT * FROM json_populate_recordset(NULL::memories, %s)",
            (written,),
        )
        points = [
            PointRow(
                id=row.id,
                vector=vector,
                text=indexing.indexed_text(row),
                payload=indexing.payload(row),
            )
            for row, vector in zip(rows, vectors, strict=True)
        ]
        await apply_batch(tx, collection, points)

    await store.run("default", work, timeout_s=WRITE_TIMEOUT_S)
