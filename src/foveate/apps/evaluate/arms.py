"""The arms of an evaluation: each is one way to answer the same batch of questions."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from foveate.apps.evaluate.examples import EvalExample
from foveate.errors import ModelError
from foveate.hooks.attach import pruning
from foveate.method import Method
from foveate.method.budget import to_budget
from foveate.method.in_decoder import DecoderMethod
from foveate.models import family_of
from foveate.models.inputs import drop_raw
from foveate.models.sequence import cut_sequence
from foveate.pipeline.encode import Encoded, check_needs, encode
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.settings import Positions
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import LoadedModel


@dataclass(eq=False)
class EvalBatch:
    """Some examples as the model's inputs; the pictures go through the encoder once for all arms."""

    loaded: LoadedModel
    examples: Sequence[EvalExample]
    methods: Sequence[Method]

    @cached_property
    def pictures(self) -> list[Image.Image]:
        """One an example."""
        return [example.image() for example in self.examples]

    @cached_property
    def inputs(self) -> Any:
        """The processor's output."""
        return self.process(self.pictures)

    @cached_property
    def encoded(self) -> Encoded:
        """The visual tokens, and what the methods need beside them."""
        return encode(self.loaded.model, self.inputs, methods=self.methods)

    @cached_property
    def sizes(self) -> list[int]:
        """Visual tokens a picture."""
        return [len(f) for f in family_of(self.loaded.model).features(self.encoded.outputs["image"])]

    @property
    def words(self) -> dict[str, Any]:
        """The inputs without pixels."""
        return drop_raw(family_of(self.loaded.model), self.inputs)

    def process(self, pictures: Sequence[Image.Image]) -> Any:
        """The prompts of the examples with these pictures."""
        return make_inputs(self.loaded, pictures, [example.question for example in self.examples])


@dataclass(frozen=True)
class EvalAnswers:
    """The answers of a batch: the new text, which visual tokens the model saw (None: all), out of how many, and the
    seconds of selection and decoding, a question.
    """

    answers: list[str]
    kept: list[list[int] | None]
    counts: list[int]
    seconds: float


@dataclass(frozen=True)
class EvalArm(ABC):
    """One way to answer. `name` is shown, `keep` is the budget (None: there is none)."""

    name: str
    keep: int | float | None
    max_new_tokens: int = field(default=8, kw_only=True)
    seed: int | None = field(default=None, kw_only=True)
    """Which of several arms that are averaged under one name."""
    optional: ClassVar[bool] = False
    """Whether a run leaves the arm out where it cannot run on the model."""

    @property
    def label(self) -> str:
        """Unique among the arms of a run."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return self.name if self.keep is None else f"{self.name} @ {self.keep}{seed}"

    def check(self, loaded: LoadedModel) -> None:  # noqa: B027
        """Raise a `FoveateError` if this arm cannot be run on the model."""

    @torch.no_grad()
    def answer(self, batch: EvalBatch) -> EvalAnswers:
        """Answer greedily."""
        started = time.perf_counter()
        inputs, kept, counts = self.inputs(batch)
        answers = self.generate(batch, inputs)
        return EvalAnswers(answers, kept, counts, (time.perf_counter() - started) / len(batch.examples))

    @abstractmethod
    def inputs(self, batch: EvalBatch) -> tuple[Mapping[str, Any], list[list[int] | None], list[int]]:
        """The model's inputs, the kept indices of every picture, and the number of visual tokens the model sees."""

    def generate(self, batch: EvalBatch, inputs: Mapping[str, Any]) -> list[str]:
        """The new text."""
        return generate_answers(batch.loaded, inputs, self.max_new_tokens)


@dataclass(frozen=True)
class UnprunedEvalArm(EvalArm):
    """All visual tokens."""

    def check(self, loaded: LoadedModel) -> None:
        """What is compared is how many tokens stand in the prompt."""
        if not family_of(loaded.model).traits.in_sequence:
            raise ModelError(
                f"The pictures of {loaded.model.config.model_type!r} models do not stand in the decoder's sequence, "
                "whose length the evaluation compares: use one whose do (`foveate families`)."
            )

    def inputs(self, batch: EvalBatch) -> tuple[Mapping[str, Any], list[list[int] | None], list[int]]:
        """The stock inputs."""
        output = batch.encoded.outputs["image"]
        fresh = {"image": type(output)(**output)}  # a forward pass changes what it is given
        return {**batch.words, "mm_encoder_outputs": fresh}, [None] * len(batch.sizes), batch.sizes


@dataclass(frozen=True)
class BlindEvalArm(EvalArm):
    """No visual token at all: the floor."""

    def inputs(self, batch: EvalBatch) -> tuple[Mapping[str, Any], list[list[int] | None], list[int]]:
        """The prompts without placeholders."""
        short = _shortened(batch, [0] * len(batch.sizes))
        return short, [[] for _ in batch.sizes], [0] * len(batch.sizes)


@dataclass(frozen=True)
class PrunedEvalArm(EvalArm):
    """What a method keeps."""

    method: Method = field(kw_only=True)
    positions: Positions = field(default="original", kw_only=True)

    def check(self, loaded: LoadedModel) -> None:
        """The model must give what the method reads."""
        check_needs(loaded.model, family_of(loaded.model), self.method)

    def inputs(self, batch: EvalBatch) -> tuple[Mapping[str, Any], list[list[int] | None], list[int]]:
        """What `prune_inputs` makes of them."""
        assert self.keep is not None
        short = prune_inputs(
            batch.loaded.model, batch.words, keep=self.keep, method=self.method, positions=self.positions,
            encoded=batch.encoded,
        )  # fmt: skip
        kept: list[list[int] | None] = [item.kept.tolist() for item in short.report.items]
        return short, kept, [len(item.kept) for item in short.report.items]


