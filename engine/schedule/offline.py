"""Batches of texts that are all there already and that nobody waits for one by one."""

from __future__ import annotations

from collections.abc import Sequence

from engine.schedule.items import Limits


def in_batches(tokens: Sequence[int], limits: Limits) -> list[list[int]]:
    """The numbers of texts of these lengths as batches within the limits, every number once.

    By length, the longest first, so that memory is at its largest from the first run on. A batch
    is over its budget only if it holds one text.
    """
    batches: list[list[int]] = []
    for number in sorted(range(len(tokens)), key=lambda n: (-tokens[n], n)):
        longest = tokens[batches[-1][0]] if batches else 0
        padding = longest - tokens[number]
        if (
            not batches
            or longest * (len(batches[-1]) + 1) > limits.batch_padded_tokens_max
            or len(batches[-1]) == limits.batch_items_max
            or padding > limits.padding_tokens
        ):
            batches.append([])
        batches[-1].append(number)
    return batches
