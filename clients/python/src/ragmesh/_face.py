"""Gives a method the name, documentation and signature of the plan behind it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

M = TypeVar("M", bound=Callable[..., Any])


def dressed(method: M, plan: Callable[..., Any], result: str) -> M:
    """`method` for `help()` and `inspect`: `plan` with `self` for the session.

    `result` is the form of what comes back, with `{}` for the plan's own result.
    """
    signature = inspect.signature(plan)
    first, *others = signature.parameters.values()
    # `Plan[Collection]`, as text: annotations of this package are not evaluated.
    inner = str(signature.return_annotation).partition("[")[2].removesuffix("]")
    face: Any = method
    face.__name__ = plan.__name__
    face.__doc__ = plan.__doc__
    face.__signature__ = signature.replace(
        parameters=[first.replace(name="self", annotation=inspect.Parameter.empty), *others],
        return_annotation=result.format(inner),
    )
    return method
