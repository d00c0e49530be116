"""The KV cache in a call's arguments or a model's output, which transformers called `past_key_values` before 5.24."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

NAMES = ("cache", "past_key_values")


def cache_of(arguments: Mapping[str, Any]) -> Any:
    """The cache, under whichever name it goes; None where there is none."""
    return next((arguments[name] for name in NAMES if arguments.get(name) is not None), None)


def count_cached_tokens(cache: Any) -> int:
    """How many tokens a cache holds; 0 for None."""
    return 0 if cache is None else int(cache.get_seq_length())


def count_cached_rows(cache: Any) -> int | None:
    """How many rows a cache holds; None where its layers do not tell."""
    keys = (getattr(layer, "keys", None) for layer in getattr(cache, "layers", ()))
    return next((len(each) for each in keys if each is not None), None)


def cache_name(function: Callable[..., Any]) -> str:
    """What this function of transformers calls its cache."""
    return NAMES[0] if NAMES[0] in inspect.signature(function).parameters else NAMES[1]
