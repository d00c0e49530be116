"""The arms of `calibrate` and `audit`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch

from foveate.apps.evaluate.arms import EvalAnswers, PrunedEvalArm, UnprunedEvalArm, list_kept
from foveate.apps.evaluate.batches import EvalBatch
from foveate.errors import ModelError
from foveate.method import Method
from foveate.pipeline.follow import measure_difficulty
from foveate.pipeline.prune import prune_inputs
from foveate.policy import Policy
from foveate.runtime.conversation import generate_answers
from foveate.runtime.first_token import FirstTokenOdds


@dataclass(frozen=True)
class ScoredEvalArm(UnprunedEvalArm):
    """All visual tokens, with the scores of each question and image and the direction of the question."""

    method: Method = field(kw_only=True)
    measures = MappingProxyType({"scores": dict, "topic": list})

    @torch.no_grad()
    def answer(self, batch: EvalBatch) -> EvalAnswers:
        """Answer greedily."""
        answers = super().answer(batch)
        measured = measure_difficulty(batch.loaded.model, batch.inputs, self.method, batch.encoded)
        if len(measured) != len(batch.examples):
            raise ModelError("Nothing in this model's inputs tells which tiles are one image: it cannot be calibrated.")
        measures = [
            {"scores": scores, "topic": [float(f"{value:.6g}") for value in topic]} for scores, topic in measured
        ]
        return replace(answers, measures=measures)


@dataclass(frozen=True)
class MeasuredEvalArm(PrunedEvalArm):
    """What a method keeps, with how sure the model was of the first token of each answer."""

    measures = MappingProxyType({"odds": float})

    @torch.no_grad()
    def answer(self, batch: EvalBatch) -> EvalAnswers:
        """Answer greedily."""
        started = time.perf_counter()
        inputs, kept, counts = self.inputs(batch)
        first = FirstTokenOdds()
        answers = generate_answers(batch.loaded, inputs, self.max_new_tokens, [first])
        seconds = (time.perf_counter() - started) / len(batch.examples)
        return EvalAnswers(answers, kept, counts, seconds, [{"odds": round(odds, 4)} for odds in first.odds])


@dataclass(frozen=True)
class PolicyEvalArm(PrunedEvalArm):
    """What a policy keeps, and all tokens for a second try where the policy retries; `counts` are those of both."""

    policy: Policy = field(kw_only=True)
    measures = MappingProxyType({"retried": bool})

    @torch.no_grad()
    def answer(self, batch: EvalBatch) -> EvalAnswers:
        """Answer greedily; unsure rows once more, without the others."""
        started = time.perf_counter()
        short = prune_inputs(
            batch.loaded.model, batch.inputs, keep=self.policy, method=self.method, positions=self.positions,
            encoded=batch.encoded,
        )  # fmt: skip
        kept: list[list[int] | None] = [*list_kept(short.report, len(batch.sizes))]
        counts, first = [len(indices or ()) for indices in kept], FirstTokenOdds()
        answers = generate_answers(batch.loaded, short, self.max_new_tokens, [first])
        again = [
            item.row for item in short.report.items
            if item.retry_below is not None and first.odds[item.row] < item.retry_below
        ]  # fmt: skip
        if again:
            unsure = EvalBatch(batch.loaded, [batch.examples[row] for row in again], batch.methods)
            second = UnprunedEvalArm(self.name, None, max_new_tokens=self.max_new_tokens).answer(unsure)
            for row, answer in zip(again, second.answers, strict=True):
                answers[row], kept[row], counts[row] = answer, None, counts[row] + batch.sizes[row]
        measures = [{"retried": row in again} for row in range(len(answers))]
        seconds = (time.perf_counter() - started) / len(batch.examples)
        return EvalAnswers(answers, kept, counts, seconds, measures)
