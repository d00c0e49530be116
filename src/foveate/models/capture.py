"""Capture what goes into one module of a model while a block of code runs it; nothing stays on the module after it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor


def capture_inputs(module: Any) -> AbstractContextManager[list[Tensor]]:
    """The first argument of every call to `module` inside the block."""
    return _capture(module, lambda args, kwargs: args[0] if args else next(iter(kwargs.values())))


def capture_arguments(module: Any) -> AbstractContextManager[list[dict[str, Any]]]:
    """The keyword arguments of every call to `module` inside the block."""
    return _capture(module, lambda _, kwargs: dict(kwargs))


@contextmanager
def _capture(module: Any, read: Callable[[Any, dict[str, Any]], Any]) -> Iterator[list[Any]]:
    calls: list[Any] = []
    hook = module.register_forward_pre_hook(lambda _, *call: calls.append(read(*call)), with_kwargs=True)
    try:
        yield calls
    finally:
        hook.remove()
