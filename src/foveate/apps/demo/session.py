"""`DemoSession`: shows which tokens a question keeps, and answers it with these tokens and with all."""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from foveate.apps.demo.events import (
    AnswerCost,
    AnswerDone,
    AnswerKind,
    AnswerPiece,
    ClipFrames,
    DemoEvent,
    KeptTokens,
    Savings,
)
from foveate.apps.demo.request import DemoRequest
from foveate.apps.demo.shown import ShownFile, open_file, to_url
from foveate.apps.encoder import WHOLE
from foveate.apps.serve.generation import PrunedPrompt, SamplingOptions, generate_answer, limit_new_tokens, prune_prompt
from foveate.apps.serve.worker import ModelJob
from foveate.errors import InputError
from foveate.method import resolve
from foveate.pipeline.report import Report
from foveate.policy import Policy
from foveate.runtime.context import context_length
from foveate.runtime.conversation import apply_template, make_inputs
from foveate.runtime.image_cache import ImageCache, PreparedPrompt
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.timing import StageTimer
from foveate.runtime.warnings import collect_warnings
from foveate.viz import draw
from foveate.viz.overlay import make_sheet
from foveate.viz.panels import Step

CACHE_BYTES = 2**30  # of decoded and encoded images
NEW_TOKENS = 256  # of an answer, at most
ROOM = 2 * NEW_TOKENS  # positions for the questions and answers about a clip, at least


@dataclass(frozen=True, eq=False)
class TimedPrompt:
    """A prompt, and the seconds of its encoder and of its selection."""

    prompt: PrunedPrompt
    encode: float
    select: float


