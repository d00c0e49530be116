"""`calibrate`: the answers at every budget, unpruned and pruned, become a policy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.apps.calibrate.arms import MeasuredEvalArm
from foveate.apps.evaluate.answers import Row
from foveate.apps.evaluate.arms import EvalArm, EvalBatch, UnprunedEvalArm
from foveate.apps.evaluate.examples import EvalExample
from foveate.apps.evaluate.runner import evaluate
from foveate.apps.results import make_progress, write_file
from foveate.errors import InputError
from foveate.method import Method
from foveate.method.budget import check_keep
from foveate.method.checks import is_int
from foveate.pipeline.follow import measure_difficulty
from foveate.pipeline.settings import Positions
from foveate.policy.fit import CalibrationCase, CalibrationSettings, fit_policy
from foveate.policy.policy import Policy
from foveate.policy.risk import count_needed
from foveate.policy.signature import sign_model
from foveate.runtime.load import LoadedModel

MEASURES = "scores.jsonl"  # in the folder of the answers
Measure = tuple[dict[str, float], tuple[float, ...]]
"""The scores of an image and a question, and the direction of the question."""
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
    out: Path | None = None, settings: Mapping[str, Any] | None = None,
) -> Policy:  # fmt: skip
    """Answer every question greedily, unpruned and at every budget, and fit a policy to which answers change.

    Args:
        loaded: The model.
        examples: Questions like those that the policy will be used on; their answers are not read.
        method: What selects the tokens.
        loss: The promise: at most this share of the answers differ from the unpruned model's.
        confidence: How sure the promise is.
        budgets: The shares to choose from, ascending.
        positions: As in `prune_inputs`.
        max_new_tokens: Longest answer, in tokens.
        batch: Questions in a batch.
        out: A folder for the answers: a run that was killed continues there.
        settings: What decides the answers, to compare with those of the folder.

    Returns:
        The policy.

    Raises:
        FoveateError: Too few questions for the promise, or the model, the settings or the folder cannot be used.
    """
    check_promise(loss, confidence, len(examples), budgets)
    arms: list[EvalArm] = [UnprunedEvalArm("unpruned", None, max_new_tokens=max_new_tokens)]
    arms += [
        MeasuredEvalArm(method.name, budget, method=method, positions=positions, max_new_tokens=max_new_tokens)
        for budget in budgets
    ]
    rows = evaluate(loaded, examples, arms, batch=batch, out=out, settings=dict(settings or {}))
    measured = measure_examples(loaded, examples, method, batch)
    if out is not None:
        save_scores(out, examples, measured)
    cases = make_cases(rows, examples, measured, [arm.label for arm in arms])
    signature = sign_model(loaded.model)
    return fit_policy(cases, CalibrationSettings(signature, method.name, positions, tuple(budgets), loss, confidence))


def make_cases(
    rows: Sequence[Row], examples: Sequence[EvalExample], measured: Sequence[Measure], labels: Sequence[str]
) -> list[CalibrationCase]:
    """The cases of these examples; the first of `labels` is the unpruned arm's."""
    by_arm = {(row["id"], row["arm"]): row for row in rows}
    cases = []
    for example, (scores, topic) in zip(examples, measured, strict=True):
        whole, *pruned = (by_arm[example.id, label] for label in labels)
        changed = tuple(row["answer"] != whole["answer"] for row in pruned)
        cases.append(CalibrationCase(scores, topic, changed, tuple(row["odds"] for row in pruned)))
    return cases


def save_scores(folder: Path, examples: Sequence[EvalExample], measured: Sequence[Measure]) -> None:
    """Write the scores beside the answers."""
    lines = [
        json.dumps({"id": example.id, "task": example.task, "scores": scores, "topic": topic})
        for example, (scores, topic) in zip(examples, measured, strict=True)
    ]
    write_file(folder / MEASURES, "\n".join([*lines, ""]))


def measure_examples(loaded: LoadedModel, examples: Sequence[EvalExample], method: Method, batch: int) -> list[Measure]:
    """The scores and the direction of every question."""
    measured: list[Measure] = []
    with make_progress() as bar:
        for start in bar.track(range(0, len(examples), batch), description="scores"):
            group = EvalBatch(loaded, examples[start : start + batch], [method])
            measured += measure_difficulty(loaded.model, group.inputs, method, group.encoded)
    return measured
