"""Answers by transformers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from PIL import Image

from foveate.apps.batch.engine import Reply, probe
from foveate.apps.batch.settings import Settings
from foveate.errors import FoveateWarning
from foveate.hooks.attach import attach
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import load, quiet

NOTES = 3  # of a kind that picture after picture may repeat with other numbers


class HfEngine:
    """A model of transformers that prunes every picture it is given."""

    def __init__(self, settings: Settings) -> None:
        """Load and attach. Raises a `FoveateError` as `load` and `attach` do."""
        self._max_new_tokens = settings.max_new_tokens
        with quiet():
            self._loaded = load(settings.model)
        self._handle = attach(
            self._loaded.model, keep=settings.keep, method=settings.method, positions=settings.positions
        )
        self._said: dict[str, None] = {}
        probe(self)
        assert self._handle.report is not None
        self._about = (*self._loaded.notes, *self._handle.report.notes)
        self._said.clear()  # of the probe's picture

    @property
    def notes(self) -> Sequence[str]:
        """On the model, and the first few warnings about pictures."""
        return [*self._about, *self._said]

    @torch.no_grad()
    def answer(self, pictures: Sequence[Image.Image], questions: Sequence[str]) -> list[Reply]:
        """One batch. Raises what the processor and the model raise."""
        with quiet(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", FoveateWarning)
            texts = generate_answers(self._loaded, make_inputs(self._loaded, pictures, questions), self._max_new_tokens)
        for warning in caught:
            if issubclass(warning.category, FoveateWarning) and len(self._said) < NOTES:
                self._said[str(warning.message)] = None
        report = self._handle.report
        assert report is not None
        kept, total = [0] * len(texts), [0] * len(texts)
        for row, indices, size in zip(report.rows, report.kept, report.total, strict=True):  # tiles count apart
            kept[row] += len(indices)
            total[row] += size
        return [Reply(*reply) for reply in zip(texts, kept, total, strict=True)]
