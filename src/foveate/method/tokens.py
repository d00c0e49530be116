"""`VisualTokens`: what a selection method reads of one image."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from foveate.errors import InputError


@dataclass(frozen=True, eq=False)
class VisualTokens:
    """The visual tokens of one image (or video) and the question about it.

    All tensors are on one device and of any float type. `encoder`, `cls_attention` and `keys` are the extras: outputs
    of the vision tower that a method reads if its `needs` name them.

    Args:
        embeds: (n, d) tokens after the projector, n >= 1, in the language model's embedding space.
        question: (m, d) input embeddings of the question tokens, in the same space; m = 0 without a question.
        grid: (t, h, w), the arrangement of the tokens, t * h * w = n; None if they have none.
        encoder: (n, d_v) tokens before the projector.
        cls_attention: (n,) probabilities with which the [CLS] token attends to each token, averaged over the heads of
            the layer whose output the projector reads.
        keys: (n, d_k) attention keys of that layer, all heads concatenated.
        attention: (n,) how much the prompt's last token attends to each token inside the language model, >= 0.

    Raises:
        InputError: The tensors do not fit together, or contain NaN or infinity.

    Example:
        tokens = VisualTokens(torch.randn(576, 4096), torch.randn(12, 4096), grid=(1, 24, 24))
        kept = Foveate().select(tokens, 64)
    """

    embeds: Tensor
    question: Tensor
    grid: tuple[int, int, int] | None = None
    encoder: Tensor | None = None
    cls_attention: Tensor | None = None
    keys: Tensor | None = None
    attention: Tensor | None = None

    def __post_init__(self) -> None:
        _check_rows("embeds", self.embeds)
        _check_rows("question", self.question)
        if self.question.shape[1] != self.embeds.shape[1]:
            raise InputError(
                f"embeds are {self.embeds.shape[1]} wide but question is {self.question.shape[1]} wide: "
                "give both in the language model's embedding space (the tokens after the projector)."
            )
        if self.question.device != self.embeds.device:
            raise InputError(
                f"embeds are on {self.embeds.device}, question is on {self.question.device}: move them to one device."
            )
        self._check_shape()
        for name, rows in (("encoder", self.encoder), ("keys", self.keys)):
            if rows is not None:
                _check_rows(name, rows)
                _check_extra(name, rows, self.embeds)
        for name, weights in (("cls_attention", self.cls_attention), ("attention", self.attention)):
            if weights is None:
                continue
            if weights.ndim != 1:
                raise InputError(f"{name} has shape {tuple(weights.shape)}: give one number a token.")
            _check_rows(name, weights[:, None])
            _check_extra(name, weights, self.embeds)
            if bool((weights < 0).any()):
                raise InputError(f"{name} has negative numbers: give probabilities, after the softmax.")

    def extra(self, name: str) -> Tensor:
        """Return the extra of this name.

        Raises:
            InputError: These tokens have no such extra.
        """
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise InputError(
                f"The tokens came without {name}: give it beside embeds, "
                "or call foveate.prune_inputs, which takes it from the model."
            )
        return value

    def subset(self, indices: Tensor, grid: tuple[int, int, int] | None = None) -> VisualTokens:
        """Return some of these tokens, with the same question.

        The values were checked when these tokens were made and are not read again, so a GPU need not be waited for.

        Args:
            indices: (k,) int64 indices of the tokens, k >= 1, on the tokens' device.
            grid: The arrangement of the subset.

        Raises:
            InputError: `indices` is empty, or `grid` is not for k tokens.
        """
        part = copy.copy(self)  # does not call __post_init__
        rows = {name: getattr(self, name) for name in ("embeds", "encoder", "cls_attention", "keys", "attention")}
        chosen = {name: None if value is None else value.index_select(0, indices) for name, value in rows.items()}
        vars(part).update(chosen, grid=grid)  # the class is frozen
        part._check_shape()
        return part

    def _check_shape(self) -> None:
        n = len(self.embeds)
        if n < 1:
            raise InputError("embeds has no tokens: leave an image without tokens out of the call.")
        if self.grid is not None and (len(self.grid) != 3 or min(self.grid) < 1 or math.prod(self.grid) != n):
            raise InputError(f"grid={self.grid} is not for {n} tokens: give (t, h, w), t * h * w = {n}, or None.")


def _check_rows(name: str, rows: Tensor) -> None:
    if rows.ndim != 2:
        raise InputError(f"{name} has shape {tuple(rows.shape)}: give the tokens of one image, as (tokens, width).")
    if not rows.is_floating_point():
        raise InputError(f"{name} is {rows.dtype}: give embeddings (float16, bfloat16 or float32), not ids.")
    if rows.numel() and not all(bool(end.isfinite()) for end in rows.detach().aminmax()):  # both are NaN if one is
        raise InputError(
            f"{name} contains NaN or infinity: run the vision tower in bfloat16 or float32 (float16 overflows)."
        )


def _check_extra(name: str, rows: Tensor, embeds: Tensor) -> None:
    if len(rows) != len(embeds):
        raise InputError(f"{name} has {len(rows)} tokens but embeds {len(embeds)}: give the same tokens in both.")
    if rows.device != embeds.device:
        raise InputError(f"embeds are on {embeds.device}, {name} is on {rows.device}: move them to one device.")


def unit_rows(rows: Tensor) -> Tensor:
    """Scale the rows of (..., d), of any float type, to length 1, in float32. A row of zeros stays zeros."""
    return torch.nn.functional.normalize(rows.float(), dim=-1)
