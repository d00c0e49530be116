"""The arms of `calibrate` and `audit`."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from foveate.apps.evaluate.arms import EvalAnswers, EvalBatch, PrunedEvalArm
from foveate.runtime.conversation import generate_answers
from foveate.runtime.first_token import FirstTokenOdds


@dataclass(frozen=True)
class MeasuredEvalArm(PrunedEvalArm):
    """What a method keeps, with how sure the model was of the first token of each answer."""

    @torch.no_grad()
    def answer(self, batch: EvalBatch) -> EvalAnswers:
        """Answer greedily."""
        started = time.perf_counter()
        inputs, kept, counts = self.inputs(batch)
        first = FirstTokenOdds()
        answers = generate_answers(batch.loaded, inputs, self.max_new_tokens, [first])
        seconds = (time.perf_counter() - started) / len(batch.examples)
        return EvalAnswers(answers, kept, counts, seconds, [{"odds": round(odds, 4)} for odds in first.odds])
