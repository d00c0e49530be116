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
        weights: At most 64 of them, one of each of as many evenly spread tensors.
    """

    model_type: str
    size: int
    weights: tuple[float, ...]

    def fits(self, other: Signature) -> bool:
        """Whether both are the same weights, perhaps in another floating-point type."""
        same = (self.model_type, self.size, len(self.weights)) == (other.model_type, other.size, len(other.weights))
        return same and all(
            abs(a - b) <= CLOSE * max(abs(a), abs(b)) + 1e-6 for a, b in zip(self.weights, other.weights, strict=True)
        )


def sign_model(model: Any) -> Signature:
    """The signature of a model of transformers."""
    weights = [weight.detach() for weight in model.parameters() if weight.numel()]
    sampled = [weight for weight in weights if weight.is_floating_point() and not weight.is_meta]
    sampled = sampled[:: max(1, len(sampled) // SAMPLES)][:SAMPLES]
    middles = [weight.flatten()[weight.numel() // 2].float().to(sampled[0].device) for weight in sampled]
    values = torch.stack(middles).tolist() if middles else []  # one copy from an accelerator
    rounded = tuple(float(f"{value:.4g}") for value in values)
    return Signature(model.config.model_type, sum(weight.numel() for weight in weights), rounded)