@dataclass(frozen=True)
class InDecoderEvalArm(UnprunedEvalArm):
    """What an in-decoder method keeps; `counts` are averages over the decoder's layers."""

    method: DecoderMethod = field(kw_only=True)

    def check(self, loaded: LoadedModel) -> None:
        """It must attach."""
        with pruning(loaded.model, keep=self._budget, method=self.method):
            pass

    @torch.no_grad()
    def answer(self, batch: EvalBatch) -> EvalAnswers:
        """The stock inputs, with the method attached."""
        started = time.perf_counter()
        inputs, _, _ = self.inputs(batch)
        with pruning(batch.loaded.model, keep=self._budget, method=self.method) as handle:
            answers = self.generate(batch, inputs)
        assert handle.report is not None
        kept: list[list[int] | None] = [item.kept.tolist() for item in handle.report.items]
        report: Any = handle.report
        counts = [round(size * report.mean_share) for size in batch.sizes]
        return EvalAnswers(answers, kept, counts, (time.perf_counter() - started) / len(batch.examples))

    @property
    def _budget(self) -> int | float:
        assert self.keep is not None
        return self.keep


@dataclass(frozen=True)
class ResizedEvalArm(EvalArm):
    """A smaller picture, so that the encoder itself yields about k tokens: what pruning has to beat.

    Where the processor takes any size, the picture is scaled before it. A tower of one size gets its pixels scaled to
    whole patches and interpolates its position embeddings.
    """

    optional = True

    def check(self, loaded: LoadedModel) -> None:
        """The tower must take other sizes."""
        model = loaded.model
        tower = getattr(model.config.vision_config, "model_type", "")
        if not (hasattr(model.config.vision_config, "spatial_merge_size") or tower == "clip_vision_model"):
            raise ModelError(f"resize is not supported for a {tower} tower: leave it out with --no-resize.")

    def inputs(self, batch: EvalBatch) -> tuple[Mapping[str, Any], list[list[int] | None], list[int]]:
        """The smaller pictures' own."""
        assert self.keep is not None
        wanted = [to_budget(self.keep, size) for size in batch.sizes]
        if "image_grid_thw" in batch.inputs:
            inputs = batch.process(self._scaled(batch, wanted))
            merge = batch.loaded.model.config.vision_config.spatial_merge_size
            counts = [int(grid.prod()) // merge**2 for grid in inputs["image_grid_thw"]]
        else:
            counts, inputs = self._interpolated(batch, wanted)
        return inputs, [None] * len(counts), counts

    def _scaled(self, batch: EvalBatch, wanted: Sequence[int]) -> list[Image.Image]:
        config = batch.loaded.model.config.vision_config
        unit = config.patch_size * config.spatial_merge_size
        small = []
        for picture, k in zip(batch.pictures, wanted, strict=True):
            columns, rows = cells(picture.width / picture.height, k)
            small.append(picture.resize((columns * unit, rows * unit), Image.Resampling.BICUBIC))
        return small

    def _interpolated(self, batch: EvalBatch, wanted: Sequence[int]) -> tuple[list[int], dict[str, Any]]:
        side, patch = max(1, round(math.sqrt(min(wanted)))), batch.loaded.model.config.vision_config.patch_size
        pixels = F.interpolate(
            batch.inputs["pixel_values"].float(), size=(side * patch, side * patch), mode="bicubic", antialias=True
        )
        core = batch.loaded.model.base_model
        given = {"pixel_values": pixels.to(batch.loaded.model.dtype), "interpolate_pos_encoding": True}
        encoded = core.get_image_features(**given, return_dict=True)
        counts = [side * side] * len(wanted)
        short = _shortened(batch, counts)
        return counts, {**short, "mm_encoder_outputs": {"image": type(encoded)(pooler_output=encoded.pooler_output)}}


def cells(aspect: float, k: int) -> tuple[int, int]:
    """Columns and rows of at most `k` cells, as many as fit, of about this aspect (width / height)."""
    fits = [(columns, max(1, min(round(columns / aspect), k // columns))) for columns in range(1, k + 1)]
    return max(fits, key=lambda c: (c[0] * c[1] - k * abs(math.log(c[0] / c[1] / aspect)), c))


def _shortened(batch: EvalBatch, counts: Sequence[int]) -> dict[str, Any]:
    """The prompts with only the first `counts` placeholders of every picture, numbered anew, without pixels."""
    model, family = batch.loaded.model, family_of(batch.loaded.model)
    inputs = batch.inputs
    places: Tensor = family.placeholders(model.config, inputs)
    limits = torch.tensor(list(counts), device=places.device)[:, None]
    stays = inputs["attention_mask"].bool() & (~places | (places.cumsum(1) <= limits))
    gone = {"pixel_values", *family.encoder_inputs(model, inputs)}
    rest = {name: value for name, value in inputs.items() if name not in gone}
    full = family.positions(model, inputs, inputs["attention_mask"])
    pad = model.generation_config.pad_token_id or 0
    return cut_sequence(rest, stays, full, pad_id=pad, compact=True)
