"""Between protobuf's bytes and columns, without an object for each value: reads the points of a
request, without the GIL, and writes the hits of a response.

Whatever is unusual is neither read nor written, so that what is wrong is said in one place only: by
who does it with messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

class Points(TypedDict):
    """Points as columns, in the order of their ids' UTF-8; of an id given twice the last one.

    `rest` is the message without its points, and `payload_sizes` what the payloads of all that it
    had take on the wire, in their order. `plain_ids` says that all ids are printable ASCII without
    a number sign. Payloads are JSON without blanks. What ends in `_array` are the columns as
    PostgreSQL takes them in binary: `text[]`, of vectors `bytea[]`.
    """

    rest: bytes
    payload_sizes: list[int]
    plain_ids: bool
    ids: list[str]
    texts: list[str]
    payloads: list[bytes]
    vectors: NDArray[np.float32]
    ids_array: bytes
    vectors_array: bytes
    texts_array: bytes
    payloads_array: bytes

def read_points(
    data: bytes, field: int, points_max: int, text_characters_max: int, payload_bytes_max: int
) -> Points | None:
    """The points in `field` of a message, at most so many, each with an id of 1 to 256 characters,
    a vector whose norm float32 can compute, a text without U+0000, a payload, and nothing else; all
    vectors of one length. None where any of that is not so, or the bytes are not what writers of
    protobuf write: a field twice, a number in more bytes than it needs, a key twice.
    """

def write_hits(
    segments: list[Any | None],
    hits: list[tuple[tuple[int, int], float]],
    legs: tuple[tuple[int, Mapping[tuple[int, int], float] | None], ...],
    points: Mapping[tuple[int, int], bytes],
    document_prefix: str,
    bare: bool,
) -> bytes | None:
    """The `hits` of a SearchCollectionResponse, in the order given.

    A hit is a place, which is a segment and a position in it, and its score. A segment is a tuple:
    blob (uint8) and starts (int64) of ids, texts, payloads and documents, in this order; int32 (n)
    whose document a row is of, or -1; int32 (n, 3) of passages. `points` has the rows of segments
    that are None, as messages. A leg is the field of its scores, and these by place; None for those
    of the hits. `document_prefix` and a document make its name. `bare` leaves text and payload out.

    None where a text is not UTF-8, a payload is not JSON without blanks or is nested deeper than
    32, or a position is of no row. Raises TypeError for columns of other types, IndexError and
    KeyError for a place of no segment or without its point.
    """
