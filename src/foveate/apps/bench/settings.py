"""Parse budgets, batches and image sizes; errors are raised before a model is loaded."""

from collections.abc import Mapping
from typing import TypeVar

from foveate.apps.bench.published import Size
from foveate.apps.evaluate.settings import parse_keeps, parse_methods
from foveate.errors import InputError
from foveate.method import Method
from foveate.method.inner import InnerMethod

T = TypeVar("T")
Budget = tuple[str, Method, int | float]
"""The method's name as the user wrote it, the method, and `keep`."""


def parse_budgets(methods: str, keeps: str) -> list[Budget]:
    """Every method at every budget, without 1.0, which is the unpruned model.

    Raises a `FoveateError` if no budget is left, or for a method that does not prune the inputs.
    """
    chosen: dict[str, Method] = {}
    for name, method in parse_methods(methods).items():
        if isinstance(method, InnerMethod):
            raise InputError(
                f"{name} works inside the decoder, so that no shorter prompt is its limit: "
                "bench methods that prune the inputs (`foveate methods`)."
            )
        chosen[name] = method
    below = [keep for keep in parse_keeps(keeps) if isinstance(keep, int) or keep < 1]
    if not below:
        raise InputError(f"--keep {keeps!r} prunes nothing: give a share below 1 (0.1) or a number of tokens (64).")
    return [(name, method, keep) for keep in below for name, method in chosen.items()]


def parse_sizes(text: str) -> list[Size]:
    """`"336,1280x720"` as (height, width) in pixels: a square's side, or width x height."""
    sizes = []
    for part in text.split(","):
        sides = part.strip().lower().split("x")
        if len(sides) > 2 or not all(side.isascii() and side.isdigit() and int(side) for side in sides):
            raise InputError(f"--image-size {part.strip()!r} is no size: give pixels, as in 336 or 1280x720.")
        sizes.append((int(sides[-1]), int(sides[0])))
    return _check_distinct("--image-size", text, sizes)


def parse_batches(text: str, option: str = "--batch") -> list[int]:
    """`"1,4"` as numbers of prompts."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise InputError(f"{option} {text!r}: give whole numbers from 1 on, as in 1,4.")
    return _check_distinct(option, text, [int(part) for part in parts])


def check_options(engine: str, **own: Mapping[str, object]) -> None:
    """Raise `InputError` for an option with a value that only another engine has."""
    for other, options in own.items():
        for option, value in options.items():
            if value is not None and other != engine:
                raise InputError(f"{option} is for --engine {other}: leave it out.")


def _check_distinct(option: str, text: str, values: list[T]) -> list[T]:
    if len(set(values)) < len(values):
        raise InputError(f"{option} {text!r} names the same twice: leave one of them out.")
    return values


def format_size(size: Size) -> str:
    """Width x height."""
    return f"{size[1]}x{size[0]}"
