"""`DecoderMethod`: the base class of methods that drop visual tokens between the layers of the decoder."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from foveate.errors import InputError, describe
from foveate.method.checks import FLOATS, check_int, check_tensor, is_int, is_number
from foveate.method.inner import InnerMethod
from foveate.method.tokens import check_matrix


@dataclass(frozen=True)
class DecoderMethod(InnerMethod):
    """A method that drops visual tokens inside the decoder.

    A subclass is a frozen dataclass. Its fields are the hyper-parameters, each with a default, and `__post_init__`
    checks them. It sets the class variables and implements `layers` and `_select`.

    Example:
        @dataclass(frozen=True)
        class Loudest(DecoderMethod):
            name = "loudest"
            paper = "baseline"
            summary = "after layer 2, the tokens to which any head attends most"

            def layers(self, depth):
                return (2,)

            def _select(self, attention, k):
                return select_highest(attention.amax((0, 1)), k)
    """

    prunes: ClassVar[str] = "decoder"
    reads: ClassVar[Literal["last", "question"]] = "last"  # attention of the prompt's last token or of the question's

    @abstractmethod
    def layers(self, depth: int) -> tuple[int, ...]:
        """Return the places of the drops.

        Args:
            depth: How many layers the decoder has.

        Returns:
            How many layers run before each drop, ascending, each from 1 to depth - 1. A drop reads the attention of
            the last layer before it.
        """

    def counts(self, n: int, k: int, drops: int) -> tuple[int, ...]:
        """Return how many of an image's tokens are left after each drop.

        The default is geometric: n (k / n)^(s / drops) after drop s, so that every drop removes the same share.

        Args:
            n: How many tokens the image has.
            k: How many are left after the last drop.
            drops: How many drops there are.

        Returns:
            One count a drop, never rising; the last is `k`.
        """
        check_int("drops", drops, 1)
        check_count(n, k)
        shares = ((k / n) ** (drop / drops) for drop in range(1, drops))
        return (*(min(n, max(k, math.floor(n * share + 0.5))) for share in shares), k)

    def raters(self, visual: Tensor, question: Tensor) -> Tensor:
        """Select the question tokens whose attention is read, if `reads` is "question"; by default all.

        Args:
            visual: (n, d) visual tokens, in the language model's embedding space.
            question: (m, d) question tokens in the same space, m >= 1.

        Returns:
            (r,) indices of question tokens, r >= 1.
        """
        del visual
        check_matrix("question", question)
        return torch.arange(question.shape[0], device=question.device)

    def select(self, attention: Tensor, k: int) -> Tensor:
        """Select the `k` tokens that stay after a drop.

        Args:
            attention: (heads, r, n) attention weights of r text tokens on the n tokens of one image that are left.
                Each row is a part of a softmax over the whole sequence.
            k: How many stay, from 1 to n.

        Returns:
            (k,) int64 indices, ascending, on the device of `attention`.

        Raises:
            InputError: `attention` has another shape, or `k` is out of range.
        """
        check_tensor("attention", attention)
        if attention.ndim != 3 or 0 in attention.shape or attention.dtype not in FLOATS:
            raise InputError(f"attention has shape {tuple(attention.shape)}: give weights as (heads, rows, tokens).")
        check_count(attention.shape[-1], k)
        with torch.no_grad(), torch.autocast(attention.device.type, enabled=False):
            return self._select(attention.float(), int(k))

    @abstractmethod
    def _select(self, attention: Tensor, k: int) -> Tensor:
        """`select` after its checks, in float32."""


def check_count(n: int, k: int) -> None:
    """Raise `InputError` unless k of n tokens can stay."""
    if not is_int(n) or not is_int(k) or not 1 <= k <= n:
        raise InputError(f"k={describe(k)} of {describe(n)} tokens cannot stay: use an int in that range.")


def select_highest(scores: Tensor, k: int) -> Tensor:
    """Select the k highest of `scores` (n,), as ascending indices (k,); equal ones go to the lowest index.

    Only equal weights are a tie, unlike with cosines: attention weights differ by orders of magnitude.
    """
    return scores.argsort(descending=True, stable=True)[:k].sort().values


def check_layer_shares(shares: Sequence[float]) -> None:
    """Raise `InputError` unless `shares` is a tuple of ascending shares of the decoder's depth, between 0 and 1."""
    fine = isinstance(shares, tuple) and all(is_number(share) and 0 < share < 1 for share in shares)
    if not fine or not shares or list(shares) != sorted(set(shares)):
        raise InputError(
            f"layers_at={describe(shares)} must be a tuple of ascending shares of the depth, such as (0.25, 0.5)."
        )


def to_layers(shares: Sequence[float], depth: int) -> tuple[int, ...]:
    """Convert shares of the depth to layers; in a shallow model two shares may become one layer."""
    check_int("depth", depth, 1)
    places = {min(max(math.floor(share * depth + 0.5), 1), depth - 1) for share in shares}
    return tuple(sorted(places))
