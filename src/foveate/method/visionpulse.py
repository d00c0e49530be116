"""VisionPulse: every step of decoding attends to as much of the image as it needs."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from foveate.method.budget import to_fraction
from foveate.method.checks import check_between, check_positive, check_share
from foveate.method.in_decoder import select_highest, to_layers
from foveate.method.in_steps import StepMethod


@dataclass(frozen=True)
class VisionPulse(StepMethod):
    """At every step an anchor layer selects the visual tokens that it and all later layers attend to in this step.

    How many: the share of the step's attention that falls on visual tokens, with the logits z divided by a temperature
    t, in the head where it is largest, taken as a share of the n visual tokens:

        mass = max_h exp(logsumexp_visual(z_h / t) - logsumexp_all(z_h / t));   count = mass n, from least k to k

    Which ones: those with the highest logits, averaged over the heads. `keep` is the most that a step attends to (k), a
    share of the visual tokens of all images of a prompt together, or their number; counts are rounded down, to one at
    least. The defaults with keep=0.05 are the authors' first setting, 1 to 5 %; their second one, 5 to 10 %, is
    `VisionPulse(least=0.5, temperature=0.4)` with keep=0.1. With keep=1.0 nothing is hidden.

    The prompt is read as without the method, and so are several tokens at once (a further turn, guesses of assisted
    decoding). The first token of an answer comes from the prompt, so answers of one word do not change. Memory stays
    the same, and time nearly so, since hidden tokens are masked in the KV cache.

    The formulas are those of the authors' published code in PyTorch, since the paper's own text of them could not be
    read: layers count from 0, the anchor layer itself is masked, all images of a prompt share one budget. In their code
    for Triton the anchor layer attends to everything, and later layers to whole blocks of tokens, whose number is
    rounded up. Two things differ here: `keep` is rounded to the nearest number, as for every method, where the authors
    round down; and the anchor is a share of the depth, so that models of other depths have one.

    Args:
        least: The fewest that a step attends to, as a share of the most.
        temperature: Divides the logits that the mass is computed of; below 1 it counts what stands out.
        anchor_at: The anchor layer as a share of the depth. The authors' is 17, counted from 0, of 36.

    Source:
        arXiv 2605.31457.
    """

    least: float = 0.2
    temperature: float = 0.1
    anchor_at: float = 17 / 36

    name: ClassVar[str] = "visionpulse"
    paper: ClassVar[str] = "arXiv 2605.31457"
    summary: ClassVar[str] = "at each step of decoding, the tokens that a layer in the middle rates highest"

    def __post_init__(self) -> None:
        check_share("least", self.least)
        check_positive("temperature", self.temperature)
        check_between("anchor_at", self.anchor_at, 0, 1)

    def find_anchor(self, depth: int) -> int:
        """Return the layer at `anchor_at`, rounded to a whole layer."""
        return to_layers((self.anchor_at,), depth)[0]

    def count(self, logits: Tensor, visual: Tensor, k: int) -> int:
        """Count how many tokens a step attends to, by the mass of its attention on visual tokens.

        Args:
            logits: (heads, s) attention logits of the newest token, before softmax.
            visual: (s,) bool, which of the s tokens are visual.
            k: The most.

        Returns:
            A number from 1 to `k`.
        """
        sharp = logits / self.temperature
        mass = (sharp[:, visual].logsumexp(-1) - sharp.logsumexp(-1)).exp().amax()
        low = max(1, math.floor(to_fraction(self.least) * k))
        return min(k, max(low, math.floor(float(mass) * int(visual.sum()))))

    def _select(self, logits: Tensor, visual: Tensor, k: int) -> Tensor:
        return select_highest(logits[:, visual].mean(0), self.count(logits, visual, k))
