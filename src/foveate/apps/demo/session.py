"""`DemoSession`: shows which tokens a question keeps, and answers it with these tokens and with all."""

import base64
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

from PIL import Image

from foveate.apps.demo.events import AnswerCost, AnswerDone, AnswerKind, AnswerPiece, DemoEvent, KeptTokens, Savings
from foveate.apps.demo.request import DemoRequest
from foveate.apps.encoder import WHOLE
from foveate.apps.serve.generation import PrunedPrompt, SamplingOptions, generate_answer, limit_new_tokens, prune_prompt
from foveate.apps.serve.images import decode_images
from foveate.apps.serve.worker import ModelJob
from foveate.errors import InputError
from foveate.method import resolve
from foveate.models import family_of
from foveate.pipeline.encode import Encoded, encode
from foveate.pipeline.report import Report
from foveate.policy import Policy
from foveate.runtime.conversation import make_inputs
from foveate.runtime.load import LoadedModel
from foveate.runtime.timing import StageTimer
from foveate.runtime.warnings import collect_warnings
from foveate.viz import draw
from foveate.viz.panels import Step

CACHED_IMAGES = 3
OVERLAY_SIDE = 1024  # pixels of an overlay's longer side, at most
NEW_TOKENS = 256  # of an answer, at most
EncodingKey = tuple[frozenset[str], str]  # extras of the encoder, and the question where the encoder reads it


@dataclass(eq=False)
class CachedImage:
    """A decoded image, with the processor inputs of its last question and its encodings."""

    image: Image.Image
    prompt: tuple[str, Any] | None = None
    encodings: dict[EncodingKey, Encoded] = field(default_factory=dict)


