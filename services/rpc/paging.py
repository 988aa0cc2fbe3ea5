"""Pages of lists: sizes with bounds, and tokens that only fit the list they came from."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Final

from engine.errors import InvalidField, InvalidPageToken

PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 1_000


def page_size(asked: int) -> int:
    """The size of a page: 0 for 50, at most 1,000. Raises InvalidField below zero or above."""
    if not 0 <= asked <= PAGE_SIZE_MAX:
        raise InvalidField(
            f"page_size is {asked}, but lies between 0 (for {PAGE_SIZE_DEFAULT}) and "
            f"{PAGE_SIZE_MAX}.",
            field="page_size",
            metadata={"page_size": asked, "page_size_max": PAGE_SIZE_MAX},
        )
    return asked or PAGE_SIZE_DEFAULT


def write_token(listing: str, key: str) -> str:
    """A token for the page after `key`. `listing` names the list: method, parent and filter."""
    body = json.dumps([_mark(listing), key], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(zlib.crc32(body).to_bytes(4, "big") + body).decode().rstrip("=")


def read_token(listing: str, token: str) -> str | None:
    """The key that a token stands for; None without a token. Raises InvalidPageToken."""
    if not token:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        check, body = raw[:4], raw[4:]
        if zlib.crc32(body).to_bytes(4, "big") != check:
            raise ValueError("checksum")
        mark, key = json.loads(body)
    except (ValueError, binascii.Error, TypeError) as error:
        raise InvalidPageToken(
            "page_token is damaged. Pass next_page_token of the answer before as it came, or "
            "leave it empty to begin anew.",
            field="page_token",
        ) from error
    if mark != _mark(listing):
        raise InvalidPageToken(
            "page_token belongs to another list: parent and filter must stay the same from page "
            "to page.",
            field="page_token",
        )
    return str(key)


def _mark(listing: str) -> str:
    return f"{zlib.crc32(listing.encode()):08x}"
