"""`prune` and `answer`: one prompt through the pruned model, its answer told piece by piece, and what both took."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList, TextStreamer

from foveate.method import Method
from foveate.models import family_of
from foveate.models.cache import cache_of
from foveate.pipeline.encode import encode
from foveate.pipeline.prune import Positions, PrunedInputs, Report, prune_inputs, stop_ids
from foveate.runtime.load import LoadedModel
from foveate.runtime.timing import StageTimer, kv_bytes

GREEDY = 1e-5  # temperatures below it would overflow the logits, and always give the likeliest token
Reason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn: None leaves it to the checkpoint's own generation settings, 0 is greedy."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None

    def settings(self) -> dict[str, Any]:
        """As `generate` takes them."""
        if self.temperature is not None and self.temperature < GREEDY:
            return {"do_sample": False}
        given = {"temperature": self.temperature, "top_p": self.top_p}
        found = {name: value for name, value in given.items() if value is not None}
        return {"do_sample": True, **found} if found else {}


@dataclass(frozen=True, eq=False)
class Pruned:
    """A prompt that is ready for the language model, and the seconds of the vision encoder.

    `tokens` are what the language model reads.
    """

    inputs: PrunedInputs
    encode: float
    tokens: int

    @property
    def report(self) -> Report:
        """What was kept."""
        return self.inputs.report


@dataclass(frozen=True)
class Answered:
    """How an answer went: its new tokens, why it ended, seconds of the prefill, and the bytes of its KV cache."""

    tokens: int
    reason: Reason
    prefill: float
    kv_bytes: int


def prune(
    loaded: LoadedModel, inputs: Mapping[str, Any], *, keep: int | float, method: str | Method, positions: Positions,
    encoded: Any = None, explain: bool = False,
) -> Pruned:  # fmt: skip
    """`prune_inputs` with the encoder's time apart. Raises a `FoveateError` as that does."""
    model, clock = loaded.model, StageTimer(loaded.model.device)
    family = family_of(model)
    if encoded is None and any(modality != "audio" for modality in family.present(inputs)):
        encoded = encode(model, inputs, methods=[method])
    clock.lap("encode")
    words = family.words(inputs) if encoded is not None else inputs
    short = prune_inputs(model, words, keep=keep, method=method, positions=positions, encoded=encoded, explain=explain)
    mask = short.get("attention_mask")
    tokens = short["input_ids"].shape[1] if mask is None else int(mask.bool().sum())
    return Pruned(short, clock.laps["encode"], tokens)


def context(model: Any) -> int | None:
    """How many tokens the language model was made for, where its configuration says so."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def last_position(inputs: Mapping[str, Any]) -> int:
    """The place of the prompt's last token."""
    places = inputs.get("position_ids")
    return int(inputs["input_ids"].shape[1] if places is None else places.max() + 1) - 1


def answer(
    loaded: LoadedModel, inputs: Mapping[str, Any], say: Callable[[str], None], *, new: int,
    stop: Sequence[str] = (), sampling: Sampling | None = None, cancelled: Callable[[], bool] = lambda: False,
) -> Answered:  # fmt: skip
    """Generate at most `new` tokens for one prompt and `say` their text as it comes, up to the first of `stop`."""
    model, sampling = loaded.model, sampling or Sampling()
    telling = Teller(loaded.processor.tokenizer, Cut(say, stop))
    criteria = StoppingCriteriaList([Halt(lambda: telling.cut.done or cancelled())])
    seeded = torch.random.fork_rng(enabled=sampling.seed is not None)
    with first_forward(model) as prefill, seeded:
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        model.generate(
            **inputs, streamer=telling, stopping_criteria=criteria, max_new_tokens=new, num_beams=1,
            **sampling.settings(),
        )  # fmt: skip
    if telling.cut.done or telling.last in stop_ids(model):
        reason: Reason = "stop"
    else:
        reason = "length" if telling.count >= new else "cancelled"
    return Answered(telling.count, reason, prefill.seconds, prefill.kv_bytes)


@dataclass
class Cut:
    """Hands text on up to the first stop string, and holds back what may be the beginning of one."""

    say: Callable[[str], None]
    stop: Sequence[str]
    held: str = ""
    done: bool = False

    def look(self, text: str) -> None:
        """Text that may still change: it counts only if a stop string is in it."""
        if any(word in self.held + text for word in self.stop):
            self.add(text)

    def add(self, text: str, *, end: bool = False) -> None:
        """More text; with `end` there is no more."""
        if self.done:
            return
        self.held += text
        ends = [at for at in (self.held.find(word) for word in self.stop) if at >= 0]
        if ends:
            self.done, safe = True, min(ends)
        else:
            safe = len(self.held) if end else len(self.held) - self._begun()
        if safe:
            self.say(self.held[:safe])
        self.held = "" if self.done else self.held[safe:]

    def _begun(self) -> int:
        """How many of the last letters a stop string begins with."""
        sizes = (size for word in self.stop for size in range(len(word) - 1, 0, -1) if self.held.endswith(word[:size]))
        return max(sizes, default=0)


class Teller(TextStreamer):
    """Counts tokens and hands their text on; transformers decodes them, and knows when a word is complete."""

    def __init__(self, tokenizer: Any, cut: Cut) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.cut, self.count, self.last = cut, 0, -1

    def put(self, value: Tensor) -> None:
        """New tokens, after the prompt."""
        if not self.next_tokens_are_prompt:
            self.count, self.last = self.count + value.numel(), int(value.flatten()[-1])
        super().put(value)
        if self.cut.stop:  # the streamer waits for the end of a word, a stop string need not
            waiting = self.tokenizer.decode(self.token_cache, **self.decode_kwargs)
            self.cut.look(str(waiting)[self.print_len :])

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Text that further tokens do not change."""
        self.cut.add(text, end=stream_end)


class Halt(StoppingCriteria):
    """Asked after every token whether to go on."""

    def __init__(self, halted: Callable[[], bool]) -> None:
        self.halted = halted

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG002
        """(b,): the same for every row."""
        return torch.full((input_ids.shape[0],), self.halted(), dtype=torch.bool, device=input_ids.device)


@dataclass
class Prefill:
    """Seconds until the model's first forward pass was through, and the bytes of the cache that it left."""

    seconds: float = 0.0
    kv_bytes: int = 0
    seen: bool = field(default=False, repr=False)


@contextmanager
def first_forward(model: Any) -> Iterator[Prefill]:
    """Watch the model's next forward pass, which in `generate` is the prefill."""
    found, clocks = Prefill(), list[StageTimer]()

    def before(_module: Any, _arguments: Any) -> None:
        if not clocks:
            clocks.append(StageTimer(model.device))

    def after(_module: Any, _arguments: Any, output: Any) -> None:
        if not found.seen:
            clocks[0].lap("prefill")
            found.seconds, found.kv_bytes, found.seen = clocks[0].laps["prefill"], kv_bytes(cache_of(output)), True

    hooks = [model.register_forward_pre_hook(before), model.register_forward_hook(after)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
