"""Reads points from the bytes of a request, without the GIL and without an object for each value.

Whatever is unusual is not read, so that what is wrong with a request is said in one place only: by
who reads the message as protobuf does.
"""

from __future__ import annotations

from typing import TypedDict

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
    data: bytes, field: int, text_characters_max: int, payload_bytes_max: int
) -> Points | None:
    """The points in `field` of a message, each with an id of 1 to 256 characters, a vector whose
    norm float32 can compute, a text without U+0000, a payload, and nothing else; all vectors of
    one length. None where any of that is not so, or the bytes are not what writers of protobuf
    write: a field twice, a number in more bytes than it needs, a key twice.
    """
