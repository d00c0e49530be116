"""Fit a policy to the answers of a calibration, and find the lowest price that keeps its promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.policy.policy import Policy, Promise, ScoreTerm
from foveate.policy.risk import choose_cheapest, count_needed
from foveate.policy.signature import Signature

PRICES = tuple(10 ** (4 - step / 10) for step in range(61))  # from the safest to the cheapest
RIDGE = 10.0
SAFEST = 1e12  # a price at which nothing is dropped
SEED = 0


@dataclass(frozen=True)
class CalibrationCase:
    """A question and an image: scores, the direction of the question, and whether each budget changed the answer."""

    scores: dict[str, float]
    topic: tuple[float, ...]
    changed: tuple[bool, ...]


@dataclass(frozen=True)
class CalibrationSettings:
    """What is calibrated, and the promise: at most `loss` of the answers change, with this confidence."""

    model: Signature
    method: str
    positions: Literal["original", "compact"]
    budgets: tuple[float, ...]
    loss: float
    confidence: float = 0.95


def fit_policy(cases: Sequence[CalibrationCase], settings: CalibrationSettings, seed: int = SEED) -> Policy:
    """Fit the decision on a random half of the cases; choose its price on the other half.

    Args:
        cases: Questions that were answered unpruned and at every budget.
        settings: What is calibrated, and the promise.
        seed: Draws the halves.

    Returns:
        A policy that keeps the promise with the confidence, for questions drawn as these.

    Raises:
        InputError: There are too few cases for the promise.
    """
    needed = 2 * count_needed(settings.loss, settings.confidence)
    if len(cases) < needed:
        raise InputError(
            f"{len(cases)} questions are too few to promise a loss of {settings.loss:.3g} with a confidence of "
            f"{settings.confidence:.3g}: give {needed} at least, or promise less."
        )
    order = torch.randperm(len(cases), generator=torch.Generator().manual_seed(seed)).tolist()
    half = len(cases) // 2
    fitted, tested = ([cases[n] for n in part] for part in (order[:half], order[half:]))
    policy = _fit_decision(fitted, settings)
    outcomes = [count_outcome(replace(policy, price=price), tested) for price in PRICES]
    best = choose_cheapest([losses for losses, _ in outcomes], len(tested), settings.loss, settings.confidence)
    price = SAFEST if best is None else PRICES[best]
    losses, keep = count_outcome(replace(policy, price=price), tested) if best is None else outcomes[best]
    promise = Promise(settings.loss, settings.confidence, len(cases), losses / len(tested), keep)
    return replace(policy, price=price, promise=promise)


def count_outcome(policy: Policy, cases: Sequence[CalibrationCase]) -> tuple[int, float]:
    """How many of the answers change under the policy, and the mean share of the tokens that it keeps."""
    kept = [policy.decide(case.scores, case.topic).keep for case in cases]
    changed = [keep < 1 and case.changed[policy.budgets.index(keep)] for keep, case in zip(kept, cases, strict=True)]
    return sum(changed), sum(kept) / len(kept)


def _fit_decision(cases: Sequence[CalibrationCase], settings: CalibrationSettings) -> Policy:
    """The logistic model of whether an answer changes, by ridge regression: one slope, an offset for each budget."""
    names = list(cases[0].scores)
    scores = torch.tensor([[case.scores[name] for name in names] for case in cases], dtype=torch.float64)
    topics = torch.tensor([case.topic for case in cases], dtype=torch.float64)
    changed = torch.tensor([case.changed for case in cases], dtype=torch.float64)
    means, deviations = scores.mean(0), scores.std(0).clamp(min=1e-9)
    spread = topics.std(0).square().mean().sqrt().clamp(min=1e-9)  # one scale: a rare coordinate must not count more
    center = topics.mean(0)
    columns = torch.cat([(scores - means) / deviations, (topics - center) / spread], 1)
    slopes, offsets = _regress(columns, changed)
    weights, topic = slopes[: len(names)], slopes[len(names) :] / spread
    direction = torch.nn.functional.normalize(center, dim=0)
    terms = [
        ScoreTerm(name, *numbers)
        for name, *numbers in zip(
            names, means.tolist(), deviations.tolist(), scores.amin(0).tolist(), scores.amax(0).tolist(),
            weights.tolist(), strict=True,
        )
    ]  # fmt: skip
    offsets = torch.cummin(offsets - topic @ center, 0).values  # more tokens are never a higher risk
    return Policy(
        settings.model, settings.method, settings.positions, settings.budgets, tuple(offsets.tolist()), tuple(terms),
        tuple(topic.tolist()), tuple(direction.tolist()), float((topics @ direction).amin()), SAFEST,
        Promise(settings.loss, settings.confidence, 0, 0.0, 1.0),
    )  # fmt: skip


def _regress(columns: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
    """The slopes (f,) and offsets (R,) with the lowest cross-entropy of `changed` (n, R) plus a ridge on the slopes."""
    slopes = torch.zeros(columns.shape[1], dtype=torch.float64, requires_grad=True)
    offsets = torch.logit(changed.mean(0).clamp(0.002, 0.998)).requires_grad_()
    optimizer = torch.optim.LBFGS([slopes, offsets], max_iter=200, line_search_fn="strong_wolfe")

    def compute_loss() -> Tensor:
        optimizer.zero_grad()
        logits = (columns @ slopes)[:, None] + offsets
        fit = torch.nn.functional.binary_cross_entropy_with_logits(logits, changed, reduction="sum")
        loss = fit + RIDGE * slopes.square().sum()
        loss.backward()
        return loss

    optimizer.step(compute_loss)
    return slopes.detach(), offsets.detach()
