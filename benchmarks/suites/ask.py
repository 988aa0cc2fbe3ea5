"""AskQuestion on the demo's corpus, ingested through the document service."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from ragmesh import Answer, Client

from benchmarks.bench import Bench
from benchmarks.data import demo_files, demo_questions, demo_texts
from benchmarks.report import Figure, SuiteReport, Target
from benchmarks.timing import in_turns

COLLECTION = "demo"
STAGES = ("search_ms", "context_ms", "generate_ms", "check_ms", "total_ms")


def ask(bench: Bench) -> SuiteReport:
    """p50 over all questions and rounds, with the stages that the answers report."""
    client = bench.client
    count = 40 if bench.quick else len(demo_texts())
    bench.say(f"ingesting {count} abstracts and {len(demo_files())} files")
    client.create_collection(COLLECTION)
    begin_s = time.perf_counter()
    ingest(client, count)
    ingest_s = time.perf_counter() - begin_s
    points = client.count_points(COLLECTION).count
    questions = demo_questions()
    answers: list[Answer] = []

    def put(i: int) -> None:
        question = questions[i % len(questions)]["question"]
        answers.append(client.ask_question(question, COLLECTION))

    rounds = 2 if bench.quick else 9
    bench.say(f"asking {len(questions)} questions, {rounds} rounds")
    times = in_turns({"ask": put}, rounds=rounds, calls=len(questions), warm_up=len(questions))
    return SuiteReport(
        suite="ask",
        setting={
            "documents": count + len(demo_files()),
            "passages": points,
            "questions": f"{len(questions)}, {rounds} rounds, one at a time, over gRPC",
        },
        figures=[
            Figure("AskQuestion, p50", times["ask"].p50_ms(), "ms"),
            Figure("AskQuestion, p99", times["ask"].p99_ms(), "ms"),
            *(_stage(name, answers) for name in STAGES),
            Figure("ingestion", (count + len(demo_files())) / ingest_s, "documents/s"),
            _right(questions, answers[-len(questions) :]),
        ],
        targets=[Target("ask_p50_ms", times["ask"].p50_ms())],
    )


def ingest(client: Client, count: int) -> None:
    """The first `count` abstracts and all files; returns when all can be found."""
    jobs = [
        client.create_document(
            COLLECTION,
            text=f"{one.title}\n\n{one.text}",
            document_id=one.id,
            display_name=one.title,
            lane="bulk",
        ).ingest_job.name
        for one in demo_texts()[:count]
    ]
    jobs += [
        client.upload_document(COLLECTION, path, lane="bulk").ingest_job.name
        for path in demo_files()
    ]
    for job in jobs:
        client.wait_for_ingest_job(job)


def _stage(name: str, answers: Sequence[Answer]) -> Figure:
    stage = name.removesuffix("_ms")
    return Figure(
        f"… {stage}", float(np.median([getattr(a.timings, name) for a in answers])), "ms", "p50"
    )


def _right(questions: Sequence[dict[str, object]], answers: Sequence[Answer]) -> Figure:
    """Abstained where nothing answers, answered with a citation elsewhere: a sign that what was
    timed was work, no measure of quality."""
    right = sum(
        bool(answer.citations) == bool(question["documents"])
        for question, answer in zip(questions, answers, strict=True)
    )
    return Figure("answered or abstained as it should", right, f"of {len(questions)}")
