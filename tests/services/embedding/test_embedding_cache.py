"""A text that was embedded is not embedded again, and nobody gets another's vector."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from engine.errors import TextTooLong
from services.config import ModelSettings
from services.embedding.cache import CachedVector, VectorCache, decode, encode, key_of
from services.embedding.servicer import EmbeddingServicer
from services.rpc.call import Call, Lane
from services.rpc.values import vector_value
from services.store.redis import connect
from tests.services.store.redis_server import running_redis

LONG = "red " * 200
SETTINGS = ModelSettings(precision="fp32", threads=1)


@pytest.fixture
def redis_server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with running_redis() as server:
        yield server


@asynccontextmanager
async def serving(
    first: Path, cache_dir: Path, redis_url: str = "", cache_bytes_max: int = 1 << 20
) -> AsyncIterator[EmbeddingServicer]:
    """A servicer of a small checkpoint, with a Redis if there is a URL."""
    settings = SETTINGS.model_copy(update={"directory": first, "cache_bytes_max": cache_bytes_max})
    redis = connect(redis_url) if redis_url else None
    with ThreadPoolExecutor(2) as threads:
        servicer = EmbeddingServicer(settings, cache_dir, threads, redis)
        try:
            await servicer.start()
            yield servicer
        finally:
            await servicer.close()
            if redis is not None:
                await redis.aclose()


async def embed(
    servicer: EmbeddingServicer,
    *texts: str,
    tenant: str = "default",
    lane: Lane = "interactive",
    truncate: bool = False,
    kind: pb.InputKind.ValueType = pb.INPUT_KIND_PASSAGE,
) -> pb.EmbedTextsResponse:
    request = pb.EmbedTextsRequest(
        model="embeddingModels/default", texts=texts, truncate=truncate, input_kind=kind
    )
    return await servicer.EmbedTexts(request, Call(tenant, "test", lane=lane))


def entry(number: int, size: int = 4) -> CachedVector:
    return CachedVector(np.full(size, number, np.float32), number, False)


@given(st.text(), st.text(), st.text(alphabet="abc/0123", min_size=1))
def test_a_key_is_of_one_tenant_space_kind_and_text(one: str, other: str, space: str) -> None:
    keys = {
        key_of(tenant, fingerprint, kind, truncate, text)
        for tenant in ("a", "b")
        for fingerprint in (space, space + "0")
        for kind in ("query", "passage")
        for truncate in (False, True)
        for text in {one, other}
    }
    assert len(keys) == 16 * len({one, other})


@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40),
    st.integers(0, 10**6),
    st.booleans(),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 200),
)
def test_what_redis_keeps_is_read_back_only_under_its_own_key(
    values: list[float], tokens: int, truncated: bool, key: bytes, cut: int
) -> None:
    kept = CachedVector(np.array(values, np.float32), tokens, truncated)
    data = encode(key, kept)
    read = decode(key, data)
    assert read is not None
    np.testing.assert_array_equal(read.vector, kept.vector)
    assert (read.tokens, read.truncated) == (tokens, truncated)
    assert decode(bytes(byte ^ 1 for byte in key), data) is None
    if cut % 4 and cut < len(data):
        assert decode(key, data[:-cut]) is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 64)), max_size=60))
def test_memory_stays_within_its_bound_and_the_last_entry_is_kept(
    added: list[tuple[int, int]],
) -> None:
    async def add() -> None:
        cache = VectorCache(2_000, 60, None)
        for number, size in added:
            key = bytes([number]) * 32
            cache.keep({key: entry(number, size)})
            found = await cache.find([key])
            assert found[key].tokens == number
            assert cache.used_bytes <= 2_000

    asyncio.run(add())


async def test_a_text_is_embedded_once_and_answered_alike(first: Path, cache_dir: Path) -> None:
    async with serving(first, cache_dir) as servicer:
        before = await embed(servicer, "red", "green blue", "red")
        after = await embed(servicer, "green blue", "red", "blue")
        assert (before.timings.cached_texts, after.timings.cached_texts) == (0, 2)
        assert after.embeddings[0] == before.embeddings[1]
        assert after.embeddings[1] == before.embeddings[0] == before.embeddings[2]
        again = await embed(servicer, "red")
        assert again.timings.batch_texts == 0 and again.timings.inference_ms == 0


async def test_tenants_and_kinds_share_nothing(first: Path, cache_dir: Path) -> None:
    async with serving(first, cache_dir) as servicer:
        await embed(servicer, "red")
        assert (await embed(servicer, "red", tenant="other")).timings.cached_texts == 0
        query = await embed(servicer, "red", kind=pb.INPUT_KIND_QUERY)
        assert query.timings.cached_texts == 0


async def test_sentences_are_always_made(first: Path, cache_dir: Path) -> None:
    async with serving(first, cache_dir) as servicer:
        request = pb.EmbedTextsRequest(
            model="embeddingModels/default", texts=["red. green."], include_sentences=True
        )
        for _ in range(2):
            response = await servicer.EmbedTexts(request, Call("default", "test"))
            assert response.timings.cached_texts == 0 and response.embeddings[0].sentences


async def test_callers_at_the_same_time_have_one_text_made_once(
    first: Path, cache_dir: Path
) -> None:
    async with serving(first, cache_dir) as servicer:
        answers = await asyncio.gather(*(embed(servicer, "red blue") for _ in range(30)))
        made = [one for one in answers if one.timings.cached_texts == 0]
        assert len(made) == 1
        assert all(one.embeddings == answers[0].embeddings for one in answers)


async def test_who_waits_for_one_that_leaves_is_answered_all_the_same(
    first: Path, cache_dir: Path
) -> None:
    async with serving(first, cache_dir) as servicer:
        expected = (await embed(servicer, "green", tenant="other")).embeddings[0]
        for number in range(20):
            tenant = f"tenant-{number}"
            leader = asyncio.create_task(embed(servicer, "green", tenant=tenant))
            followers = [
                asyncio.create_task(embed(servicer, "green", tenant=tenant)) for _ in range(5)
            ]
            await asyncio.sleep(0)
            leader.cancel()
            answers = await asyncio.gather(*followers)
            for answer in answers:
                np.testing.assert_allclose(
                    vector_value(answer.embeddings[0].vector, "v"),
                    vector_value(expected.vector, "v"),
                    atol=1e-6,
                )
            with pytest.raises(asyncio.CancelledError):
                await leader


async def test_a_query_does_not_wait_for_the_same_text_in_the_bulk_lane(
    first: Path, cache_dir: Path
) -> None:
    async with serving(first, cache_dir) as servicer:
        bulk, query = await asyncio.gather(
            embed(servicer, "red", lane="bulk"), embed(servicer, "red", lane="interactive")
        )
        assert bulk.timings.cached_texts == query.timings.cached_texts == 0


async def test_a_long_text_is_named_by_its_place_in_the_request(
    first: Path, cache_dir: Path
) -> None:
    async with serving(first, cache_dir) as servicer:
        await embed(servicer, "red", "green")
        with pytest.raises(TextTooLong) as caught:
            await embed(servicer, "red", "blue", "green", LONG)
        assert caught.value.field == "texts[3]"
        cut = await embed(servicer, LONG, truncate=True)
        assert cut.embeddings[0].truncated
        with pytest.raises(TextTooLong):
            await embed(servicer, LONG)


async def test_nodes_share_what_is_in_redis(
    first: Path, cache_dir: Path, redis_server: tuple[str, subprocess.Popen[bytes]]
) -> None:
    url = redis_server[0]
    async with serving(first, cache_dir, url) as one, serving(first, cache_dir, url) as other:
        made = await embed(one, "red", "blue")
        client = connect(url)
        async with asyncio.timeout(30):
            while await client.dbsize() < 2:
                await asyncio.sleep(0.01)
        await client.aclose()
        found = await embed(other, "red", "blue")
        assert found.timings.cached_texts == 2
        assert found.embeddings == made.embeddings


async def test_a_redis_that_dies_or_hangs_costs_only_speed(
    first: Path, cache_dir: Path, redis_server: tuple[str, subprocess.Popen[bytes]]
) -> None:
    url, process = redis_server
    async with serving(first, cache_dir, url) as servicer:
        expected = (await embed(servicer, "red")).embeddings
        process.send_signal(signal.SIGSTOP)  # it takes requests and answers none
        begin_s = time.monotonic()
        for number in range(20):
            await embed(servicer, f"red {'blue ' * number}")
        assert time.monotonic() - begin_s < 6.0  # and not 20 times as long as a command may take
        process.kill()
        process.wait()
        assert (await embed(servicer, "red")).embeddings == expected
        assert (await embed(servicer, "green")).timings.cached_texts == 0


async def test_cancelled_callers_never_mix_up_vectors(
    first: Path, cache_dir: Path, redis_server: tuple[str, subprocess.Popen[bytes]]
) -> None:
    texts = [f"{'red ' * (n % 7)}{'green ' * (n % 5)}{'blue ' * (n % 3)}." for n in range(105)]
    few = 1_000  # two entries: all the others come from Redis
    async with serving(first, cache_dir, redis_server[0], few) as servicer:
        expected = {text: (await embed(servicer, text)).embeddings[0] for text in texts}
        for number in range(10):
            calls = [asyncio.create_task(embed(servicer, text)) for text in texts]
            await asyncio.sleep(0.0005 * number)
            for one in calls[::2]:
                one.cancel()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            for text, answer in zip(texts, answers, strict=True):
                if isinstance(answer, pb.EmbedTextsResponse):
                    np.testing.assert_allclose(
                        vector_value(answer.embeddings[0].vector, "v"),
                        vector_value(expected[text].vector, "v"),
                        atol=1e-5,
                    )
