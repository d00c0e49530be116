"""What an in-decoder method is: at which layers it drops, by whose attention, and which tokens stay."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.checks import is_int, is_number


@dataclass(frozen=True)
class DecoderMethod(ABC):
    """A published way to drop visual tokens inside the decoder; its fields are its hyper-parameters, with defaults.

    A subclass is a frozen dataclass that fills in the class variables, checks its fields in `__post_init__` (raising
    `InputError`) and writes `layers` and `_select`. It sees tensors only and knows no model.
    """

    name: ClassVar[str]  # as registered
    paper: ClassVar[str]  # "arXiv 2403.06764"
    summary: ClassVar[str]  # one line
    reads: ClassVar[Literal["last", "question"]] = "last"  # whose attention it looks at
    prompt_aware: ClassVar[bool] = True  # what is read is text behind the picture, so the prompt decides

    @abstractmethod
    def layers(self, depth: int) -> tuple[int, ...]:
        """How many of the decoder's `depth` layers run before each drop: ascending, each from 1 to depth - 1.

        A drop looks at the attention of the last layer that ran before it.
        """

    def counts(self, n: int, k: int, drops: int) -> tuple[int, ...]:
        """How many of a picture's `n` tokens each of the drops leaves, never rising; the last leaves `k`.

        Geometric: drop s of S leaves n (k / n)^(s / S), so that every drop takes the same share of what there is.
        """
        shares = ((k / n) ** (drop / drops) for drop in range(1, drops))
        return (*(min(n, max(k, math.floor(n * share + 0.5))) for share in shares), k)

    def raters(self, visual: Tensor, question: Tensor) -> Tensor:
        """Which of the question's tokens are asked, (r,) indices, where the method reads the question: all.

        `visual` (n, d) and `question` (m, d), m >= 1, are embeddings in the language model's space.
        """
        del visual
        return torch.arange(question.shape[0], device=question.device)

    def select(self, attention: Tensor, k: int) -> Tensor:
        """The indices of the `k` tokens that stay, (k,) int64, ascending, on the device of `attention`.

        `attention` (heads, r, n) is what r text tokens pay to the n tokens of one picture that are still there; each
        row and head is a part of a softmax over the whole sequence. No gradient is recorded.

        Raises `InputError` unless 1 <= k <= n and `attention` is as described.
        """
        if attention.ndim != 3 or 0 in attention.shape or not attention.is_floating_point():
            raise InputError(f"attention has shape {tuple(attention.shape)}: give weights as (heads, rows, tokens).")
        if not is_int(k) or not 1 <= k <= attention.shape[-1]:
            raise InputError(f"k={k!r} of {attention.shape[-1]} tokens cannot stay: use an int in that range.")
        with torch.no_grad(), torch.autocast(attention.device.type, enabled=False):
            return self._select(attention.float(), int(k))

    @abstractmethod
    def _select(self, attention: Tensor, k: int) -> Tensor:
        """`select` after its checks, in float32."""


def select_highest(scores: Tensor, k: int) -> Tensor:
    """The k highest `scores` (n,), ascending indices (k,); equal ones go to the lowest index.

    Weights of attention fall by orders of magnitude, so unlike with cosines only equal ones are a tie.
    """
    return scores.argsort(descending=True, stable=True)[:k].sort().values


def check_layer_shares(layers: Sequence[float]) -> None:
    """Raise `InputError` unless `layers` are ascending shares of the decoder's depth, between 0 and 1."""
    fine = isinstance(layers, tuple) and all(is_number(f) and 0 < f < 1 for f in layers)
    if not fine or not layers or list(layers) != sorted(set(layers)):
        raise InputError(f"layers_at={layers!r} must be a tuple of ascending shares of the depth, such as (0.25, 0.5).")


def to_layers(layers: Sequence[float], depth: int) -> tuple[int, ...]:
    """Shares of the depth as layers; in a shallow model neighbours may fall together and are one drop then."""
    places = {min(max(math.floor(share * depth + 0.5), 1), depth - 1) for share in layers}
    return tuple(sorted(places))
