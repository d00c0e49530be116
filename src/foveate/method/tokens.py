"""What a method may see of one image (`VisualTokens`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from foveate.errors import InputError


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
