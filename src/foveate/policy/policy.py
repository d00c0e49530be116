"""`Policy`: chooses a budget for each question, and promises how many answers change."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from foveate.errors import InputError
from foveate.policy.difficulty import SCORES
from foveate.policy.signature import Signature

FORMAT = "foveate policy 1"
LEAST = 1e-6  # no estimate is surer, so that a price can be high enough to keep everything
Metric = Literal["answer", "right"]
METRICS: tuple[Metric, ...] = ("answer", "right")
MARGIN = 0.05  # of the cosine below which a question is unlike those of the calibration
KNEE = 3.0  # log-odds of the first token up to which they tell more than above


@dataclass(frozen=True)
class ScoreTerm:
    """One score: how it was distributed over the calibration's questions, and its weight in the decision."""

    name: str
    mean: float
    deviation: float
    low: float
    high: float
    weight: float


@dataclass(frozen=True)
class Promise:
    """At most `loss` of the answers differ from the unpruned model's, with this confidence.

    It was tested on so many `questions`, which lost `expected_loss` of the answers and kept `expected_keep` of the
    tokens; as many others fitted the risks.
    """

    loss: float
    confidence: float
    questions: int
    expected_loss: float
    expected_keep: float


@dataclass(frozen=True)
class Retry:
    """When to answer again with all tokens, after the first token of the answer.

    The risk r that the answer changed is estimated from the risk p before and the log-odds z of the likeliest first
    token: `logit r = offset + slope logit p + sure z + knee min(z, 3)`. The answer is made again where `price * r > 1`,
    as all tokens cost 1. `price` stands in for the policy's own, and `promise` counts the tokens of both tries.
    """

    offset: float
    slope: float
    sure: float
    knee: float
    price: float
    promise: Promise

    def __post_init__(self) -> None:
        if not max(self.sure, self.sure + self.knee) < 0:
            raise ValueError("A surer first token must lower the risk.")

    def find_limit(self, risk: float) -> float:
        """The log-odds of the first token below which an answer with this risk is made again."""
        if self.price <= 1:
            return -math.inf
        base = self.offset + self.slope * _to_logit(risk) + math.log(self.price - 1)
        above = -(base + self.knee * KNEE) / self.sure
        return above if above >= KNEE else -base / (self.sure + self.knee)


@dataclass(frozen=True)
class Decision:
    """The share of an image's tokens to keep, and why in a sentence.

    `notes` say what was unlike the calibration. An answer whose first token has log-odds below `retry_below` is to be
    made again with all tokens; None where it is not.
    """

    keep: float
    reason: str
    notes: tuple[str, ...] = ()
    retry_below: float | None = None


