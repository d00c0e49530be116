"""`keep` as a list or a range: a budget is drawn for every batch that a gradient is taken of."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from foveate.errors import InputError, KeepError, describe
from foveate.method.budget import check_keep
from foveate.method.checks import is_int
from foveate.pipeline.settings import Keep, PruneSettings

Keeps = Keep | Sequence[int | float]
"""A budget, a list of budgets, or (low, high) for all budgets between the two."""


class Draws:
    """The budgets of one handle.

    Args:
        keep: A list of budgets, or a tuple of a lower and an upper end: two ints, or two shares.
        seed: Of the draws.

    Raises:
        KeepError: One of them is no budget, or the two ends are of different kinds or order.
    """

    def __init__(self, keep: Sequence[int | float], seed: int) -> None:
        if not len(keep):
            raise KeepError("keep is empty: give a list of budgets (keep=[0.05, 0.1]) or two ends (keep=(0.05, 0.2)).")
        for each in keep:
            check_keep(each)
        if isinstance(keep, tuple) and (
            len(keep) != 2 or is_int(keep[0]) != is_int(keep[1]) or float(keep[0]) > float(keep[1])
        ):
            raise KeepError(
                f"keep={describe(keep)} is no range: give two ints or two shares, the smaller one first, or a list."
            )
        if not is_int(seed):
            raise InputError(f"seed={describe(seed)} is no int: give one, such as 0.")
        self.keep, self.random = keep, random.Random(int(seed))
        self.last = keep[0]

    def draw(self) -> int | float:
        """The next budget."""
        if not isinstance(self.keep, tuple):
            self.last = self.random.choice(self.keep)
        elif is_int(self.keep[0]):
            self.last = self.random.randint(int(self.keep[0]), int(self.keep[1]))
        else:
            self.last = self.random.uniform(*self.keep)
        return self.last


def make_draws(keep: Any, seed: int) -> tuple[Any, Draws | None]:
    """One budget and what draws the others; no draws where `keep` is a single budget."""
    if not isinstance(keep, (list, tuple, range)):
        return keep, None
    draws = Draws(keep, seed)
    return keep[0], draws


def draw_settings(model: Any, settings: PruneSettings, draws: Draws | None, *, writes: bool) -> PruneSettings:
    """The settings of one call of a model: a new budget where a gradient is taken, in training.

    Without a gradient the last one stays, so that a reference model reads what was trained on. Outside of training the
    first one of the list holds.

    Raises `InputError` for `generate` in training, where no batch says which budget.
    """
    if draws is None or not model.training:
        return settings
    if writes:
        raise InputError(
            "keep is drawn for every batch that is trained on, and generate needs one budget while the model is in "
            "training mode: attach with a single one (keep=0.1), or call model.eval() first."
        )
    return replace(settings, keep=draws.draw() if torch.is_grad_enabled() else draws.last)
