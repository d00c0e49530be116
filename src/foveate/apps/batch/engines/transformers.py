"""Answers by transformers."""

from collections.abc import Sequence
from statistics import mean

import torch
from PIL import Image

from foveate.apps.batch.engines.base import BatchReply, make_probe
from foveate.apps.batch.settings import BatchSettings
from foveate.apps.encoder import list_shares
from foveate.hooks.attach import pruning
from foveate.method import resolve_any
from foveate.method.inner import InnerMethod
from foveate.models.visual_input import VisualInput
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.report import Report
from foveate.pipeline.tiles import ONE_TILE
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import load, quiet
from foveate.runtime.warnings import collect_warnings

MAX_WARNINGS = 3  # about images: they may differ from image to image in a number only


class TransformersEngine:
    """A model of transformers that prunes every image."""

    def __init__(self, settings: BatchSettings) -> None:
        """Load the model. Raises a `FoveateError` as `load` and `prune_inputs` do."""
        self._max_new_tokens = settings.max_new_tokens
        self._settings = {**settings.pruning, "method": resolve_any(settings.method)}
        with quiet():
            self._loaded = load(settings.model, **vars(settings.loading))
        self._warnings: dict[str, None] = {}
        self._model_notes: Sequence[str] = ()
        _, report = self._generate(*make_probe())
        # What was warned of is about the probe's image, and so is its number of tiles.
        own = {*self._warnings, ONE_TILE}
        self._model_notes = (*self._loaded.notes, *(note for note in report.notes if note not in own))
        self._warnings.clear()

    @property
    def notes(self) -> Sequence[str]:
        """On the model, and the first few warnings about images."""
        return [*self._model_notes, *self._warnings]

    def answer(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[BatchReply]:
        """One batch. Raises what the processor and the model raise."""
        texts, report = self._generate(images, questions)
        self._note(report.notes)
        rows = report.by_row()
        return [_make_reply(text, rows.get(row, ())) for row, text in enumerate(texts)]

    @torch.no_grad()
    def _generate(self, images: Sequence[Image.Image], questions: Sequence[str]) -> tuple[list[str], Report]:
        loaded, limit = self._loaded, self._max_new_tokens
        with quiet(), collect_warnings() as warnings:
            inputs = make_inputs(loaded, images, questions)
            if isinstance(self._settings["method"], InnerMethod):
                with pruning(loaded.model, **self._settings) as handle:
                    texts = generate_answers(loaded, inputs, limit)
                report = handle.report
                assert report is not None
            else:
                short = prune_inputs(loaded.model, inputs, **self._settings)
                texts, report = generate_answers(loaded, short, limit), short.report
        self._note(warnings)
        return texts, report

    def _note(self, notes: Sequence[str]) -> None:
        for note in notes:
            if len(self._warnings) < MAX_WARNINGS and note not in self._model_notes:
                self._warnings[note] = None


def _make_reply(text: str, items: Sequence[VisualInput]) -> BatchReply:
    """The answer of a row, with what was kept of its image."""
    reasons = " ".join(item.reason for item in items if item.reason)
    kept, total = sum(len(item.kept) for item in items), sum(item.total for item in items)
    return BatchReply(text, kept, total, reasons or None, mean(list_shares(items)) if items else None)
