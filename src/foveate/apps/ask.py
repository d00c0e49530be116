"""`ask`: one question about one image, answered by the pruned and by the unpruned model, side by side."""

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
from foveate.models.inputs import drop_raw
from foveate.pipeline.encode import encode
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.report import PrunedInputs, Report
from foveate.pipeline.settings import Positions
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import LoadedModel
from foveate.runtime.timing import StageTimer, kv_bytes, prefill
from foveate.runtime.warnings import collect_warnings

T = TypeVar("T")
ROUNDS = 3  # after one warm-up; pruned and unpruned alternate, so that a slow moment affects both


@dataclass(frozen=True)
class FirstTokenTiming:
    """Time and memory up to the first new token.

    Seconds (medians) of the vision encoder, of selection with rewriting (0 unpruned), and of the language model's
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
    """The two answers, their timings, and the report of the pruned one."""

    answer: str
    answer_unpruned: str
    pruned: FirstTokenTiming
    unpruned: FirstTokenTiming
    report: Report
    notes: tuple[str, ...]


def ask(
    loaded: LoadedModel,
    image: Image.Image,
    question: str,
    *,
    keep: int | float,
    method: str | Method = "foveate",
    positions: Positions = "original",
    max_new_tokens: int = 64,
    explain: bool = False,
) -> Comparison:
    """Answer greedily, pruned and unpruned, and time both: one warm-up each, then medians of three alternating rounds.

    The settings are those of `prune_inputs`; the time for `explain` is not counted. Raises a `FoveateError` if the
    model, the settings or the inputs cannot be used.
    """
    model = loaded.model
    inputs = make_inputs(loaded, [image], [question])
    settings: dict[str, Any] = {"keep": keep, "method": method, "positions": positions}
    with torch.no_grad(), collect_warnings() as notes:
        _run_round(model, inputs, settings)  # the warm-up
        rounds = [_run_round(model, inputs, settings) for _ in range(ROUNDS)]
        short = rounds[-1].short
        answer, unpruned_answer = (generate_answers(loaded, each, max_new_tokens)[0] for each in (short, inputs))
        report = short.report
        if explain:
            why = prune_inputs(model, inputs, explain=True, **settings).report
            report = replace(report, items=why.items)
    pruned, unpruned = (_take_median([getattr(r, name) for r in rounds]) for name in ("pruned", "unpruned"))
    return Comparison(answer, unpruned_answer, pruned, unpruned, report, (*loaded.notes, *notes, *report.notes))


@dataclass(frozen=True, eq=False)
class _Round:
    short: PrunedInputs
    pruned: FirstTokenTiming
    unpruned: FirstTokenTiming


def _run_round(model: Any, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> _Round:
    """Encode once for both, with what the method needs, then prefill pruned and unpruned."""
    encoded, encoding = _time(model, partial(encode, model, inputs, methods=[settings["method"]]))
    words = drop_raw(family_of(model), inputs)
    short, select = _time(model, partial(prune_inputs, model, words, encoded=encoded, **settings))
    pruned = _time_prefill(model, short, encoding, select)
    whole = prune_inputs(model, words, encoded=encoded, **{**settings, "keep": 1.0})  # by law the stock model's inputs
    return _Round(short, pruned, _time_prefill(model, whole, encoding, 0.0))


def _time_prefill(model: Any, inputs: Mapping[str, Any], encode: float, select: float) -> FirstTokenTiming:
    on_cuda = model.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(model.device)
    out, seconds = _time(model, partial(prefill, model, inputs))
    peak = torch.cuda.max_memory_allocated(model.device) if on_cuda else None
    return FirstTokenTiming(encode, select, seconds, kv_bytes(cache_of(out)), peak)


def _time(model: Any, call: Callable[[], T]) -> tuple[T, float]:
    """The call's result and its seconds, the accelerator's work included."""
    timer = StageTimer(model.device)
    result = call()
    timer.lap("call")
    return result, timer.laps["call"]


def _take_median(timings: Sequence[FirstTokenTiming]) -> FirstTokenTiming:
    names = ("encode", "select", "prefill")
    return replace(timings[-1], **{name: statistics.median(getattr(each, name) for each in timings) for name in names})
