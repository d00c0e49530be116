"""Timing of a request: the seconds of its stages, and the bytes of its cache."""

import inspect
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class StageTimer:
    """Times one stage after another, the accelerator's work included; `laps` holds the seconds of each stage."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.laps = device, dict[str, float]()
        self._synchronize()
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Record the end of a stage; the next one begins."""
        self._synchronize()
        now = time.perf_counter()
        self.laps[stage], self._last = now - self._last, now

    def _synchronize(self) -> None:
        if self.device.type != "cpu":
            getattr(torch, self.device.type).synchronize()


def prefill(model: Any, inputs: Mapping[str, Any]) -> Any:
    """Run the forward pass that `generate` begins with: over the prompt, with a cache, logits of the last token."""
    last = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    return model(**inputs, **last, use_cache=True)


def kv_bytes(value: Any, seen: set[int] | None = None) -> int:
    """Count the bytes of all tensors in a cache: keys, values, and any other state of its layers."""
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
