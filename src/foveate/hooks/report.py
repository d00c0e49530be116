"""What an in-decoder method kept, drop by drop and layer by layer, or step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    visual_tokens: tuple[float, ...] = ()

    @property
    def mean_visual_tokens(self) -> float:
        """Visual tokens per layer, the mean over the layers: the budget to compare with that of an input method."""
        return sum(self.visual_tokens) / len(self.visual_tokens) if self.visual_tokens else 0.0

    @property
    def mean_share(self) -> float:
        """The same as a share of the tokens before pruning."""
        return self.mean_visual_tokens / self.total_count if self.items else 0.0


@dataclass(frozen=True, eq=False)
class Step:
    """One step of decoding, from the anchor layer on.

    Args:
        kept: For each row of the batch the ascending indices (k,) of the visual tokens that the step attended to,
            counted over all images of the row.
        share: How many of all visual tokens of the batch these are.
    """

    kept: tuple[Tensor, ...]
    share: float


@dataclass(frozen=True, eq=False, repr=False)
class StepReport(DecoderReport):
    """What the steps of decoding attended to, of which nothing was dropped: `kept` of every item is all of its tokens.

    `steps` are those since the last prompt, without the one that read it; `anchor` is the layer, counted from 0, from
    which on they attended to a part. `visual_tokens` are the means over the steps. `seconds` is the time to select.
    """

    steps: tuple[Step, ...] = ()
    anchor: int = 0
    step_share: float = 1.0
    """The share of the visual tokens that a step attended to from the anchor on, the mean over the steps."""

    def __str__(self) -> str:
        """What a step attended to, in one line."""
        tokens, steps = f"{self.total_count} visual tokens", f"{len(self.steps)} steps"
        return f"{self.method}: {self.step_share:.1%} of {tokens} a step from layer {self.anchor} on, {steps}"

    def add_step(self, step: Step, seconds: float) -> StepReport:
        """The report with one step more, for which tokens were selected in this time."""
        steps = (*self.steps, step)
        share = step.share if len(steps) == 1 else self.step_share + (step.share - self.step_share) / len(steps)
        depth = len(self.visual_tokens)
        tokens = (*self.visual_tokens[: self.anchor], *[self.total_count * share] * (depth - self.anchor))
        return replace(self, steps=steps, step_share=share, visual_tokens=tokens, seconds=self.seconds + seconds)
