"""A look at what goes into one module of a model, while a block of code runs it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor


@contextmanager
def inputs_of(module: Any) -> Iterator[list[Tensor]]:
    """The first argument of every call to `module` inside the block; nothing stays on the module after it."""
    seen: list[Tensor] = []

    def look(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(args[0] if args else next(iter(kwargs.values())))

    handle = module.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def arguments_of(module: Any) -> Iterator[list[dict[str, Any]]]:
    """The keyword arguments of every call to `module` inside the block; nothing stays on the module after it."""
    seen: list[dict[str, Any]] = []

    def look(_: Any, __: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(dict(kwargs))

    handle = module.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()