class DemoSession:
    """A model with a cache of its last images. All methods run on the worker's thread."""

    def __init__(self, loaded: LoadedModel, policy: Policy | None = None) -> None:
        """`policy` is what "auto" stands for; None where there is none."""
        self.loaded, self._family, self._policy = loaded, family_of(loaded.model), policy
        self._images: OrderedDict[str, CachedImage] = OrderedDict()

    def look(self, request: DemoRequest, job: ModelJob[DemoEvent]) -> None:
        """Emit `KeptTokens`."""
        cached = self._open_image(request, lambda: job.cancelled)
        inputs = self._prepare_inputs(cached, request)
        key = self._encoding_key(inputs, request)
        with collect_warnings() as notes:
            if key not in cached.encodings and request.encoder.is_whole:
                cached.encodings[key] = encode(self.loaded.model, inputs, methods=[request.method])
            prompt = self._prune(request, inputs, cached.encodings.get(key), explain=True)
        job.emit(self._describe(cached.image, prompt, notes))

    def ask(self, request: DemoRequest, job: ModelJob[DemoEvent], max_new_tokens: int = NEW_TOKENS) -> None:
        """Emit `KeptTokens`, both answers with their pieces and costs, and `Savings`.

        The encoder runs once and its time counts for both answers, unless tiles are left out of the pruned one; the
        overlay's time counts for neither.
        """
        cached, timer = self._open_image(request, lambda: job.cancelled), StageTimer(self.loaded.model.device)
        inputs = self._prepare_inputs(cached, request)
        max_new_tokens = limit_new_tokens(self.loaded.model, inputs, max_new_tokens)
        timer.lap("prompt")
        with collect_warnings() as notes:
            encoded = encode(self.loaded.model, inputs, methods=[request.method])
            timer.lap("encode")
            pruned = self._prune(request, inputs, encoded)
            explained = self._prune(request, inputs, encoded, explain=True)
        cached.encodings[self._encoding_key(inputs, request)] = encoded
        job.emit(self._describe(cached.image, explained, notes))
        seconds = timer.laps["encode"]
        own = seconds if request.encoder.is_whole else pruned.encode_seconds
        small = self._answer("pruned", pruned, own, pruned.report.seconds, job, max_new_tokens)
        whole = replace(request, keep=1.0, encoder=WHOLE)
        unpruned = self._prune(whole, inputs, encoded)  # by law the untouched model's inputs
        large = self._answer("unpruned", unpruned, seconds, 0.0, job, max_new_tokens)
        job.emit(Savings.between(small, large))

    def _open_image(self, request: DemoRequest, is_cancelled: Callable[[], bool]) -> CachedImage:
        cached = self._images.pop(request.key, None)
        if cached is None:
            (image,) = decode_images([request.file], is_cancelled)
            cached = CachedImage(image)
        self._images[request.key] = cached
        while len(self._images) > CACHED_IMAGES:
            self._images.popitem(last=False)
        return cached

    def _prepare_inputs(self, cached: CachedImage, request: DemoRequest) -> Any:
        if cached.prompt is None or cached.prompt[0] != request.question:
            cached.prompt = request.question, make_inputs(self.loaded, [cached.image], [request.question])
        return cached.prompt[1]

    def _encoding_key(self, inputs: Any, request: DemoRequest) -> EncodingKey:
        """What an encoding depends on beside the image. A Q-Former reads the question too (InstructBLIP)."""
        reads_question = any("input_ids" in name for name in self._family.encoder_inputs(self.loaded.model, inputs))
        return resolve(request.method).needs, request.question if reads_question else ""

    def _prune(
        self, request: DemoRequest, inputs: Any, encoded: Encoded | None, *, explain: bool = False
    ) -> PrunedPrompt:
        """The pruned prompt; what is `encoded` is of use where all tiles are."""
        keep = self._policy or "auto" if request.keep == "auto" else request.keep
        options: dict[str, Any] = {"keep": keep, "method": request.method, **vars(request.encoder)}
        whole = encoded if request.encoder.is_whole else None
        return prune_prompt(self.loaded, inputs, **options, encoded=whole, explain=explain)

    def _describe(self, image: Image.Image, prompt: PrunedPrompt, notes: list[str]) -> KeptTokens:
        report = prompt.report
        kept, total = report.kept_count, report.total_count
        cores = [item.core for item in report.items if item.core is not None]
        explained = bool(cores) and kept < total  # nothing was selected if all is kept
        core = sum(int(marks.sum()) for marks in cores) if explained else None
        overlay = look = None
        looks = [item.look for item in report.items if item.look is not None]
        looked = sum(len(indices) for indices in looks) if looks else None
        try:
            overlay = draw_overlay(image, report, self.loaded.processor)
            look = draw_overlay(image, report, self.loaded.processor, "look") if looks else None
        except InputError as error:
            notes = [*notes, str(error)]
        notes = list(dict.fromkeys([*self.loaded.notes, *notes, *report.notes]))
        complement = None if core is None else kept - core
        heat = explained and any(item.relevance is not None for item in report.items)
        reason = next((item.reason for item in report.items if item.reason), None)
        return KeptTokens(
            overlay, kept, total, core, complement, heat, prompt.tokens, report.method, notes, look, looked, reason,
            report.tile_counts,
        )  # fmt: skip

    def _answer(
        self, kind: AnswerKind, prompt: PrunedPrompt, encode_seconds: float, select_seconds: float,
        job: ModelJob[DemoEvent], max_new_tokens: int,
    ) -> AnswerCost:  # fmt: skip
        timer = StageTimer(self.loaded.model.device)
        result = generate_answer(
            self.loaded, prompt.inputs, lambda text: job.emit(AnswerPiece(kind, text)), max_new_tokens=max_new_tokens,
            sampling=SamplingOptions(temperature=0), is_cancelled=lambda: job.cancelled,
        )  # fmt: skip
        timer.lap("all")
        before = encode_seconds + select_seconds
        cost = AnswerCost(
            prompt.report.kept_count, prompt.tokens, encode_seconds, select_seconds, result.prefill_seconds,
            before + result.prefill_seconds, before + timer.laps["all"], result.kv_bytes, result.tokens,
        )  # fmt: skip
        job.emit(AnswerDone(kind, cost, result.finish_reason))
        return cost


def draw_overlay(image: Image.Image, report: Report, processor: Any, step: Step = "kept") -> str:
    """The kept tokens over the image, or those of the first look, as a data URL.

    Raises `InputError` for tokens without a grid.
    """
    out, small = BytesIO(), image.copy()
    small.thumbnail((OVERLAY_SIDE, OVERLAY_SIDE))
    draw(small, report, processor=processor, legend=False, step=step).save(out, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
