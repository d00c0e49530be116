"""What the page has the model do: show which tokens a question keeps, and answer it with those alone and with all."""

from __future__ import annotations

import base64
from collections import OrderedDict
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from typing import Any

from PIL import Image

from foveate.apps.serve.answer import Pruned, Sampling, answer, context, last_position, prune
from foveate.apps.serve.errors import Refused
from foveate.apps.serve.worker import Job
from foveate.errors import InputError
from foveate.method import resolve
from foveate.models import family_of
from foveate.pipeline.encode import Encoded, encode
from foveate.pipeline.prune import Report
from foveate.runtime.conversation import make_inputs
from foveate.runtime.files import decode_image
from foveate.runtime.load import LoadedModel
from foveate.runtime.timing import StageTimer
from foveate.runtime.warnings import collect_warnings
from foveate.viz import draw

REMEMBERED = 3  # pictures, decoded and encoded
DRAWN = 1024  # pixels of an overlay's longer side, at most
Need = tuple[frozenset[str], str]  # extras, and the question where the encoder reads it
NEW_TOKENS = 256  # of an answer, at most


@dataclass(frozen=True)
class Asked:
    """A question about a picture file that was looked at, and how to prune; `key` stands for the file."""

    file: bytes
    key: str
    question: str
    keep: float
    method: str


@dataclass(eq=False)
class Shown:
    """A picture of late: decoded, in its last question's prompt, and encoded, by what methods needed."""

    image: Image.Image
    prompt: tuple[str, Any] | None = None
    encoded: dict[Need, Encoded] = field(default_factory=dict)


@dataclass(frozen=True)
class Spent:
    """What one answer took: tokens of the picture and of the whole prompt, seconds, and bytes of the KV cache.

    `first_token` = `encode` + `select` + `prefill`; `seconds` are to the last of the `new` tokens.
    """

    visual_tokens: int
    tokens: int
    encode: float
    select: float
    prefill: float
    first_token: float
    seconds: float
    kv_bytes: int
    new: int


