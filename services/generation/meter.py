"""Counts the tokens of one answer while it is written, so that they are known however it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.spending.estimate import least_tokens, likely_tokens
from services.generation.backend import ToolCall
from services.generation.providers.pieces import Piece, Said, Thinking, Used


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of an answer. `estimated` where the endpoint did not come to say them all."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    estimated: bool = False


@dataclass(slots=True)
class _Round:
    """One request: what it likely read, what was seen of its answer, and what was said of both."""

    likely_input: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int = 0
    size_bytes: int = 0
    pieces: int = 0

    @property
    def least_output(self) -> int:
        """Tokens that were surely written."""
        return max(self.output_tokens or 0, least_tokens(self.size_bytes, self.pieces))


@dataclass(slots=True)
class Meter:
    """`granted` is what budgets let the answer write, None where none applies. `model_id` is the
    model that counts: the last one that was asked."""

    granted: int | None = None
    model_id: str = ""
    _rounds: list[_Round] = field(default_factory=list)

    def begin(self, model_id: str, prompt_bytes: int) -> None:
        """A request goes out."""
        self.model_id = model_id
        self._rounds.append(_Round(likely_tokens(prompt_bytes)))

    def drop(self) -> None:
        """The request failed before its first token: nobody charges for it."""
        self._rounds.pop()

    def take(self, piece: Piece) -> None:
        """A piece of the answer came."""
        now = self._rounds[-1]
        match piece:
            case Said(text) | Thinking(text):
                if text:
                    now.pieces += 1
                    now.size_bytes += len(text.encode(errors="replace"))
            case ToolCall():
                now.pieces += 1 if not now.pieces else 0
            case Used(read, written, cached):
                now.input_tokens = now.input_tokens if read is None else read
                now.output_tokens = now.output_tokens if written is None else written
                now.cached_input_tokens = cached or now.cached_input_tokens
            case _:
                return

    @property
    def left(self) -> int | None:
        """Tokens that may still be written; None without a bound."""
        if self.granted is None:
            return None
        return max(self.granted - sum(r.least_output for r in self._rounds), 0)

    @property
    def overdrawn(self) -> bool:
        """Whether more was written than was granted: the endpoint does not stop by itself."""
        written = sum(r.least_output for r in self._rounds)
        return self.granted is not None and written > self.granted

    def usage(self) -> Usage:
        """What was used until now. What the endpoint has not said is estimated, at most as what
        was granted."""
        outputs, estimated = 0, False
        for one in self._rounds:
            if one.output_tokens is None:
                outputs += max(likely_tokens(one.size_bytes), one.least_output)
                if self.granted is not None:
                    outputs = min(outputs, self.granted)
            else:
                outputs += one.output_tokens
            estimated = estimated or one.output_tokens is None or one.input_tokens is None
        return Usage(
            sum(r.likely_input if r.input_tokens is None else r.input_tokens for r in self._rounds),
            outputs,
            sum(r.cached_input_tokens for r in self._rounds),
            estimated,
        )
