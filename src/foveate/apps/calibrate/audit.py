"""`audit`: does the promise of a policy hold on these questions, and which kinds of question break it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foveate.apps.calibrate.arms import PolicyEvalArm
from foveate.apps.calibrate.calibrate import is_lost
from foveate.apps.evaluate.arms import EvalArm, UnprunedEvalArm
from foveate.apps.evaluate.examples import EvalExample
from foveate.apps.evaluate.runner import evaluate
from foveate.errors import InputError
from foveate.method import Method
from foveate.pipeline.settings import check_settings
from foveate.policy.policy import Policy, Promise, format_percent
from foveate.policy.risk import bound_rate
from foveate.runtime.loaded import LoadedModel


@dataclass(frozen=True)
class AuditRow:
    """One kind of question: how many answers changed, bounds of the true rate, the mean share of kept tokens.

    `retried` counts the answers that were made again with all tokens, which `keep` counts too.
    """

    kind: str
    questions: int
    changed: int
    low: float
    high: float
    keep: float
    retried: int = 0


@dataclass(frozen=True)
class Audit:
    """All questions, and each kind of them. Every bound holds with the policy's confidence."""

    policy: Policy
    every: AuditRow
    kinds: tuple[AuditRow, ...]

    @property
    def promise(self) -> Promise:
        """What was promised: with a retry, where the policy retries."""
        retry = self.policy.retry
        return retry.promise if self.policy.retries and retry is not None else self.policy.promise

    def to_record(self) -> dict[str, Any]:
        """The verdict and the rows, the last one of all questions, as a JSON object."""
        return {"verdict": self.verdict, "rows": [asdict(row) for row in (*self.kinds, self.every)]}

    @property
    def verdict(self) -> str:
        """Whether the promise holds here, in a sentence or two."""
        every, loss = self.every, self.promise.loss
        what = "right answers were lost" if self.policy.metric == "right" else "answers changed"
        counted = f"{every.changed} of {every.questions} {what} ({format_percent(every.changed / every.questions)})"
        promise = f"the promised {100 * loss:.3g} %"
        if every.low > loss:
            text = f"The promise is broken here: {counted}, more than {promise}. Calibrate on questions like these."
        elif every.high <= loss:
            text = f"The promise holds here: {counted}, by that at most {promise} of all such questions."
        else:
            text = f"{counted}; these questions are too few to tell whether that is more than {promise}."
        broken = [row.kind for row in self.kinds if row.low > loss]
        return f"{text} Kinds above it by themselves: {', '.join(broken)}." if broken else text


def audit(
    loaded: LoadedModel, examples: Sequence[EvalExample], policy: Policy, method: Method, *, max_new_tokens: int = 8,
    batch: int = 16, out: Path | None = None, settings: Mapping[str, Any] | None = None,
) -> Audit:  # fmt: skip
    """Answer every question unpruned and with the policy, and count what the policy's metric counts as a loss.

    A policy `with_retry()` answers unsure ones again. Raises a `FoveateError` if the policy does not fit the model, or
    the folder cannot be used.
    """
    if not examples:
        raise InputError("There are no questions: give some.")
    check_settings(policy, method, policy.positions)
    arms: list[EvalArm] = [
        UnprunedEvalArm("unpruned", None, max_new_tokens=max_new_tokens),
        PolicyEvalArm(
            "policy", None, policy=policy, method=method, positions=policy.positions, max_new_tokens=max_new_tokens
        ),
    ]
    rows = evaluate(loaded, examples, arms, batch=batch, out=out, settings=dict(settings or {}))
    pairs = list(zip(rows[: len(examples)], rows[len(examples) :], strict=True))
    kinds = dict.fromkeys(row["task"] for row, _ in pairs)
    return Audit(
        policy, _count("all", pairs, policy),
        tuple(_count(kind, [pair for pair in pairs if pair[0]["task"] == kind], policy) for kind in kinds),
    )  # fmt: skip


def _count(kind: str, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], policy: Policy) -> AuditRow:
    changed = sum(is_lost(whole, pruned, policy.metric) for whole, pruned in pairs)
    keep = sum(pruned["tokens"] / pruned["total"] for _, pruned in pairs) / len(pairs)
    n, confidence = len(pairs), policy.promise.confidence
    return AuditRow(
        kind, n, changed, 1 - bound_rate(n - changed, n, confidence), bound_rate(changed, n, confidence), keep,
        sum(pruned["retried"] for _, pruned in pairs),
    )  # fmt: skip
