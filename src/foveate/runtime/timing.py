"""What a request costs: seconds of its stages, and the bytes of its cache."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class StageTimer:
    """Seconds of one stage after another, the accelerator's work included."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.laps = device, dict[str, float]()
        self._synchronize()
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """The stage is over and the next one begins."""
        self._synchronize()
        now = time.perf_counter()
        self.laps[stage], self._last = now - self._last, now

    def _synchronize(self) -> None:
        if self.device.type != "cpu":
            getattr(torch, self.device.type).synchronize()


def prefill(model: Any, inputs: Mapping[str, Any]) -> Any:
    """A forward pass over the prompt, as `generate` does first: with a cache, and logits of the last token only."""
    last = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    return model(**inputs, **last, use_cache=True)


def kv_bytes(value: Any, seen: set[int] | None = None) -> int:
    """The bytes of all tensors in a cache: keys, values, and whatever state its layers carry."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(kv_bytes(each, seen) for each in value.values())
    if isinstance(value, (list, tuple)):
        return sum(kv_bytes(each, seen) for each in value)
    own = type(value).__module__.startswith("transformers.")
    return sum(kv_bytes(each, seen) for each in vars(value).values()) if own and hasattr(value, "__dict__") else 0
