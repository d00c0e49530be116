"""`ask`: one question about one image, answered by the pruned and by the unpruned model, side by side."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from foveate.apps.encoder import WHOLE, EncoderOptions, encodes_all, prune_timed
from foveate.method import Method
from foveate.models import family_of
from foveate.models.cache import cache_of
from foveate.pipeline.encode import encode
from foveate.pipeline.parts import check_encoder
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.report import PrunedInputs, Report
from foveate.pipeline.settings import Keep, Positions, check_settings
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import LoadedModel
from foveate.runtime.retry import find_retrying, retry_if_unsure
from foveate.runtime.timing import StageTimer, kv_bytes, prefill
from foveate.runtime.warnings import collect_warnings

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
    """The two answers, their timings, and the report of the pruned one.

    With `retried` the model was unsure of the pruned answer's first token and answered again with all tokens; the
    timing is of both tries.
    """

    answer: str
    answer_unpruned: str
    pruned: FirstTokenTiming
    unpruned: FirstTokenTiming
    report: Report
    notes: tuple[str, ...]
    retried: bool = False


def ask(
    loaded: LoadedModel,
    image: Image.Image,
    question: str,
    *,
    keep: Keep,
    method: str | Method = "foveate",
    positions: Positions = "original",
    encoder: EncoderOptions = WHOLE,
    max_new_tokens: int = 64,
    explain: bool = False,
    retry: bool = False,
) -> Comparison:
    """Answer greedily, pruned and unpruned, and time both: one warm-up each, then medians of three alternating rounds.

    The settings are those of `prune_inputs`; the time for `explain` is not counted. With `retry`, `keep` is a policy
    with a retry. Raises a `FoveateError` if the model, the settings or the inputs cannot be used.
    """
    model = loaded.model
    keep = find_retrying(model, keep, method, positions) if retry else keep
    settings: dict[str, Any] = {"keep": keep, "method": method, "positions": positions, **vars(encoder)}
    check_encoder(family_of(model), check_settings(**settings))
    inputs = make_inputs(loaded, [image], [question])
    with torch.no_grad(), collect_warnings() as notes:
        rounds = [_run_round(model, inputs, settings) for _ in range(1 + ROUNDS)][1:]  # the first one warms up
        short = rounds[-1][0]
        result = retry_if_unsure(
            lambda tried, processors, _: generate_answers(loaded, tried, max_new_tokens, processors)[0], short,
            lambda: prune_inputs(model, inputs, **{**settings, "keep": 1.0, **vars(WHOLE)}),
        )  # fmt: skip
        unpruned_answer, report = generate_answers(loaded, inputs, max_new_tokens)[0], short.report
        if explain:
            report = replace(report, items=prune_inputs(model, inputs, explain=True, **settings).report.items)
    pruned, unpruned = (_take_median([timings[n] for _, *timings in rounds]) for n in (0, 1))
    if result.retried:
        pruned = replace(unpruned, select=pruned.select, prefill=pruned.prefill + unpruned.prefill)
    notes = list(dict.fromkeys([*loaded.notes, *notes, *report.notes]))
    return Comparison(result.output, unpruned_answer, pruned, unpruned, report, tuple(notes), result.retried)


def _run_round(
    model: Any, inputs: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[PrunedInputs, FirstTokenTiming, FirstTokenTiming]:
    """Encode once for both, unless the pruned one leaves tiles out, then prefill pruned and unpruned."""
    unpruned = {**settings, "keep": 1.0, **vars(WHOLE)}
    timer = StageTimer(model.device)
    encoded = encode(model, inputs, methods=[settings["method"]])
    timer.lap("encode")
    encoding, is_shared = timer.laps["encode"], encodes_all(settings)
    short, own, selection = prune_timed(model, inputs, encoded if is_shared else None, **settings)
    pruned = _time_prefill(model, short, encoding if is_shared else own, selection)
    # By law these are the inputs of the stock model.
    whole = prune_inputs(model, inputs, encoded=encoded, **unpruned)
    return short, pruned, _time_prefill(model, whole, encoding, 0.0)


def _time_prefill(model: Any, inputs: Mapping[str, Any], encode: float, select: float) -> FirstTokenTiming:
    on_cuda = model.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(model.device)
    timer = StageTimer(model.device)
    out = prefill(model, inputs)
    timer.lap("prefill")
    peak = torch.cuda.max_memory_allocated(model.device) if on_cuda else None
    return FirstTokenTiming(encode, select, timer.laps["prefill"], kv_bytes(cache_of(out)), peak)


def _take_median(timings: Sequence[FirstTokenTiming]) -> FirstTokenTiming:
    names = ("encode", "select", "prefill")
    return replace(timings[-1], **{name: statistics.median(getattr(each, name) for each in timings) for name in names})
