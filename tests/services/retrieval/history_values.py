"""Vectors of histories: of few values, so that many rows are equally near, and their messages."""

from __future__ import annotations

import random

from ragmesh.api.embedding.v1 import vector_pb2

from tests.services.retrieval.oracle import Sparse

DIMENSIONS = 4


def some_vector(rng: random.Random) -> tuple[float, ...]:
    return tuple(rng.choice((1.0, 2.0, -1.0)) for _ in range(DIMENSIONS))


def some_sparse(rng: random.Random) -> Sparse:
    indices = rng.sample((0, 3, 70_000, 2**32 - 1), rng.randint(1, 3))
    return tuple((index, rng.choice((-1.0, 0.5, 2.0))) for index in sorted(indices))


def sparse_message(sparse: Sparse) -> vector_pb2.SparseVector:
    return vector_pb2.SparseVector(indices=[i for i, _ in sparse], values=[v for _, v in sparse])


def sparse_value(message: vector_pb2.SparseVector) -> Sparse:
    return tuple(zip(message.indices, message.values, strict=True))


def vector_message(vector: tuple[float, ...]) -> vector_pb2.Vector:
    return vector_pb2.Vector(dense=vector_pb2.DenseVector(values=vector))


def as_given(
    stored: tuple[float, ...] | None, given: tuple[float, ...] | None
) -> tuple[float, ...] | None:
    if stored is None or given is None:
        return stored
    length = sum(value * value for value in given) ** 0.5
    scaled = [value / length for value in given]
    near = all(abs(a - b) < 1e-6 for a, b in zip(stored, scaled, strict=True))
    return given if near or stored == given else stored
