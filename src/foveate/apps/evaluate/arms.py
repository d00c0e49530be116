"""The arms of an evaluation: each is one way to answer the same batch of questions."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch

from foveate.apps.evaluate.batches import EvalBatch, cut_placeholders
from foveate.errors import ModelError
from foveate.hooks.attach import pruning
from foveate.method import Method
from foveate.method.inner import InnerMethod
from foveate.models import family_of
from foveate.models.inputs import drop_raw
from foveate.pipeline.encode import check_needs
from foveate.pipeline.follow import find_policy
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.report import Report
from foveate.pipeline.settings import Keep, Per, Positions, PruneSettings
from foveate.policy import Policy
from foveate.runtime.conversation import generate_answers
from foveate.runtime.loaded import LoadedModel


@dataclass(frozen=True)
class EvalAnswers:
    """The answers to a batch.

    `kept` are the visual tokens that the model saw of each image (None: all), `counts` their number, `seconds` the time
    of selection and decoding per question, `measures` more about each answer, for its row of the results.
    """

    answers: list[str]
    kept: list[list[int] | None]
    counts: list[int]
    seconds: float
    measures: Sequence[Mapping[str, Any]] = ()


ArmInputs = tuple[Mapping[str, Any], list[list[int] | None], list[int]]
"""The model's inputs, and `kept` and `counts` as in `EvalAnswers`."""


@dataclass(frozen=True)
class EvalArm(ABC):
    """One way to answer. `name` is the name in the results, `keep` the budget, or what a policy is called (or None)."""

    name: str
    keep: int | float | str | None
    max_new_tokens: int = field(default=8, kw_only=True)
    seed: int | None = field(default=None, kw_only=True)
    """Which of several arms that are averaged under one name."""
    optional: ClassVar[bool] = False
    """Whether a run leaves the arm out where it cannot run on the model."""
    measures: ClassVar[Mapping[str, type]] = MappingProxyType({})
    """What its answers measure beside the results of every arm, and the types."""

    @property
    def label(self) -> str:
        """Unique among the arms of a run."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return self.name if self.keep is None else f"{self.name} @ {self.keep}{seed}"

    @property
    def kind(self) -> str:
        """The same for arms that run on the same models."""
        return self.label if isinstance(self.keep, str) else self.name

    @property
    def budget(self) -> int | float:
        """`keep`, in arms that have a fixed budget."""
        assert isinstance(self.keep, (int, float))
        return self.keep

    def check(self, loaded: LoadedModel) -> None:  # noqa: B027
        """Raise a `FoveateError` if this arm cannot run on the model."""

    @torch.no_grad()
    def answer(self, batch: EvalBatch) -> EvalAnswers:
        """Answer greedily."""
        started = time.perf_counter()
        inputs, kept, counts = self.inputs(batch)
        answers = self.generate(batch, inputs)
        return EvalAnswers(answers, kept, counts, (time.perf_counter() - started) / len(batch.examples))

    @abstractmethod
    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """The model's inputs for the batch."""

    def generate(self, batch: EvalBatch, inputs: Mapping[str, Any]) -> list[str]:
        """The answers to these inputs."""
        return generate_answers(batch.loaded, inputs, self.max_new_tokens)


@dataclass(frozen=True)
class UnprunedEvalArm(EvalArm):
    """All visual tokens."""

    def check(self, loaded: LoadedModel) -> None:
        """Visual tokens must be part of the decoder's sequence, as the evaluation compares its length."""
        if not family_of(loaded.model).traits.in_sequence:
            raise ModelError(
                f"The images of {loaded.model.config.model_type!r} models are not part of the decoder's sequence, "
                "whose length the evaluation compares: use another model (`foveate families`)."
            )

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """The stock inputs."""
        model = batch.loaded.model
        whole = prune_inputs(model, batch.inputs, keep=1.0, encoded=batch.encoded)
        encoded = dict(whole)["mm_encoder_outputs"]  # in the form that the model reads
        inputs = {**drop_raw(family_of(model), batch.inputs), "mm_encoder_outputs": encoded}
        return inputs, [None] * len(batch.sizes), batch.sizes


@dataclass(frozen=True)
class BlindEvalArm(EvalArm):
    """No visual token: the lower limit."""

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """The prompts without placeholders."""
        rows = len(batch.sizes)
        return cut_placeholders(batch, [0] * rows), [[] for _ in range(rows)], [0] * rows


@dataclass(frozen=True)
class PrunedEvalArm(EvalArm):
    """What a method keeps, at a fixed budget or at those that a policy chooses."""

    method: Method = field(kw_only=True)
    positions: Positions = field(default="original", kw_only=True)
    policy: Policy | Literal["auto"] | None = field(default=None, kw_only=True)
    per: Per = field(default="image", kw_only=True)

    def check(self, loaded: LoadedModel) -> None:
        """The model must have what the method needs, and be that of the policy."""
        check_needs(loaded.model, family_of(loaded.model), self.method)
        find_policy(loaded.model, PruneSettings(1.0, self.method, self.positions, policy=self.policy))

    @property
    def rule(self) -> Keep:
        """What `prune_inputs` keeps: the fixed budget or the policy."""
        return self.budget if self.policy is None else self.policy

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """The result of `prune_inputs`."""
        short = prune_inputs(
            batch.loaded.model, batch.inputs, keep=self.rule, method=self.method, positions=self.positions,
            per=self.per, encoded=batch.encoded,
        )  # fmt: skip
        kept = list_kept(short.report, len(batch.sizes))
        return short, [*kept], [len(indices) for indices in kept]


@dataclass(frozen=True)
class InDecoderEvalArm(UnprunedEvalArm):
    """What an in-decoder method keeps; `counts` are averages over the decoder's layers."""

    method: InnerMethod = field(kw_only=True)

    def check(self, loaded: LoadedModel) -> None:
        """The method must attach."""
        with pruning(loaded.model, keep=self.budget, method=self.method):
            pass

    @torch.no_grad()
    def answer(self, batch: EvalBatch) -> EvalAnswers:
        """Answer the stock inputs with the method attached."""
        started = time.perf_counter()
        inputs, _, _ = self.inputs(batch)
        with pruning(batch.loaded.model, keep=self.budget, method=self.method) as handle:
            answers = self.generate(batch, inputs)
        report: Any = handle.report
        counts = [round(size * report.mean_share) for size in batch.sizes]
        seconds = (time.perf_counter() - started) / len(batch.examples)
        return EvalAnswers(answers, [*list_kept(report, len(batch.sizes))], counts, seconds)


def list_kept(report: Report, rows: int) -> list[list[int]]:
    """The kept tokens of each row's image, counted over all of its tiles."""
    kept: list[list[int]] = [[] for _ in range(rows)]
    for row, items in report.by_row().items():
        for number, item in enumerate(items):
            before = sum(each.total for each in items[:number])
            kept[row] += [before + i for i in item.kept.tolist()]
    return kept