class Desk:
    """The model with the pictures it saw last. Everything here runs on the worker's thread."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded, self._family = loaded, family_of(loaded.model)
        self._shown: OrderedDict[str, Shown] = OrderedDict()

    def look(self, asked: Asked, job: Job) -> None:
        """Tells one event: what the question keeps."""
        shown = self._open(asked)
        inputs = self._prompt(shown, asked)
        need = self._need(inputs, asked)
        with collect_warnings() as notes:
            if need not in shown.encoded:
                shown.encoded[need] = encode(self.loaded.model, inputs, methods=[asked.method])
            pruned = self._pruned(asked, inputs, shown.encoded[need], explain=True)
        job.emit({"type": "look", **self._view(shown, pruned, notes)})

    def ask(self, asked: Asked, job: Job, new: int = NEW_TOKENS) -> None:
        """Tells what is kept, the pruned answer in pieces and its cost, the unpruned one, and what was saved.

        The encoder runs once, and its time counts for both; the picture that is drawn costs neither of them anything.
        """
        shown, clock = self._open(asked), StageTimer(self.loaded.model.device)
        inputs = self._prompt(shown, asked)
        new = self._room(inputs, new)
        clock.lap("prompt")
        with collect_warnings() as notes:
            encoded = encode(self.loaded.model, inputs, methods=[asked.method])
            clock.lap("encode")
            short = self._pruned(asked, inputs, encoded)
            why = self._pruned(asked, inputs, encoded, explain=True)
        shown.encoded[self._need(inputs, asked)] = encoded
        job.emit({"type": "look", **self._view(shown, why, notes)})
        seconds = clock.laps["encode"]
        pruned = self._answered("pruned", short, seconds, short.report.seconds, job, new)
        whole = self._pruned(replace(asked, keep=1.0), inputs, encoded)  # the untouched model's inputs, by law
        unpruned = self._answered("unpruned", whole, seconds, 0.0, job, new)
        job.emit({"type": "saved", "saved": saved(pruned, unpruned)})

    def _open(self, asked: Asked) -> Shown:
        shown = self._shown.pop(asked.key, None) or Shown(decode_image(asked.file))
        self._shown[asked.key] = shown
        while len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)
        return shown

    def _prompt(self, shown: Shown, asked: Asked) -> Any:
        if shown.prompt is None or shown.prompt[0] != asked.question:
            shown.prompt = asked.question, make_inputs(self.loaded, [shown.image], [asked.question])
        return shown.prompt[1]

    def _need(self, inputs: Any, asked: Asked) -> Need:
        """What an encoded picture is good for. A Q-Former reads the question too (InstructBLIP)."""
        reads_words = any("input_ids" in name for name in self._family.encoder_inputs(self.loaded.model, inputs))
        return resolve(asked.method).needs, asked.question if reads_words else ""

    def _pruned(self, asked: Asked, inputs: Any, encoded: Encoded, *, explain: bool = False) -> Pruned:
        return prune(
            self.loaded, inputs, keep=asked.keep, method=asked.method, positions="original", encoded=encoded,
            explain=explain,
        )  # fmt: skip

    def _room(self, inputs: Any, new: int) -> int:
        most, length = context(self.loaded.model), last_position(inputs) + 1
        if most is not None and length >= most:
            raise Refused(400, f"The prompt has {length} tokens, and the model takes {most}: ask a shorter question.")
        return new if most is None else min(new, most - length)

    def _view(self, shown: Shown, pruned: Pruned, notes: list[str]) -> dict[str, Any]:
        report = pruned.report
        kept, total = sum(map(len, report.kept)), sum(report.total)
        told = bool(report.core) and kept < total  # where all is kept nothing was chosen
        core = sum(int(marks.sum()) for marks in report.core) if told else None
        overlay = None
        try:
            overlay = drawn(shown.image, report, self.loaded.processor)
        except InputError as error:
            notes = [*notes, str(error)]
        return {
            "overlay": overlay, "kept": kept, "total": total, "core": core,
            "complement": None if core is None else kept - core, "heat": told and _has_map(report),
            "tokens": pruned.tokens, "method": report.method,
            "notes": list(dict.fromkeys([*self.loaded.notes, *notes, *report.notes])),
        }  # fmt: skip

    def _answered(self, which: str, pruned: Pruned, encoding: float, select: float, job: Job, new: int) -> Spent:
        def say(text: str) -> None:
            job.emit({"type": "piece", "answer": which, "text": text})

        clock, inputs = StageTimer(self.loaded.model.device), pruned.inputs
        found = answer(
            self.loaded, inputs, say, new=new, sampling=Sampling(temperature=0), cancelled=lambda: job.cancelled
        )
        clock.lap("all")
        ready = encoding + select
        spent = Spent(
            sum(map(len, pruned.report.kept)), pruned.tokens, encoding, select, found.prefill, ready + found.prefill,
            ready + clock.laps["all"], found.kv_bytes, found.tokens,
        )  # fmt: skip
        job.emit({"type": "cost", "answer": which, "cost": asdict(spent), "reason": found.reason})
        return spent


def saved(pruned: Spent, unpruned: Spent) -> dict[str, float]:
    """How many times less the pruned answer took, by the names of `Spent`; what took nothing has no ratio."""
    small, large = asdict(pruned), asdict(unpruned)
    return {name: large[name] / small[name] for name in small if name != "new" and small[name] and large[name]}


def _has_map(report: Report) -> bool:
    return any(scores is not None for scores in report.relevance)


def drawn(image: Image.Image, report: Report, processor: Any) -> str:
    """The kept tokens over the picture, as a data URL. Raises `InputError` for tokens that lie on no raster."""
    out, small = BytesIO(), image.copy()
    small.thumbnail((DRAWN, DRAWN))
    draw(small, report, processor=processor, legend=False).save(out, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
