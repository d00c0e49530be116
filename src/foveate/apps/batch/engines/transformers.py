"""Answers by transformers."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from foveate.apps.batch.engines.base import Reply, make_probe
from foveate.apps.batch.settings import BatchSettings
from foveate.hooks.attach import pruning
from foveate.method import resolve_any
from foveate.method.in_decoder import DecoderMethod
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.report import Report
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import load, quiet
from foveate.runtime.warnings import collect_warnings

MAX_WARNINGS = 3  # about images: they may differ from image to image in a number only


class TransformersEngine:
    """A model of transformers that prunes every image."""

    def __init__(self, settings: BatchSettings) -> None:
        """Load the model. Raises a `FoveateError` as `load` and `prune_inputs` do."""
        self._method, self._max_new_tokens = resolve_any(settings.method), settings.max_new_tokens
        self._settings: dict[str, Any] = {"keep": settings.keep, "positions": settings.positions}
        with quiet():
            self._loaded = load(settings.model, **vars(settings.loading))
        self._warnings: dict[str, None] = {}
        _, report = self._generate(*make_probe())
        self._model_notes = (*self._loaded.notes, *report.notes)
        self._warnings.clear()  # they are about the probe's image

    @property
    def notes(self) -> Sequence[str]:
        """On the model, and the first few warnings about images."""
        return [*self._model_notes, *self._warnings]

    def answer(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[Reply]:
        """One batch. Raises what the processor and the model raise."""
        texts, report = self._generate(images, questions)
        kept, total = [0] * len(texts), [0] * len(texts)
        for item in report.items:
            kept[item.row] += len(item.kept)
            total[item.row] += item.total
        return [Reply(*reply) for reply in zip(texts, kept, total, strict=True)]

    @torch.no_grad()
    def _generate(self, images: Sequence[Image.Image], questions: Sequence[str]) -> tuple[list[str], Report]:
        loaded, limit = self._loaded, self._max_new_tokens
        with quiet(), collect_warnings() as warnings:
            inputs = make_inputs(loaded, images, questions)
            if isinstance(self._method, DecoderMethod):
                with pruning(loaded.model, method=self._method, **self._settings) as handle:
                    texts = generate_answers(loaded, inputs, limit)
                report = handle.report
                assert report is not None
            else:
                short = prune_inputs(loaded.model, inputs, method=self._method, **self._settings)
                texts, report = generate_answers(loaded, short, limit), short.report
        for warning in warnings:
            if len(self._warnings) < MAX_WARNINGS:
                self._warnings[warning] = None
        return texts, report
