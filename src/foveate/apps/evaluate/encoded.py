"""The arm whose encoder sees some tiles of an image alone."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import mean
from types import MappingProxyType
from typing import Any, ClassVar

import torch

from foveate.apps.encoder import EncoderOptions, list_shares, prune_timed
from foveate.apps.evaluate.answers import ENCODED
from foveate.apps.evaluate.arms import EvalAnswers, PrunedEvalArm, list_kept
from foveate.apps.evaluate.batches import EvalBatch
from foveate.errors import FoveateWarning
from foveate.models import family_of
from foveate.pipeline.parts import check_encoder
from foveate.pipeline.settings import check_settings
from foveate.pipeline.tiles import ONE_TILE
from foveate.runtime.loaded import LoadedModel


@dataclass(frozen=True)
class EncodedEvalArm(PrunedEvalArm):
    """What a method keeps of the tiles that the encoder saw. Its seconds are without the encoder, as those of others.

    The images of each batch are encoded again: which tiles are needed depends on the method and the question.
    """

    encoder: EncoderOptions = field(kw_only=True)
    measures: ClassVar[Mapping[str, type]] = MappingProxyType({ENCODED: float})

    @property
    def label(self) -> str:
        """`foveate @ 0.1, encode 0.4`; the name, which is that of its line in the plot, has no budget."""
        own = self.encoder.label
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.name.removesuffix(f', {own}')} @ {self.keep}, {own}{seed}"

    def check(self, loaded: LoadedModel) -> None:
        """The model must see tiles, and the method must choose among some of them."""
        super().check(loaded)
        settings = check_settings(self.budget, self.method, self.positions, **vars(self.encoder))
        check_encoder(family_of(loaded.model), settings)

    @torch.no_grad()
    def answer(self, batch: EvalBatch) -> EvalAnswers:
        """Encode some tiles, select and answer."""
        settings: dict[str, Any] = {"keep": self.budget, "method": self.method, "positions": self.positions}
        inputs, rows = batch.inputs, len(batch.examples)
        started = time.perf_counter()
        short, encoding, _ = prune_timed(batch.loaded.model, inputs, **settings, **vars(self.encoder))
        answers = self.generate(batch, short)
        seconds = (time.perf_counter() - started - encoding) / rows
        shares = [mean(list_shares(items)) for _, items in sorted(short.report.by_row().items())]
        kept = list_kept(short.report, rows)
        if ONE_TILE in short.report.notes:
            warnings.warn(ONE_TILE, FoveateWarning, stacklevel=2)
        return EvalAnswers(answers, [*kept], list(map(len, kept)), seconds, [{ENCODED: share} for share in shares])
