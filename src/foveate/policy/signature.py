"""Which model a policy belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

SAMPLES = 64
CLOSE = 0.02  # relative difference of two weights that rounding to bfloat16 explains


@dataclass(frozen=True)
class Signature:
    """A model's type, its number of weights, and some of them, rounded.

    Args:
        model_type: `config.model_type`.
        size: The number of weights.
        weights: At most 64 of them, one of each of as many evenly spread tensors; None for those on disk.
    """

    model_type: str
    size: int
    weights: tuple[float | None, ...]

    def fits(self, other: Signature) -> bool:
        """Whether both are the same weights, perhaps in another floating-point type; what is unknown may be equal."""
        same = (self.model_type, self.size, len(self.weights)) == (other.model_type, other.size, len(other.weights))
        pairs = zip(self.weights, other.weights, strict=False)
        return same and all(
            a is None or b is None or abs(a - b) <= CLOSE * max(abs(a), abs(b)) + 1e-6 for a, b in pairs
        )


def sign_model(model: Any) -> Signature:
    """The signature of a model of transformers."""
    weights = [weight.detach() for weight in model.parameters() if weight.numel()]
    floats = [weight for weight in weights if weight.is_floating_point()]
    sampled = floats[:: max(1, len(floats) // SAMPLES)][:SAMPLES]
    known = [weight.flatten()[weight.numel() // 2].float() for weight in sampled if not weight.is_meta]
    values = iter(torch.stack([value.to(known[0].device) for value in known]).tolist() if known else [])  # one copy
    rounded = tuple(None if weight.is_meta else float(f"{next(values):.4g}") for weight in sampled)
    return Signature(model.config.model_type, sum(weight.numel() for weight in weights), rounded)
