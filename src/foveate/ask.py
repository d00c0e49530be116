"""`ask`: one question about one picture, answered by the pruned and by the whole model, side by side."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from foveate.errors import FoveateWarning, InputError, ModelError
from foveate.family import family_of
from foveate.load import Loaded
from foveate.method import Method
from foveate.prune import Positions, PrunedInputs, Report, prune_inputs

ROUNDS = 3  # after one warm-up; the two variants take turns, so that a slow moment hits both


@dataclass(frozen=True)
class Cost:
    """What it takes to reach the first new token.

    Seconds (medians) of the vision encoder, of choosing and rewriting (0 unpruned), and of the language model's prefill;
    bytes of the KV cache after it, and of the accelerator's peak memory, None on a CPU.
    """

    encode: float
    select: float
    prefill: float
    kv_bytes: int
    peak_bytes: int | None

    @property
    def first_token(self) -> float:
        """Seconds to the first token, with the vision encoder."""
        return self.encode + self.select + self.prefill


@dataclass(frozen=True, eq=False)
class Comparison:
    """The two answers and what they cost."""

    answer: str
    answer_unpruned: str
    pruned: Cost
    unpruned: Cost
    report: Report
    notes: tuple[str, ...]


def ask(
    loaded: Loaded,
    picture: Image.Image,
    question: str,
    *,
    keep: int | float,
    method: str | Method = "zspaprune",
    positions: Positions = "original",
    max_new_tokens: int = 64,
) -> Comparison:
    """Answer greedily, pruned and unpruned, and measure both: one warm-up each, then medians of three rounds in turn.

    The settings are `prune_inputs`'. Raises a `FoveateError` if the model, the settings or the inputs cannot be used.
    """
    model = loaded.model
    inputs = prompt(loaded, picture, question)
    family = family_of(model)
    seconds: dict[str, list[float]] = {"encode": [], "select": [], "pruned": [], "whole": []}

    def round_of_both() -> tuple[PrunedInputs, dict[str, Any], _Prefill, _Prefill]:
        encoded = _clock(model, seconds["encode"], lambda: family.encode(model, inputs))
        ready = {name: value for name, value in inputs.items() if name != "pixel_values"}
        ready["mm_encoder_outputs"] = {"image": encoded}
        short = _clock(
            model,
            seconds["select"],
            lambda: prune_inputs(model, ready, keep=keep, method=method, positions=positions),
        )
        whole = prune_inputs_not(ready)
        pruned_fill = _prefill(model, seconds["pruned"], short)
        return short, whole, pruned_fill, _prefill(model, seconds["whole"], whole)

    raise NotImplementedError
