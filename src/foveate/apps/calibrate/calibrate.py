"""`calibrate`: the answers at every budget, unpruned and pruned, become a policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.apps.calibrate.arms import MeasuredEvalArm, ScoredEvalArm
from foveate.apps.evaluate.answers import Row
from foveate.apps.evaluate.arms import EvalArm
from foveate.apps.evaluate.examples import EvalExample
from foveate.apps.evaluate.runner import evaluate
from foveate.errors import InputError
from foveate.method import Method
from foveate.method.budget import check_keep
from foveate.method.checks import is_int
from foveate.pipeline.settings import Positions
from foveate.policy.fit import CalibrationCase, CalibrationSettings, fit_policy
from foveate.policy.policy import Metric, Policy
from foveate.policy.risk import count_needed
from foveate.policy.signature import sign_model
from foveate.runtime.loaded import LoadedModel

BUDGETS = (0.028, 0.056, 0.083, 0.111, 0.167, 0.25, 0.333, 0.5, 0.75)


def check_promise(loss: float, confidence: float, questions: int, budgets: Sequence[int | float]) -> None:
    """Raise a `FoveateError` for a promise out of range, too few questions for it, or budgets that are no shares."""
    for name, value in (("loss", loss), ("confidence", confidence)):
        if not 0 < value < 1:
            raise InputError(f"{name}={value} is no share: give a number above 0 and below 1, such as 0.01 or 0.95.")
    needed = 2 * count_needed(loss, confidence)
    if questions < needed:
        raise InputError(
            f"{questions} questions are too few to promise a loss of {loss:.3g} with a confidence of {confidence:.3g}: "
            f"give {needed} at least, better {4 * needed}, or promise less."
        )
    for budget in budgets:
        check_keep(budget)
        if is_int(budget) or budget == 1:
            raise InputError(f"The budget {budget} is no share below 1: a policy chooses shares, such as 0.1.")
    if list(budgets) != sorted(set(budgets)):
        raise InputError("The budgets are not ascending: give each share once, from the smallest to the largest.")


def calibrate(
    loaded: LoadedModel, examples: Sequence[EvalExample], *, method: Method, loss: float, confidence: float = 0.95,
    budgets: Sequence[float] = BUDGETS, positions: Positions = "original", max_new_tokens: int = 8, batch: int = 16,
    out: Path | None = None, settings: Mapping[str, Any] | None = None, metric: Metric = "answer",
) -> Policy:  # fmt: skip
    """Answer every question greedily, unpruned and at every budget, and fit a policy to which answers change.

    Args:
        loaded: The model.
        examples: Questions like those that the policy will be used on. With the metric "answer" their answers are not
            read.
        method: What selects the tokens.
        loss: The promise: at most this share of the answers differ from the unpruned model's.
        confidence: How sure the promise is.
        budgets: The shares to choose from, ascending.
        positions: As in `prune_inputs`.
        max_new_tokens: Longest answer, in tokens.
        batch: Questions in a batch.
        out: A folder for the answers: a run that was killed continues there.
        settings: What decides the answers, to compare with those of the folder.
        metric: What counts as a loss: an "answer" that differs from the unpruned model's, or a "right" answer that is
            lost.

    Returns:
        The policy.

    Raises:
        FoveateError: Too few questions for the promise, or the model, the settings or the folder cannot be used.
    """
    check_promise(loss, confidence, len(examples), budgets)
    arms: list[EvalArm] = [ScoredEvalArm("unpruned", None, method=method, max_new_tokens=max_new_tokens)]
    arms += [
        MeasuredEvalArm(method.name, budget, method=method, positions=positions, max_new_tokens=max_new_tokens)
        for budget in budgets
    ]
    rows = evaluate(loaded, examples, arms, batch=batch, out=out, settings=dict(settings or {}))
    signature, shares = sign_model(loaded.model), tuple(budgets)
    return fit_policy(
        make_cases(rows, metric),
        CalibrationSettings(signature, method.spec, positions, shares, loss, confidence, metric),
    )


def is_lost(whole: Mapping[str, Any], pruned: Mapping[str, Any], metric: Metric) -> bool:
    """Whether the pruned row counts as a loss against the unpruned one."""
    return bool(whole["right"] and not pruned["right"]) if metric == "right" else whole["answer"] != pruned["answer"]


def make_cases(rows: Iterable[Row], metric: Metric = "answer") -> list[CalibrationCase]:
    """The cases of a calibration's rows."""
    questions: dict[str, list[Row]] = {}
    for row in rows:
        questions.setdefault(row["id"], []).append(row)
    cases = []
    for group in questions.values():
        (whole,) = (row for row in group if row["keep"] is None)
        pruned = sorted((row for row in group if row["keep"] is not None), key=lambda row: float(row["keep"]))
        changed = tuple(is_lost(whole, row, metric) for row in pruned)
        odds = tuple(row["odds"] for row in pruned)
        cases.append(CalibrationCase(whole["scores"], tuple(whole["topic"]), changed, odds))
    return cases
