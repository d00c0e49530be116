"""Arms for histories of screenshots: shares by recency, and a marker where tokens were dropped.

On old screenshots random tokens were found better than designed choices, and more of the recent ones worth most (arXiv
2603.26041). FocusUI (arXiv 2601.03928) leaves one marker at the last place of every run of dropped tokens.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from foveate.apps.evaluate.arms import EvalArm, PrunedEvalArm
from foveate.apps.evaluate.settings import RANDOM_SEEDS
from foveate.method import Method, resolve
from foveate.method.foveate import Foveate
from foveate.method.random import Random
from foveate.method.recency import Recency
from foveate.method.tokens import VisualTokens
from foveate.pipeline.settings import Keep

# By the share of all screenshots: as many tokens, about, for four or five of them.
ALIKE = {0.333: Recency(1.0, 0.133), 0.167: Recency(0.5, 0.067), 0.083: Recency(0.25, 0.033)}
# By the share of the older screenshots: as many tokens of them, about, the most of the most recent.
FADING = {0.333: Recency(1.0, 0.028, 0.58), 0.167: Recency(1.0, 0.028, 0.37), 0.083: Recency(1.0, 0.028, 0.2)}


@dataclass(frozen=True)
class RecencyEvalArm(PrunedEvalArm):
    """What a method keeps with shares by recency; `keep` is the column of the table."""

    recency: Recency = field(kw_only=True)

    @property
    def rule(self) -> Keep:
        """The shares."""
        return self.recency


@dataclass(frozen=True)
class Marked(Method):
    """Another method's choice with a marker for every run of dropped tokens, k together.

    FocusUI learns one embedding for all markers, at the place of the last token of the run. Models that were not
    trained with it have none: the marker is that token itself, or the mean of the run. Below three tokens there may be
    no room for markers: then it is the other method's choice.

    Args:
        method: The other method.
        mean: Whether markers are means.
        on_top: Whether k counts the choice alone, and markers come beside it.
    """

    method: Method = field(default_factory=Foveate)
    mean: bool = False
    on_top: bool = False

    name: ClassVar[str] = "marked"
    paper: ClassVar[str] = "arXiv 2601.03928"
    summary: ClassVar[str] = "another method, with a marker for every run of dropped tokens"
    prompt_aware: ClassVar[bool] = True
    spatial: ClassVar[bool] = True

    @property
    def merges(self) -> bool:
        """Whether markers are means of their runs."""
        return self.mean

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        if self.on_top:
            return add_markers(self.method._select(tokens, k, selected), len(tokens.embeds))
        for count in range(k, 0, -1):
            chosen = self.method._select(tokens, count, selected)
            marked = add_markers(chosen, len(tokens.embeds))
            if len(marked) <= k:
                return self._fill(tokens, k, marked)
        return self.method._select(tokens, k, selected)

    def _fill(self, tokens: VisualTokens, k: int, marked: Tensor) -> Tensor:
        """k tokens: more of those that begin a run, so that no run is new."""
        while len(marked) < k:
            kept = torch.ones(len(tokens.embeds) + 1, dtype=torch.bool, device=marked.device)
            kept[1:] = False
            kept[marked + 1] = True
            begins = (kept[:-1] & ~kept[1:]).nonzero().squeeze(1)
            count = min(k - len(marked), len(begins))
            best = self.method._select(tokens.subset(begins, None), count, marked[:0])
            marked = torch.cat([marked, begins[best]]).sort().values
        return marked

    def _merge_weights(self, tokens: VisualTokens, kept: Tensor) -> Tensor | None:
        if not self.mean:
            return None
        weights = torch.zeros(len(kept), len(tokens.embeds), device=kept.device)
        start = 0
        for row, end in enumerate(kept.tolist()):  # a token behind a dropped one ends a run
            weights[row, start : end + 1] = 1 / (end + 1 - start)
            start = end + 1
        return weights


def add_markers(chosen: Tensor, n: int) -> Tensor:
    """Ascending indices (k,) of the chosen ones of n tokens, and of the last token of each run between them."""
    dropped = torch.ones(n + 1, dtype=torch.bool, device=chosen.device)
    dropped[chosen] = dropped[n] = False
    return (~dropped[:n] | ~dropped[1:]).nonzero().squeeze(1)


def make_screen_arms(keeps: tuple[float, ...]) -> list[EvalArm]:
    """The arms beside those that clips have too."""
    own = Foveate()
    older: list[tuple[str, Method, int | None]] = [("foveate", own, None), ("foveate, blind", own.blind, None)]
    older += [(name, resolve(name), None) for name in ("divprune", "grid")]
    older += [("random", Random(seed=seed), seed) for seed in RANDOM_SEEDS]
    arms: list[EvalArm] = []
    for keep in keeps:
        arms += [
            PrunedEvalArm("foveate, markers", keep, method=Marked()),
            PrunedEvalArm("foveate, means as markers", keep, method=Marked(mean=True)),
            PrunedEvalArm("foveate, markers on top", keep, method=Marked(on_top=True)),
            PrunedEvalArm("foveate, means on top", keep, method=Marked(mean=True, on_top=True)),
            RecencyEvalArm("foveate, most for the newest", keep, method=own, recency=ALIKE[keep]),
            RecencyEvalArm("newest whole, older fading", keep, method=own, recency=FADING[keep]),
        ]
        for name, method, seed in older:
            recency = Recency(newest=1.0, older=keep)
            arms.append(RecencyEvalArm(f"newest whole, older {name}", keep, method=method, recency=recency, seed=seed))
    return arms
