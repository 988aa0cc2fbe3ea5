"""What a confined parser makes of a file."""

from __future__ import annotations

import contextlib

from services.documents.parser import Parser


async def text_by(parser: Parser, data: bytes, name: str) -> str:
    """The whole text."""
    async with contextlib.aclosing(parser.parse(data, name, "")) as sections:
        return "".join([section.text async for section in sections])
