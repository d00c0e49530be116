"""`ask`: one question about one picture, answered by the pruned and by the whole model, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from PIL import Image

from foveate.method import Method
from foveate.models import family_of
from foveate.models.cache import cache_of
from foveate.pipeline.encode import encode
from foveate.pipeline.prune import Positions, PrunedInputs, Report, prune_inputs
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import LoadedModel
from foveate.runtime.timing import StageTimer, kv_bytes, prefill
from foveate.runtime.warnings import collect_warnings

T = TypeVar("T")
ROUNDS = 3  # after one warm-up; the two variants take turns, so that a slow moment hits both


@dataclass(frozen=True)
class Cost:
    """What it takes to reach the first new token.

    Seconds (medians) of the vision encoder, of choosing and rewriting (0 unpruned), and of the language model's
    prefill; bytes of the KV cache after it, and of the accelerator's peak memory, None on a CPU.
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
    loaded: LoadedModel,
    picture: Image.Image,
    question: str,
    *,
    keep: int | float,
    method: str | Method = "foveate",
    positions: Positions = "original",
    max_new_tokens: int = 64,
    explain: bool = False,
) -> Comparison:
    """Answer greedily, pruned and unpruned, and measure both: one warm-up each, then medians of three rounds in turn.

    The settings are `prune_inputs`'; what `explain` costs is not measured. Raises a `FoveateError` if the model, the
    settings or the inputs cannot be used.
    """
    model = loaded.model
    inputs = make_inputs(loaded, [picture], [question])
    settings: dict[str, Any] = {"keep": keep, "method": method, "positions": positions}
    with torch.no_grad(), collect_warnings() as notes:
        _round(model, inputs, settings)  # the warm-up
        rounds = [_round(model, inputs, settings) for _ in range(ROUNDS)]
        short = rounds[-1].short
        answer, unpruned_answer = (_answer(loaded, variant, max_new_tokens) for variant in (short, inputs))
        report = short.report
        if explain:
            why = prune_inputs(model, inputs, explain=True, **settings).report
            report = replace(report, relevance=why.relevance, core=why.core)
    pruned, unpruned = (_median([getattr(r, name) for r in rounds]) for name in ("pruned", "unpruned"))
    return Comparison(answer, unpruned_answer, pruned, unpruned, report, (*loaded.notes, *notes, *report.notes))


@dataclass(frozen=True, eq=False)
class _Round:
    short: PrunedInputs
    pruned: Cost
    unpruned: Cost


def _round(model: Any, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> _Round:
    """Encode once, with what the method needs, which counts for both variants; then prefill both."""
    encoded, encoding = _clock(model, partial(encode, model, inputs, methods=[settings["method"]]))
    words = family_of(model).words(inputs)
    short, select = _clock(model, partial(prune_inputs, model, words, encoded=encoded, **settings))
    pruned = _prefill(model, short, encoding, select)
    whole = prune_inputs(model, words, encoded=encoded, **{**settings, "keep": 1.0})  # the untouched model's, by law
    return _Round(short, pruned, _prefill(model, whole, encoding, 0.0))


def _prefill(model: Any, inputs: Mapping[str, Any], encode: float, select: float) -> Cost:
    on_cuda = model.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(model.device)
    out, seconds = _clock(model, partial(prefill, model, inputs))
    peak = torch.cuda.max_memory_allocated(model.device) if on_cuda else None
    return Cost(encode, select, seconds, kv_bytes(cache_of(out)), peak)


def _answer(loaded: LoadedModel, inputs: Mapping[str, Any], max_new_tokens: int) -> str:
    return generate_answers(loaded, inputs, max_new_tokens)[0]


def _clock(model: Any, call: Callable[[], T]) -> tuple[T, float]:
    """The call's result and its wall-clock seconds, the accelerator's work included."""
    clock = StageTimer(model.device)
    result = call()
    clock.lap("call")
    return result, clock.laps["call"]


def _median(costs: Sequence[Cost]) -> Cost:
    times = {name: statistics.median(getattr(cost, name) for cost in costs) for name in ("encode", "select", "prefill")}
    return replace(costs[-1], **times)
