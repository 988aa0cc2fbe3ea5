"""Text to token ids, with the place of each token in the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer, normalizers

from engine.errors import DataLoss, InvalidField, ModelUnavailable, TextTooLong
from engine.models.model_dir import ModelDir

CHUNK_CHARS = 250_000
"""Texts go to the tokenizer in groups of about so many characters, which bounds its memory."""


@dataclass(frozen=True, slots=True)
class Tokenized:
    """One text, or one window of it, ready for the model.

    `ids` is int64 of shape (tokens,), special tokens and prompt among them. `tokens_total` is what
    the whole text has, more than `tokens` where it was cut.
    """

    text: str
    ids: NDArray[np.int64]
    tokens_total: int
    encoding: Encoding
    prompt_chars: int = 0

    @property
    def tokens(self) -> int:
        """What the model reads: the length that batches are made by."""
        return len(self.ids)

    @property
    def truncated(self) -> bool:
        """Whether the end of the text is not read."""
        return self.tokens_total > len(self.ids)

    @property
    def offsets(self) -> NDArray[np.int32]:
        """Shape (tokens, 2): characters [start, end) of `text`, (0, 0) for special tokens and
        prompt. Made anew at every look, because only sentences need them."""
        offsets = np.maximum(self._places(), 0)
        offsets[self.special] = 0
        return offsets

    @property
    def special(self) -> NDArray[np.bool_]:
        """Shape (tokens,), true for special tokens and those of the prompt."""
        marks = np.array(self.encoding.special_tokens_mask, np.bool_)[: self.tokens]
        return np.asarray(marks | (self._places()[:, 1] <= 0))

    @property
    def types(self) -> NDArray[np.int64]:
        """Shape (tokens,): which text of a pair a token belongs to."""
        return np.array(self.encoding.type_ids, np.int64)[: self.tokens]

    def _places(self) -> NDArray[np.int32]:
        offsets = np.array(self.encoding.offsets, np.int32).reshape(-1, 2)
        return offsets[: self.tokens] - self.prompt_chars


class TextTokenizer:
    """The tokenizer of a model directory, cut at the model's own bound and never padded.

    tokenizer.json's truncation and padding are overridden: that of all-MiniLM-L6-v2 cuts at 128
    and pads to 128, where the model reads 256. Thread-safe. Results do not depend on
    TOKENIZERS_PARALLELISM.
    """

    def __init__(self, model: ModelDir) -> None:
        tokenizer = open_tokenizer(model)
        self.tokens_max = model.tokens_max
        self._special_tokens = tokenizer.num_special_tokens_to_add(False)
        if self.tokens_max <= self._special_tokens:
            raise ModelUnavailable(
                f"the model of {model.path} reads {self.tokens_max} tokens, of which "
                f"{self._special_tokens} are special; raise max_seq_length in "
                "sentence_bert_config.json",
                metadata={"tokens_max": self.tokens_max, "special": self._special_tokens},
            )
        tokenizer.enable_truncation(self.tokens_max)
        self._tokenizer = tokenizer

    def count(self, texts: Sequence[str], prompt: str = "") -> list[int]:
        """How many tokens each text has with `prompt` before it, special ones included, uncut.

        Raises InvalidField for a text that is not Unicode (a lone surrogate).
        """
        return [self._total(encoding) for encoding in self._encode(texts, prompt)]

    def tokenize(
        self, texts: Sequence[str], prompt: str = "", *, truncate: bool = False
    ) -> list[Tokenized]:
        """Each text's tokens, with `prompt` before it.

        Raises TextTooLong for the first text of more than `tokens_max` tokens unless `truncate`,
        and InvalidField for a text that is not Unicode (a lone surrogate).
        """
        tokenized = []
        for index, encoding in enumerate(self._encode(texts, prompt)):
            total = self._total(encoding)
            if total > self.tokens_max and not truncate:
                raise TextTooLong(
                    f"text {index} has {total} tokens and the model reads {self.tokens_max}; "
                    "split it, or ask for truncation",
                    field=f"texts[{index}]",
                    metadata={"index": index, "tokens": total, "tokens_max": self.tokens_max},
                )
            tokenized.append(_tokenized(texts[index], encoding, total, len(prompt)))
        return tokenized

    def windows(self, texts: Sequence[str], prompt: str = "") -> list[list[Tokenized]]:
        """Each text's tokens in as many windows of `tokens_max` as it takes, none for an empty
        text's rest; the prompt stands before the first one.

        Raises InvalidField for a text that is not Unicode.
        """
        return [
            [
                _tokenized(text, window, len(window.ids), len(prompt))
                for window in (encoding, *encoding.overflowing)
            ]
            for text, encoding in zip(texts, self._encode(texts, prompt), strict=True)
        ]

    def _total(self, encoding: Encoding) -> int:
        """The tokenizer keeps what it cut, in windows that each have the special tokens again."""
        rest = sum(len(window.ids) - self._special_tokens for window in encoding.overflowing)
        return len(encoding.ids) + rest

    def _encode(self, texts: Sequence[str], prompt: str) -> Iterator[Encoding]:
        for index, text in enumerate(texts):
            check_unicode(text, index)
        for group in in_groups(texts):
            # encode_batch releases the GIL; encode does not.
            yield from self._tokenizer.encode_batch([prompt + text for text in group])


def open_tokenizer(model: ModelDir) -> Tokenizer:
    """The tokenizer of a directory, without padding. Raises DataLoss."""
    try:
        tokenizer = Tokenizer.from_file(str(model.tokenizer))
    except Exception as error:  # tokenizers raises plain Exception
        raise DataLoss(
            f"{model.tokenizer} cannot be read ({error}); copy the model again",
            metadata={"path": str(model.tokenizer), "error": str(error)},
        ) from error
    if model.lowercase:
        steps: list[normalizers.Normalizer] = [normalizers.Lowercase()]
        if tokenizer.normalizer is not None:
            steps.append(tokenizer.normalizer)
        tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.no_padding()
    return tokenizer


def _tokenized(text: str, encoding: Encoding, total: int, prompt_chars: int) -> Tokenized:
    return Tokenized(text, np.array(encoding.ids, np.int64), total, encoding, prompt_chars)


def check_unicode(text: str, index: int, field: str = "") -> None:
    """Raises InvalidField for a text with a lone surrogate; `field` is texts[index] by default."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        character = f"U+{ord(text[error.start]):04X}"
        raise InvalidField(
            f"{field or f'text {index}'} has the lone surrogate {character} at character "
            f"{error.start}, which is no Unicode text; remove or replace it",
            field=field or f"texts[{index}]",
            metadata={"index": index, "position": error.start, "code_point": character},
        ) from None


def in_groups(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in groups of about CHUNK_CHARS characters."""
    group: list[str] = []
    chars = 0
    for text in texts:
        if group and chars + len(text) > CHUNK_CHARS:
            yield group
            group, chars = [], 0
        group.append(text)
        chars += len(text)
    if group:
        yield group
