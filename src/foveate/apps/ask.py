"""`ask`: one question about images and clips, answered by the unpruned model and by pruned ones, side by side."""

from collections.abc import Callable, Mapping, Sequence
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
from foveate.runtime.load import BUNDLED
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.media import Seen, make_seen_inputs
from foveate.runtime.retry import RetriedOutput, find_retrying, retry_if_unsure
from foveate.runtime.timing import StageTimer, kv_bytes, prefill
from foveate.runtime.warnings import collect_warnings

ROUNDS = 3  # by default, after one warm-up; pruned and unpruned alternate, so that a slow moment affects both

DRAWN_WORLD = "A bundled model knows drawn scenes alone: about your photographs, pages and charts it can only guess."


@dataclass(frozen=True)
class FirstTokenTiming:
    """Time and memory up to the first new token.

    Seconds of the vision encoder, of selection with rewriting (0 unpruned), and of the language model's prefill; bytes
    of the KV cache after it, and of the accelerator's peak memory, None on a CPU. `fastest` and `slowest` are the
    seconds to the first token of the rounds at the ends.
    """

    encode: float
    select: float
    prefill: float
    kv_bytes: int
    peak_bytes: int | None
    fastest: float = 0.0
    slowest: float = 0.0

    @property
    def first_token(self) -> float:
        """Seconds to the first token, with the vision encoder."""
        return self.encode + self.select + self.prefill


@dataclass(frozen=True)
class Pruning:
    """A budget and a method to compare with."""

    keep: Keep
    method: str | Method


@dataclass(frozen=True, eq=False)
class PrunedAnswer:
    """An answer of the pruned model, its timing and its report.

    With `retried` the model was unsure of its first token and answered again with all tokens; the timing is of both
    tries.
    """

    answer: str
    pruned: FirstTokenTiming
    report: Report
    retried: bool


@dataclass(frozen=True, eq=False)
class Comparison(PrunedAnswer):
    """The pruned and the unpruned answer with their timings, the answers of `others`, and notes on all of them."""

    answer_unpruned: str
    unpruned: FirstTokenTiming
    notes: tuple[str, ...]
    others: tuple[PrunedAnswer, ...] = ()
    rounds: int = ROUNDS

    @property
    def reports(self) -> list[Report]:
        """What each budget and method kept."""
        return [each.report for each in (self, *self.others)]


