"""What an in-decoder method kept, drop by drop and layer by layer."""

from dataclasses import dataclass

from torch import Tensor

from foveate.pipeline.report import Report


@dataclass(frozen=True, eq=False)
class Stage:
    """One drop: how many layers ran before it, and for each image the ascending indices (k,) of the tokens it left."""

    layer: int
    kept: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False, repr=False)
class DecoderReport(Report):
    """What the last drop left of every image, and how many tokens each layer ran on.

    `stages` are the drops; `visual_tokens` the number of visual tokens that each decoder layer ran on, all images of
    the call together. With beams, each beam's copy of an image counts. `seconds` is the time to select alone.
    """

    stages: tuple[Stage, ...] = ()
    visual_tokens: tuple[int, ...] = ()

    @property
    def mean_visual_tokens(self) -> float:
        """Visual tokens per layer, the mean over the layers: the budget to compare with that of an input method."""
        return sum(self.visual_tokens) / len(self.visual_tokens) if self.visual_tokens else 0.0

    @property
    def mean_share(self) -> float:
        """The same as a share of the tokens before pruning."""
        return self.mean_visual_tokens / self.total_count if self.items else 0.0
