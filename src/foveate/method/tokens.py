"""`VisualTokens`: what a selection method reads of one image."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from foveate.errors import InputError, describe
from foveate.method.checks import FLOATS, check_tensor, is_int
from foveate.method.scale import fit_rows, fit_weights

Grid = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class VisualTokens:
    """The visual tokens of one image (or video) and the question about it.

    All tensors are on one device and of any float type. `encoder` and what follows are the extras, which a method
    reads if its `needs` name them: outputs of the vision tower, and attention inside the language model.

    Args:
        embeds: (n, d) tokens after the projector, n >= 1, in the language model's embedding space.
        question: (m, d) input embeddings of the question tokens, in the same space; m = 0 without a question.
        grid: (t, h, w), the arrangement of the tokens, t * h * w = n; None if they have none.
        raster: (t, h, w) of an image of which these tokens are a part: only `subset` and `place` set it.
        cells: (n,) the cells of the raster that these tokens are in.
        encoder: (n, d_v) tokens before the projector.
        cls_attention: (n,) probabilities with which the [CLS] token attends to each token, averaged over the heads of
            the layer whose output the projector reads.
        keys: (n, d_k) attention keys of that layer, all heads concatenated.
        attention: (n,) how much the prompt's last token attends to each token inside the language model, >= 0.
        cross_attention: (n, heads) how much the prompt attends to each token in each head of the language model's first
            cross-attention layer, >= 0, averaged over the words that see the image.

    Raises:
        InputError: The tensors do not fit together, or contain NaN or infinity.

    Example:
        tokens = VisualTokens(torch.randn(576, 4096), torch.randn(12, 4096), grid=(1, 24, 24))
        kept = Foveate().select(tokens, 64)
    """

    embeds: Tensor
    question: Tensor
    grid: Grid | None = None
    encoder: Tensor | None = None
    cls_attention: Tensor | None = None
    keys: Tensor | None = None
    attention: Tensor | None = None
    cross_attention: Tensor | None = None
    raster: Grid | None = field(default=None, init=False)
    cells: Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        check_matrix("embeds", self.embeds)
        check_matrix("question", self.question)
        if self.question.shape[1] != self.embeds.shape[1]:
            raise InputError(
                f"embeds are {self.embeds.shape[1]} wide but question is {self.question.shape[1]} wide: "
                "give both in the language model's embedding space (the tokens after the projector)."
            )
        _check_device("question", self.question, self.embeds)
        self._check_shape()
        for name, (check, _) in EXTRAS.items():
            if getattr(self, name) is not None:
                check(name, getattr(self, name))
                _check_extra(name, getattr(self, name), self.embeds)
        self._fit()

    def extra(self, name: str) -> Tensor:
        """Return the extra of this name.

        Raises:
            InputError: These tokens have no such extra.
        """
        if not isinstance(name, str) or name not in EXTRAS:
            raise InputError(f"{describe(name)} is no extra: use one of {', '.join(EXTRAS)}.")
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise InputError(
                f"The tokens came without {name}: give it beside embeds, "
                "or call foveate.prune_inputs, which takes it from the model."
            )
        return value

    def subset(self, indices: Tensor, grid: Grid | None = None, *, of_raster: bool = False) -> VisualTokens:
        """Return some of these tokens, with the same question.

        The values were checked when these tokens were made and are not read again, so a GPU need not be waited for.

        Args:
            indices: (k,) int64 indices of the tokens, k >= 1, on the tokens' device.
            grid: The arrangement of the subset.
            of_raster: Whether the subset has these tokens' grid, or their raster, as its raster.

        Raises:
            InputError: `indices` are none of these tokens or empty, or `grid` is not for k tokens.
        """
        check_tensor("indices", indices)
        part = copy.copy(self)  # does not call __post_init__
        rows = {name: getattr(self, name) for name in ("embeds", *EXTRAS)}
        try:
            chosen = {name: None if value is None else value.index_select(0, indices) for name, value in rows.items()}
        except (IndexError, RuntimeError) as error:
            raise InputError(f"indices do not fit the {len(self.embeds)} tokens: {error}") from error
        raster = self.grid or self.raster if of_raster else None
        cells = None if raster is None else indices if self.cells is None else self.cells[indices]
        vars(part).update(chosen, grid=grid, raster=raster, cells=cells)  # the class is frozen
        part._check_shape()
        return part

    def place(self, raster: Grid, cells: Tensor) -> VisualTokens:
        """Return the same tokens as a part of an image: those in these `cells` (n,) of its `raster` (t, h, w)."""
        part = copy.copy(self)
        vars(part).update(grid=None, raster=raster, cells=cells)  # the class is frozen
        return part

    def _check_shape(self) -> None:
        n = len(self.embeds)
        if n < 1:
            raise InputError("embeds has no tokens: leave an image without tokens out of the call.")
        if self.grid is None:
            return
        sizes = self.grid if isinstance(self.grid, (tuple, list)) else ()
        fits = len(sizes) == 3 and all(is_int(size) and size >= 1 for size in sizes) and math.prod(sizes) == n
        if not fits:
            raise InputError(
                f"grid={describe(self.grid)} is not for {n} tokens: give (t, h, w), t * h * w = {n}, or None."
            )

    def _fit(self) -> None:
        """Check the values, and bring those of an extreme scale to another one."""
        for name, fit in FITS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, fit(name, value))  # the class is frozen


def check_matrix(name: str, rows: Tensor) -> None:
    """Raise `InputError` unless these are the rows (n, d) of embeddings; their values are not read."""
    check_tensor(name, rows)
    if rows.ndim != 2 or not rows.shape[1]:
        raise InputError(f"{name} has shape {tuple(rows.shape)}: give the tokens of one image, as (tokens, width).")
    _check_float(name, rows)


def _check_weights(name: str, weights: Tensor) -> None:
    check_tensor(name, weights)
    if weights.ndim != 1:
        raise InputError(f"{name} has shape {tuple(weights.shape)}: give one number a token.")
    _check_probabilities(name, weights)


def _check_head_weights(name: str, weights: Tensor) -> None:
    check_tensor(name, weights)
    if weights.ndim != 2 or not weights.shape[1]:
        raise InputError(f"{name} has shape {tuple(weights.shape)}: give the weights of one image, as (tokens, heads).")
    _check_probabilities(name, weights)


def _check_probabilities(name: str, weights: Tensor) -> None:
    _check_float(name, weights)
    if bool((weights < 0).any()):
        raise InputError(f"{name} has negative numbers: give probabilities, after the softmax.")


EXTRAS = {  # how each is checked and scaled
    "encoder": (check_matrix, fit_rows),
    "keys": (check_matrix, fit_rows),
    "cls_attention": (_check_weights, fit_weights),
    "attention": (_check_weights, fit_weights),
    "cross_attention": (_check_head_weights, fit_weights),
}
FITS = {"embeds": fit_rows, "question": fit_rows, **{name: fit for name, (_, fit) in EXTRAS.items()}}


def _check_float(name: str, values: Tensor) -> None:
    if values.dtype not in FLOATS:
        raise InputError(f"{name} is {values.dtype}: give embeddings (float16, bfloat16 or float32), not ids.")


def _check_extra(name: str, rows: Tensor, embeds: Tensor) -> None:
    if len(rows) != len(embeds):
        raise InputError(f"{name} has {len(rows)} tokens but embeds {len(embeds)}: give the same tokens in both.")
    _check_device(name, rows, embeds)


def _check_device(name: str, rows: Tensor, embeds: Tensor) -> None:
    if rows.device != embeds.device:
        raise InputError(f"embeds are on {embeds.device}, {name} is on {rows.device}: move them to one device.")


def unit_rows(rows: Tensor) -> Tensor:
    """Scale the rows of (..., d), of any float type, to length 1, in float32. A row of zeros stays zeros."""
    return torch.nn.functional.normalize(rows.float(), dim=-1)
