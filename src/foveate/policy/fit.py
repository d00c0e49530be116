"""Fit a policy to the answers of a calibration, and find the lowest price that keeps its promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.policy.policy import KNEE, LEAST, Metric, Policy, Promise, Retry, ScoreTerm
from foveate.policy.risk import choose_cheapest, count_needed
from foveate.policy.signature import Signature

PRICES = tuple(10 ** (4 - step / 10) for step in range(61))  # from the safest to the cheapest
RIDGE = 10.0
SAFEST = 1e12  # a price at which nothing is dropped
SEED = 0


@dataclass(frozen=True)
class CalibrationCase:
    """A question and an image: scores, the direction of the question, and whether each budget changed the answer.

    `odds` are the log-odds of the first token of the answer at each budget; empty where they were not measured.
    """

    scores: dict[str, float]
    topic: tuple[float, ...]
    changed: tuple[bool, ...]
    odds: tuple[float, ...] = ()


@dataclass(frozen=True)
class CalibrationSettings:
    """What is calibrated, and the promise: at most `loss` of the answers change, with this confidence."""

    model: Signature
    method: str
    positions: Literal["original", "compact"]
    budgets: tuple[float, ...]
    loss: float
    confidence: float = 0.95
    metric: Metric = "answer"


def fit_policy(cases: Sequence[CalibrationCase], settings: CalibrationSettings, seed: int = SEED) -> Policy:
    """Fit the decision on a random half of the cases; choose its price on the other half.

    Args:
        cases: Questions that were answered unpruned and at every budget.
        settings: What is calibrated, and the promise.
        seed: Draws the halves.

    Returns:
        A policy that keeps the promise with the confidence, for questions drawn as these. Where the odds of the first
        tokens were measured, it has a retry, with which it keeps the promise too.

    Raises:
        InputError: There are too few cases for the promise.
    """
    needed = 2 * count_needed(settings.loss, settings.confidence)
    if len(cases) < needed:
        raise InputError(
            f"{len(cases)} questions are too few to promise a loss of {settings.loss:.3g} with a confidence of "
            f"{settings.confidence:.3g}: give {needed} at least, or promise less."
        )
    policy, tested = fit_risks(cases, settings, seed)
    return keep_promise(policy, tested, settings.loss, settings.confidence)


def fit_risks(
    cases: Sequence[CalibrationCase], settings: CalibrationSettings, seed: int
) -> tuple[Policy, list[CalibrationCase]]:
    """A policy whose risks are fitted to a random half of the cases and that keeps all tokens yet; the other half."""
    order = torch.randperm(len(cases), generator=torch.Generator().manual_seed(seed)).tolist()
    half = len(cases) // 2
    fitted, tested = ([cases[n] for n in part] for part in (order[:half], order[half:]))
    policy = _fit_decision(fitted, settings)
    if all(case.odds for case in cases):
        policy = replace(policy, retry=_fit_retry(fitted, settings))
    return policy, tested


def keep_promise(policy: Policy, tested: Sequence[CalibrationCase], loss: float, confidence: float) -> Policy:
    """The policy with the lowest price that keeps the promise on cases that its risks were not fitted to."""
    price, promise = _choose_price(policy, tested, loss, confidence)
    retry = policy.retry
    if retry is not None:
        again, retry_promise = _choose_price(policy.with_retry(), tested, loss, confidence)
        retry = replace(retry, price=again, promise=retry_promise)
    return replace(policy, price=price, promise=promise, retry=retry)


def _choose_price(
    policy: Policy, cases: Sequence[CalibrationCase], loss: float, confidence: float
) -> tuple[float, Promise]:
    """The lowest price that keeps the promise on the cases, and what they lose and keep at it."""
    prepared = PreparedCases(policy, cases)
    outcomes = [prepared.count_outcome(price) for price in PRICES]
    best = choose_cheapest([losses for losses, _ in outcomes], len(cases), loss, confidence)
    price, (losses, keep) = (SAFEST, prepared.count_outcome(SAFEST)) if best is None else (PRICES[best], outcomes[best])
    return price, Promise(loss, confidence, len(cases), losses / len(cases), keep)


def count_outcome(policy: Policy, cases: Sequence[CalibrationCase]) -> tuple[int, float]:
    """How many of the answers change under the policy, and the mean share of the tokens that it keeps.

    A policy that retries counts the tokens of both tries.
    """
    price = policy.retry.price if policy.retries and policy.retry is not None else policy.price
    return PreparedCases(policy, cases).count_outcome(price)


class PreparedCases:
    """Cases with their risks, to count outcomes at many prices: `Policy.decide` for all of them at once."""

    def __init__(self, policy: Policy, cases: Sequence[CalibrationCase]) -> None:
        self.retry = policy.retry if policy.retries else None
        self.shares = torch.tensor([*policy.budgets, 1.0], dtype=torch.float64)
        self.risks = _pad(_estimate(policy, cases))
        self.changed = _pad(torch.tensor([case.changed for case in cases], dtype=torch.float64))
        self.retry_risks = torch.zeros_like(self.risks)
        if self.retry is not None:
            slopes = torch.tensor([self.retry.slope, self.retry.sure, self.retry.knee], dtype=torch.float64)
            logits = _make_retry_columns(_estimate(policy, cases), cases) @ slopes + self.retry.offset
            self.retry_risks = _pad(logits.sigmoid())

    def count_outcome(self, price: float) -> tuple[int, float]:
        """As the function of this name, at this price."""
        most = float("inf") if self.retry is None else 1.0
        best = (self.shares + (price * self.risks).clamp(max=most)).argmin(1, keepdim=True)
        again = self.retry_risks.gather(1, best) * price > 1
        changed = self.changed.gather(1, best) * ~again
        return int(changed.sum()), float((self.shares[best] + again).mean())


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
    slopes, offsets = _regress(columns, changed, RIDGE)
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
        Promise(settings.loss, settings.confidence, 0, 0.0, 1.0), metric=settings.metric,
    )  # fmt: skip


def _fit_retry(cases: Sequence[CalibrationCase], settings: CalibrationSettings) -> Retry:
    """The logistic model of whether an answer changed, after its first token.

    The risks before it are those of a decision that was fitted to the other half of the cases.
    """
    half = len(cases) // 2
    parts = [cases[:half], cases[half:]]
    columns = torch.cat(
        [
            _make_retry_columns(_estimate(_fit_decision(other, settings), part), part)
            for part, other in zip(parts, reversed(parts), strict=True)
        ]
    )
    changed = torch.tensor([case.changed for case in cases], dtype=torch.float64)
    slopes, offset = _regress(columns.flatten(0, 1), changed.reshape(-1, 1), 1.0)
    slope, sure, knee = slopes.tolist()
    sure = min(sure, -1e-3)  # a surer first token is never a higher risk
    knee = min(knee, -sure - 2e-3)
    return Retry(float(offset), slope, sure, knee, SAFEST, Promise(settings.loss, settings.confidence, 0, 0.0, 1.0))


def _make_retry_columns(risks: Tensor, cases: Sequence[CalibrationCase]) -> Tensor:
    """(n, R, 3): the logit of the risk, the log-odds of the first token, and those up to the knee."""
    odds = torch.tensor([case.odds for case in cases], dtype=torch.float64)
    return torch.stack([torch.logit(risks), odds, odds.clamp(max=KNEE)], -1)


def _estimate(policy: Policy, cases: Sequence[CalibrationCase]) -> Tensor:
    """(n, R): `Policy.estimate` of every case."""
    total = torch.tensor([case.topic for case in cases], dtype=torch.float64) @ _to_column(policy.topic)
    for term in policy.terms:
        values = torch.tensor([case.scores[term.name] for case in cases], dtype=torch.float64)
        total = total + term.weight * (values - term.mean) / term.deviation
    return (total[:, None] + _to_column(policy.offsets)).sigmoid().clamp(LEAST, 1 - LEAST)


def _to_column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _pad(values: Tensor) -> Tensor:
    """With a last column of zeros: nothing changes where all tokens are kept."""
    return torch.nn.functional.pad(values, (0, 1))


def _regress(columns: Tensor, changed: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """The slopes (f,) and offsets (R,) with the lowest cross-entropy of `changed` (n, R) plus a ridge on the slopes."""
    slopes = torch.zeros(columns.shape[1], dtype=torch.float64, requires_grad=True)
    offsets = torch.logit(changed.mean(0).clamp(0.002, 0.998)).requires_grad_()
    optimizer = torch.optim.LBFGS([slopes, offsets], max_iter=200, line_search_fn="strong_wolfe")

    def compute_loss() -> Tensor:
        optimizer.zero_grad()
        logits = (columns @ slopes)[:, None] + offsets
        fit = torch.nn.functional.binary_cross_entropy_with_logits(logits, changed, reduction="sum")
        loss = fit + ridge * slopes.square().sum()
        loss.backward()
        return loss

    optimizer.step(compute_loss)
    return slopes.detach(), offsets.detach()
