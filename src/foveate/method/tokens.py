"""What a method may see of one image (`VisualTokens`), and how many tokens it may keep (`budget`)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Real
from typing import TypeGuard

import torch
from torch import Tensor

from foveate.errors import FoveateWarning, InputError, KeepError


@dataclass(frozen=True, eq=False)
class VisualTokens:
    """The visual tokens of one image (or video) and the question that is asked of it.

    `embeds` (n, d) are the tokens after the projector, n >= 1; `question` (m, d) the input embeddings of the question's
    text tokens, m = 0 where there is no question; both in the language model's space, on one device, of any float type.
    `grid` (t, h, w) is the tokens' arrangement, t * h * w = n, where there is one.

    The extras come from the vision tower, for the methods whose `needs` name them: `encoder` (n, d_v), the tokens
    before the projector; `cls_attention` (n,), how much the [CLS] token attends to each, as probabilities, the mean
    over the heads of the layer that makes the features; `keys` (n, d_k), that layer's attention keys, all heads side
    by side.

    Raises `InputError` if these do not fit together or hold NaN or infinity.
    """

    embeds: Tensor
    question: Tensor
    grid: tuple[int, int, int] | None = None
    encoder: Tensor | None = None
    cls_attention: Tensor | None = None
    keys: Tensor | None = None

    def __post_init__(self) -> None:
        _check_rows("embeds", self.embeds)
        _check_rows("question", self.question)
        n, d = self.embeds.shape
        if n < 1:
            raise InputError("embeds holds no token: leave an image without tokens out of the call.")
        if self.question.shape[1] != d:
            raise InputError(
                f"embeds are {d} wide but question is {self.question.shape[1]} wide: "
                "give both in the language model's embedding space (the tokens after the projector)."
            )
        if self.question.device != self.embeds.device:
            raise InputError(
                f"embeds are on {self.embeds.device}, question is on {self.question.device}: move them to one device."
            )
        if self.grid is not None and (len(self.grid) != 3 or min(self.grid) < 1 or math.prod(self.grid) != n):
            raise InputError(f"grid={self.grid} does not hold {n} tokens: give (t, h, w), t * h * w = {n}, or None.")
        for name, rows in (("encoder", self.encoder), ("keys", self.keys)):
            if rows is not None:
                _check_rows(name, rows)
                _check_extra(name, rows, self.embeds)
        if self.cls_attention is not None:
            if self.cls_attention.ndim != 1:
                raise InputError(f"cls_attention has shape {tuple(self.cls_attention.shape)}: give one number a token.")
            _check_rows("cls_attention", self.cls_attention[:, None])
            _check_extra("cls_attention", self.cls_attention, self.embeds)
            if bool((self.cls_attention < 0).any()):
                raise InputError("cls_attention holds negative numbers: give probabilities, after the softmax.")

    def extra(self, name: str) -> Tensor:
        """One of the extras. Raises `InputError` if these tokens came without it."""
        found: Tensor | None = getattr(self, name)
        if found is None:
            raise InputError(
                f"The tokens came without {name}: give it beside embeds, "
                "or call foveate.prune_inputs, which takes it from the model."
            )
        return found


def _check_rows(name: str, rows: Tensor) -> None:
    if rows.ndim != 2:
        raise InputError(f"{name} has shape {tuple(rows.shape)}: give the tokens of one image, as (tokens, width).")
    if not rows.is_floating_point():
        raise InputError(f"{name} is {rows.dtype}: give embeddings (float16, bfloat16 or float32), not ids.")
    if rows.numel() and not all(bool(end.isfinite()) for end in rows.detach().aminmax()):  # NaN is both ends
        raise InputError(
            f"{name} holds NaN or infinity: run the vision tower in bfloat16 or float32 (float16 overflows)."
        )


def _check_extra(name: str, rows: Tensor, embeds: Tensor) -> None:
    if len(rows) != len(embeds):
        raise InputError(f"{name} holds {len(rows)} tokens but embeds {len(embeds)}: give the same tokens in both.")
    if rows.device != embeds.device:
        raise InputError(f"embeds are on {embeds.device}, {name} is on {rows.device}: move them to one device.")


def unit_rows(rows: Tensor) -> Tensor:
    """`rows` (..., d) of any float type as float32 of length 1; a row of zeros stays zero: its cosines are 0."""
    return torch.nn.functional.normalize(rows.float(), dim=-1)


def is_int(value: object) -> TypeGuard[int]:
    """An integer, NumPy's too, but no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """An integer or a float, NumPy's too, but no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_keep(keep: int | float) -> None:
    """Raise `KeepError` unless `keep` is an int >= 1 (tokens per image) or a float in (0, 1] (a share of them)."""
    rule = "use an int for tokens per image (keep=64), a float in (0, 1] for a share (keep=0.1)"
    if not is_number(keep):
        raise KeepError(f"keep={keep!r} is a {type(keep).__name__}: {rule}.")
    if is_int(keep):
        if keep < 1:
            raise KeepError(f"keep={keep} keeps no token: {rule}.")
    elif not 0 < keep <= 1:  # catches NaN and infinity as well
        raise KeepError(f"keep={keep} is not a share: {rule}.")


def budget(keep: int | float, n: int) -> int:
    """How many of an image's `n` tokens to keep.

    An int counts tokens per image; more than `n` keeps all `n` and warns. A float is a share: `keep * n` rounded to the
    nearest token, halves up, and never below 1; 0.1 of 576 is 58. The share is read as the decimal that was typed, so
    that 0.145 of 100 is 15 although the nearest float lies below 0.145.

    Raises `KeepError` if `keep` is neither.
    """
    check_keep(keep)
    if not is_int(keep):
        return max(1, math.floor(share_of(keep, n) + Fraction(1, 2)))
    if keep > n:
        warnings.warn(f"keep={keep} keeps all: the image has only {n} visual tokens.", FoveateWarning, stacklevel=2)
    return min(int(keep), n)


def share_of(share: float, n: int) -> Fraction:
    """`share * n` without binary rounding: 0.6 * 5 is 3 and 0.29 * 100 is 29, not a hair beside."""
    return Fraction(repr(float(share))) * n
