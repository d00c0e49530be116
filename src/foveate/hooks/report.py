"""What an in-decoder method kept, drop by drop and layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from foveate.pipeline.report import Report


@dataclass(frozen=True, eq=False)
class Stage:
    """One drop: how many layers ran before it, and per picture the ascending indices (k,) of the tokens it left."""

    layer: int
    kept: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class DecoderReport(Report):
    """What was kept, as in every report (`kept` is what the last drop left), and what each layer really saw.

    `stages` are the drops; `visual_tokens` the number of visual tokens that each decoder layer ran on, all pictures of
    the call together. With beams, each beam's copy of a picture counts. `seconds` is the time to choose alone.
    """

    stages: tuple[Stage, ...] = ()
    visual_tokens: tuple[int, ...] = ()

    @property
    def mean_visual_tokens(self) -> float:
        """Visual tokens per layer, averaged over the layers: the budget to compare an input method's with."""
        return sum(self.visual_tokens) / len(self.visual_tokens) if self.visual_tokens else 0.0

    @property
    def mean_share(self) -> float:
        """The same as a share of what there was."""
        return self.mean_visual_tokens / self.total_count if self.items else 0.0
