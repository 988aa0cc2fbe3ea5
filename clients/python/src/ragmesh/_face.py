"""Gives a method the name, documentation and signature of the plan behind it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from ragmesh._names import refused, unholdable

M = TypeVar("M", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")


def checked(make: Callable[P, R]) -> Callable[P, R]:
    """`make`, raising InvalidField for values that no message can hold."""

    def made(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return make(*args, **kwargs)
        except ValueError as error:
            if unholdable(error):
                raise refused(error) from error
            raise

    return made


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