def ask(
    loaded: LoadedModel,
    seen: Image.Image | Sequence[Seen],
    question: str,
    *,
    keep: Keep,
    method: str | Method = "foveate",
    positions: Positions = "original",
    encoder: EncoderOptions = WHOLE,
    max_new_tokens: int = 64,
    explain: bool = False,
    retry: bool = False,
    others: Sequence[Pruning] = (),
    rounds: int = ROUNDS,
    on_step: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Answer greedily, pruned and unpruned, and time both: a warm-up, then the middle one of alternating `rounds`.

    `seen` are images of Pillow and clips of (seconds, image). `on_step` is called with what begins. The settings are
    those of `prune_inputs`; the time for `explain` is not counted. With `retry`, `keep` is a policy with a retry.
    `others` are more budgets and methods, which take turns with these. Raises a `FoveateError` if the model, the
    settings or the inputs cannot be used.
    """
    model = loaded.model
    keep = find_retrying(model, keep, method, positions) if retry else keep
    shared = {"positions": positions, **vars(encoder)}
    arms: list[dict[str, Any]] = [{**vars(arm), **shared} for arm in (Pruning(keep, method), *others)]
    for settings in arms:
        check_encoder(family_of(model), check_settings(**settings))
    inputs = make_question_inputs(loaded, [seen] if isinstance(seen, Image.Image) else seen, question)
    with torch.no_grad(), collect_warnings() as notes:
        shorts, timed = _run_rounds(model, inputs, arms, rounds, on_step)
        answers = []
        for settings, short, timing in zip(arms, shorts, timed, strict=False):
            on_step(f"answering on {short.report.kept_count} tokens")
            answers.append(_answer(loaded, inputs, settings, short, timing, timed[-1], max_new_tokens, explain))
        on_step("answering on all tokens")
        unpruned_answer = generate_answers(loaded, inputs, max_new_tokens)[0]
    about = [*describe_model(loaded), *notes, *(note for each in answers for note in each.report.notes)]
    first, others_answered = answers[0], tuple(answers[1:])
    return Comparison(
        first.answer, first.pruned, first.report, first.retried, unpruned_answer, take_middle(timed[-1]),
        tuple(dict.fromkeys(about)), others_answered, rounds,
    )  # fmt: skip


def describe_model(loaded: LoadedModel) -> list[str]:
    """The notes on every answer of a model."""
    return [*([DRAWN_WORLD] if loaded.name in BUNDLED else []), *loaded.notes]


def make_question_inputs(loaded: LoadedModel, seen: Sequence[Seen], question: str) -> Any:
    """The model's inputs for a question about images and clips. Raises as `make_seen_inputs`."""
    first = seen[0]
    if len(seen) == 1 and isinstance(first, Image.Image):
        return make_inputs(loaded, [first], [question])
    return make_seen_inputs(loaded, seen, question)


def answer_pruned(
    loaded: LoadedModel, inputs: Mapping[str, Any], settings: Mapping[str, Any], short: PrunedInputs,
    max_new_tokens: int,
) -> RetriedOutput:  # fmt: skip
    """Answer from the pruned inputs `short`; from all tokens where a policy with a retry is unsure."""
    return retry_if_unsure(
        lambda tried, processors, _: generate_answers(loaded, tried, max_new_tokens, processors)[0], short,
        lambda: prune_inputs(loaded.model, inputs, **{**settings, "keep": 1.0, **vars(WHOLE)}),
    )  # fmt: skip


def _answer(
    loaded: LoadedModel, inputs: Mapping[str, Any], settings: Mapping[str, Any], short: PrunedInputs,
    timings: Sequence[FirstTokenTiming], unpruned: Sequence[FirstTokenTiming], max_new_tokens: int, explain: bool,
) -> PrunedAnswer:  # fmt: skip
    """Generate the answer of one budget and method; explain its report, which is not timed."""
    report, result = short.report, answer_pruned(loaded, inputs, settings, short, max_new_tokens)
    if explain:
        report = replace(report, items=prune_inputs(loaded.model, inputs, explain=True, **settings).report.items)
    if result.retried:
        both = zip(timings, unpruned, strict=True)
        timings = [replace(whole, select=few.select, prefill=few.prefill + whole.prefill) for few, whole in both]
    return PrunedAnswer(result.output, take_middle(timings), report, result.retried)


def _run_rounds(
    model: Any,
    inputs: Mapping[str, Any],
    arms: Sequence[Mapping[str, Any]],
    rounds: int,
    on_step: Callable[[str], None],
) -> tuple[list[PrunedInputs], list[tuple[FirstTokenTiming, ...]]]:  # fmt: skip
    """The pruned inputs of each arm, and the rounds of each arm and of the unpruned model, after a warm-up."""
    on_step("warming up")
    _run_round(model, inputs, arms)
    shorts, ran = list[PrunedInputs](), list[list[FirstTokenTiming]]()
    for number in range(rounds):
        on_step(f"round {number + 1} of {rounds}")
        shorts, timings = _run_round(model, inputs, arms)
        ran.append(timings)
    return shorts, list(zip(*ran, strict=True))


def _run_round(
    model: Any, inputs: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]
) -> tuple[list[PrunedInputs], list[FirstTokenTiming]]:
    """Each arm encodes, selects and prefills; then the unpruned one prefills, with what the first arm encoded."""
    shorts, timings = [], []
    shared: tuple[Any, float] | None = None
    for settings in arms:
        timer, is_shared = StageTimer(model.device), encodes_all(settings)
        if shared is None or is_shared:
            encoded = encode(model, inputs, methods=[settings["method"]])
            timer.lap("encode")
            shared = shared or (encoded, timer.laps["encode"])
        short, own, selection = prune_timed(model, inputs, encoded if is_shared else None, **settings)
        timings.append(_time_prefill(model, short, timer.laps["encode"] if is_shared else own, selection))
        shorts.append(short)
    assert shared is not None
    # By law these are the inputs of the stock model.
    whole = prune_inputs(model, inputs, encoded=shared[0], **{**arms[0], "keep": 1.0, **vars(WHOLE)})
    return shorts, [*timings, _time_prefill(model, whole, shared[1], 0.0)]


def _time_prefill(model: Any, inputs: Mapping[str, Any], encode: float, select: float) -> FirstTokenTiming:
    on_cuda = model.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(model.device)
    timer = StageTimer(model.device)
    out = prefill(model, inputs)
    timer.lap("prefill")
    peak = torch.cuda.max_memory_allocated(model.device) if on_cuda else None
    return FirstTokenTiming(encode, select, timer.laps["prefill"], kv_bytes(cache_of(out)), peak)


def take_middle(timings: Sequence[FirstTokenTiming]) -> FirstTokenTiming:
    """One whole round, since medians of the parts may add up to more than the slowest round took."""
    ranked = sorted(timings, key=lambda each: each.first_token)
    middle = ranked[(len(ranked) - 1) // 2]
    return replace(middle, fastest=ranked[0].first_token, slowest=ranked[-1].first_token)
