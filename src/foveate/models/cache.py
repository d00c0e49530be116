"""The KV cache in a call's arguments or a model's output, which transformers called `past_key_values` before 5.24."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

NAMES = ("cache", "past_key_values")


def cache_of(arguments: Mapping[str, Any]) -> Any:
    """The cache, under whichever name it goes; None where there is none."""
    return next((arguments[name] for name in NAMES if arguments.get(name) is not None), None)


def cache_name(function: Callable[..., Any]) -> str:
    """What this function of transformers calls its cache."""
    return NAMES[0] if NAMES[0] in inspect.signature(function).parameters else NAMES[1]