@dataclass(frozen=True)
class Policy:
    """A budget per question: `keep=policy` in place of a number. `foveate calibrate` makes one.

    The probability that pruning to a share k changes the answer is estimated by a logistic model,
    `p_k = 1 / (1 + exp(-(offset_k + sum_j w_j z_j + sum_c t_c q_c)))`, with the standardised scores z of
    `policy.difficulty` and the direction q of the question's mean embedding. The policy keeps the share with the lowest
    `k + price * p_k`. The price is the lowest that keeps the promise on questions that the model was not fitted to.
    With `with_retry()`, the risk costs no more than to answer again with all tokens: `k + min(1, price * p_k)`.

    Args:
        model: Which model it was calibrated on.
        method: The name of the method, with the fields that differ from their defaults.
        positions: "original" or "compact".
        budgets: The shares to choose from, ascending; 1.0 is always possible.
        offsets: One for each budget.
        terms: The scores.
        topic: (d,) the weights t of the question's direction.
        center: (d,) the mean direction of the calibration's questions.
        near: The lowest cosine of their directions to `center`.
        price: What a changed answer costs, in shares of the tokens.
        promise: What was promised, and on how many questions.
        retry: When to answer again after the first token; None without it.
        retries: Whether what uses the policy answers again, as `foveate.generate_with_retry` does.
        metric: What counts as a loss: an "answer" that differs from the unpruned model's, or a "right" answer that is
            lost.

    Example:
        policy = foveate.Policy.load("mine.policy.json")
        short = foveate.prune_inputs(model, inputs, keep=policy)
    """

    model: Signature
    method: str
    positions: Literal["original", "compact"]
    budgets: tuple[float, ...]
    offsets: tuple[float, ...]
    terms: tuple[ScoreTerm, ...]
    topic: tuple[float, ...]
    center: tuple[float, ...]
    near: float
    price: float
    promise: Promise
    retry: Retry | None = None
    retries: bool = False
    metric: Metric = "answer"

    def with_retry(self) -> Policy:
        """The policy for `foveate.generate_with_retry`, whose budgets are lower; itself if it has no retry."""
        return self if self.retry is None else replace(self, retries=True)

    def estimate(self, scores: Mapping[str, float], topic: Sequence[float]) -> list[float]:
        """The estimated probability that the answer changes, for each of the budgets."""
        total = math.fsum(weight * value for weight, value in zip(self.topic, topic, strict=True))
        total += math.fsum(term.weight * (scores[term.name] - term.mean) / term.deviation for term in self.terms)
        return [_to_probability(offset + total) for offset in self.offsets]

    def decide(self, scores: Mapping[str, float], topic: Sequence[float]) -> Decision:
        """The budget for a question and an image with these scores.

        Args:
            scores: The scores of `policy.difficulty.measure_scores`.
            topic: (d,) the direction of the question's mean embedding.
        """
        risks, shares = [*self.estimate(scores, topic), 0.0], (*self.budgets, 1.0)
        retry = self.retry if self.retries else None
        price, most = (self.price, math.inf) if retry is None else (retry.price, 1.0)
        costs = [share + min(most, price * risk) for share, risk in zip(shares, risks, strict=True)]
        best = min(range(len(costs)), key=lambda n: (costs[n], n))
        keep = shares[best]
        reason = f"{100 * keep:.3g} % of the tokens, at an estimated risk of {format_percent(risks[best])}"
        if best:
            reason += f"; {100 * self.budgets[best - 1]:.3g} % would risk {format_percent(risks[best - 1])}"
        limit = None if retry is None or keep == 1 else retry.find_limit(risks[best])
        return Decision(keep, f"{reason}.", tuple(self._find_unlike(scores, topic)), limit)

    def to_record(self) -> dict[str, Any]:
        """The policy as a JSON object, which `from_record` reads."""
        return {"format": FORMAT, **asdict(replace(self, retries=False))}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the policy as JSON.

        Raises:
            InputError: The file cannot be written.
        """
        try:
            Path(path).write_text(json.dumps(self.to_record(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error}): give another file.") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Policy:
        """Read a policy that `save` wrote.

        Raises:
            InputError: The file cannot be read, or is no policy of this version.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{path} cannot be read as a policy ({error}): make one with foveate calibrate."
            ) from error
        return cls.from_record(record, str(path))

    @classmethod
    def from_record(cls, record: Any, name: str) -> Policy:
        """The policy of a JSON object; `name` is for the error. Raises `InputError` for another object."""
        wrong = InputError(f"{name} is no policy of this version of foveate: make one with foveate calibrate.")
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise wrong
        values: dict[str, Any] = {key: _to_tuple(value) for key, value in record.items() if key != "format"}
        try:
            values["model"] = Signature(**{key: _to_tuple(value) for key, value in values["model"].items()})
            values["terms"] = tuple(ScoreTerm(**term) for term in values["terms"])
            values["promise"] = Promise(**values["promise"])
            if (retry := values.get("retry")) is not None:
                values["retry"] = Retry(**{**retry, "promise": Promise(**retry["promise"])})
            policy = cls(**values)
            if policy.metric not in METRICS or not all(term.name in SCORES for term in policy.terms):
                raise wrong
            for each in (policy, policy.with_retry()):
                each.decide({term.name: term.mean for term in policy.terms}, policy.center)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise wrong from error
        return policy

    def _find_unlike(self, scores: Mapping[str, float], topic: Sequence[float]) -> list[str]:
        """A sentence for what lies outside what the calibration saw, by more than half a deviation."""
        unlike = [
            f"{term.name} {scores[term.name]:.3g}, calibrated on {term.low:.3g} to {term.high:.3g}"
            for term in self.terms
            if not term.low <= scores[term.name] + term.deviation / 2 <= term.high + term.deviation
        ]
        if math.fsum(a * b for a, b in zip(topic, self.center, strict=True)) < self.near - MARGIN:
            unlike.append("a question unlike those of the calibration")
        return [f"The policy's promise may not hold here ({'; '.join(unlike)}): foveate audit tells."] if unlike else []


def format_percent(share: float) -> str:
    """The share in percent, with two digits: "0.015 %", "6.9 %", "100 %"."""
    return "below 0.01 %" if 0 < share < 1e-4 else f"{float(f'{100 * share:.2g}'):g} %"


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _to_logit(risk: float) -> float:
    return math.log(risk / (1 - risk))


def _to_probability(logit: float) -> float:
    return min(max(1 / (1 + math.exp(-max(logit, -700))), LEAST), 1 - LEAST)