class DemoSession:
    """A model with a cache of its last images. All methods run on the worker's thread."""

    def __init__(self, loaded: LoadedModel, policy: Policy | None = None) -> None:
        """`policy` is what "auto" stands for; None where there is none."""
        self.loaded, self._policy = loaded, policy
        self._cache = ImageCache(loaded, CACHE_BYTES)

    def look(self, request: DemoRequest, job: ModelJob[DemoEvent]) -> None:
        """Emit `KeptTokens`."""
        shown = self._open(request, job)
        with collect_warnings() as notes:
            prepared, _ = self._prepare(request, shown)
            prompt = self._prune(request, prepared, explain=True)
        job.emit(self._describe("pruned", shown, prompt, notes))

    def show(self, request: DemoRequest, job: ModelJob[DemoEvent]) -> None:
        """Emit `ClipFrames`."""
        shown = self._open(request, job)
        job.emit(ClipFrames(to_url(make_sheet(shown.shrink())), shown.times))

    def ask(self, request: DemoRequest, job: ModelJob[DemoEvent], max_new_tokens: int = NEW_TOKENS) -> None:
        """Emit `KeptTokens` for each pruned answer, all answers with their pieces and costs, and `Savings`.

        The encoder runs once for an image, and its time counts for all answers, unless tiles are left out of a pruned
        one. Later turns of a conversation do not need it. The overlay's time counts for none.
        """
        shown, whole = self._open(request, job), replace(request, keep=1.0, encoder=WHOLE, compared=None)
        with collect_warnings() as notes:
            stock = self._prepare(whole, shown)
            max_new_tokens = limit_new_tokens(self.loaded.model, stock[0].inputs, max_new_tokens)
        prompts: dict[AnswerKind, TimedPrompt] = {}
        for kind, arm in request.list_arms().items():
            with collect_warnings() as more:
                is_stock = arm.encoder.is_whole and arm.method == request.method
                prepared = stock if is_stock else self._prepare(arm, shown)
                prompts[kind] = self._prune_timed(arm, *prepared)
                explained = self._prune(arm, prepared[0], explain=True)
            job.emit(self._describe(kind, shown, explained, [*notes, *more]))
        costs = {kind: self._answer(kind, prompt, job, max_new_tokens) for kind, prompt in prompts.items()}
        unpruned = replace(self._prune_timed(whole, *stock), select=0.0)  # by law the untouched model's inputs
        job.emit(Savings.between(costs["pruned"], self._answer("unpruned", unpruned, job, max_new_tokens)))

    def _open(self, request: DemoRequest, job: ModelJob[DemoEvent]) -> ShownFile:
        """The image, or as many frames of the clip as the model has room for."""
        shown, _ = self._cache.remember(
            ("file", request.key), lambda: open_file(request, lambda: job.cancelled), lambda shown: shown.bytes
        )
        context = context_length(self.loaded.model)
        if len(shown.images) == 1 or context is None:
            return shown
        length, _ = self._cache.remember(
            ("length", request.key),
            lambda: make_inputs(self.loaded, shown.images[:1], [""])["input_ids"].shape[1],
            lambda _: 0,
        )
        return shown.thin_out(max(1, (context - ROOM) // length))

    def _prepare(self, request: DemoRequest, shown: ShownFile) -> tuple[PreparedPrompt, float]:
        """The conversation with its images after the encoder, and the seconds that this costs the turn."""
        prompt, images = apply_template(self.loaded, request.make_messages(len(shown.images))), shown.lazy_images
        prepared = self._cache.prepare(prompt, images, request.method, is_whole=request.encoder.is_whole)
        if prepared.encoded is None or request.turns:
            return prepared, 0.0
        key = ("seconds", request.key, len(images), resolve(request.method).needs)
        seconds, _ = self._cache.remember(key, lambda: prepared.seconds, lambda _: 0)
        return prepared, seconds

    def _prune(self, request: DemoRequest, prepared: PreparedPrompt, *, explain: bool = False) -> PrunedPrompt:
        keep = self._policy or "auto" if request.keep == "auto" else request.keep
        options: dict[str, Any] = {"keep": keep, "method": request.method, **vars(request.encoder)}
        return prune_prompt(self.loaded, prepared.inputs, **options, encoded=prepared.encoded, explain=explain)

    def _prune_timed(self, request: DemoRequest, prepared: PreparedPrompt, encode: float) -> TimedPrompt:
        prompt = self._prune(request, prepared)
        seconds = prompt.encode_seconds if prepared.encoded is None else encode
        return TimedPrompt(prompt, seconds, prompt.report.seconds)

    def _describe(self, kind: AnswerKind, shown: ShownFile, prompt: PrunedPrompt, notes: list[str]) -> KeptTokens:
        report = prompt.report
        kept, total = report.kept_count, report.total_count
        cores = [item.core for item in report.items if item.core is not None]
        overlay = look = heat = core = None
        looks = [item.look for item in report.items if item.look is not None]
        looked = sum(len(indices) for indices in looks) if looks else None
        try:
            overlay = draw_overlay(shown, report, self.loaded.processor)
            look = draw_overlay(shown, report, self.loaded.processor, "look") if looks else None
        except InputError as error:
            notes = [*notes, str(error)]
        if cores and kept < total:  # else nothing was selected
            with suppress(InputError):  # a flat relevance has no map, and no core
                heat = draw_overlay(shown, report, self.loaded.processor, "map")
                core = sum(int(marks.sum()) for marks in cores)
        notes = list(dict.fromkeys([*self.loaded.notes, *notes, *report.notes]))
        complement = None if core is None else kept - core
        reason = next((item.reason for item in report.items if item.reason), None)
        return KeptTokens(
            overlay, kept, total, core, complement, heat, prompt.tokens, report.method, notes, look, looked, reason,
            report.tile_counts, report.prompt_aware, kind,
        )  # fmt: skip

    def _answer(
        self, kind: AnswerKind, timed: TimedPrompt, job: ModelJob[DemoEvent], max_new_tokens: int
    ) -> AnswerCost:
        prompt, before = timed.prompt, timed.encode + timed.select
        timer = StageTimer(self.loaded.model.device)
        result = generate_answer(
            self.loaded, prompt.inputs, lambda text: job.emit(AnswerPiece(kind, text)), max_new_tokens=max_new_tokens,
            sampling=SamplingOptions(temperature=0), is_cancelled=lambda: job.cancelled,
        )  # fmt: skip
        timer.lap("all")
        cost = AnswerCost(
            prompt.report.kept_count, prompt.tokens, timed.encode, timed.select, result.prefill_seconds,
            before + result.prefill_seconds, before + timer.laps["all"], result.kv_bytes, result.tokens,
        )  # fmt: skip
        job.emit(AnswerDone(kind, cost, result.finish_reason))
        return cost


def draw_overlay(shown: ShownFile, report: Report, processor: Any, step: Step = "kept") -> str:
    """The kept tokens over the image or the frames, or those of the first look, as a data URL.

    Raises `InputError` for tokens without a grid.
    """
    return to_url(draw(shown.shrink(), report, processor=processor, legend=False, step=step, original=False))
