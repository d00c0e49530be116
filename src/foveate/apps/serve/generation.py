"""Prune one prompt, and generate its answer as pieces of text, with timings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import StoppingCriteriaList, TextStreamer

from foveate.apps.encoder import prune_timed
from foveate.apps.serve.errors import RequestError
from foveate.models.cache import cache_of
from foveate.models.generation import read_stop_ids
from foveate.pipeline.report import PrunedInputs, Report
from foveate.runtime.context import context_length, last_position
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.reply import StopWhen
from foveate.runtime.timing import StageTimer, kv_bytes

GREEDY = 1e-5  # temperatures below it would overflow the logits, and always select the likeliest token
FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is drawn. None is the checkpoint's own setting; temperature 0 is greedy."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None

    def generate_options(self) -> dict[str, Any]:
        """The keyword arguments for `generate`."""
        if self.temperature is not None and self.temperature < GREEDY:
            return {"do_sample": False}
        options = {"temperature": self.temperature, "top_p": self.top_p}
        options = {name: value for name, value in options.items() if value is not None}
        return {"do_sample": True, **options} if options else {}


@dataclass(frozen=True, eq=False)
class PrunedPrompt:
    """A pruned prompt, the seconds of the vision encoder, and the number of tokens that the language model reads.

    `reused` of its images were encoded before.
    """

    inputs: PrunedInputs
    encode_seconds: float
    tokens: int
    reused: int = 0

    @property
    def report(self) -> Report:
        """What was kept."""
        return self.inputs.report


@dataclass(frozen=True)
class GenerationResult:
    """Number of new tokens, why generation ended, seconds of the prefill, and bytes of the KV cache after it."""

    tokens: int
    finish_reason: FinishReason
    prefill_seconds: float
    kv_bytes: int


def prune_prompt(
    loaded: LoadedModel, inputs: Mapping[str, Any], *, encoded: Any = None, **settings: Any
) -> PrunedPrompt:
    """`prune_inputs` with the encoder timed separately. Raises the same errors."""
    pruned, seconds, _ = prune_timed(loaded.model, inputs, encoded, **settings)
    mask = pruned.get("attention_mask")
    tokens = pruned["input_ids"].shape[1] if mask is None else int(mask.bool().sum())
    return PrunedPrompt(pruned, seconds, tokens)


def limit_new_tokens(model: Any, inputs: Mapping[str, Any], requested: int, *, required: int = 1) -> int:
    """`requested` new tokens, or as many as fit behind the prompt. Raises `RequestError` if `required` do not fit."""
    context, length = context_length(model), last_position(inputs) + 1
    if context is None:
        return requested
    if length + required > context:
        message = f"The prompt ends at position {length} of the {context} for prompt and answer: make it shorter."
        raise RequestError(400, message, code="context_length_exceeded", param="messages")
    return min(requested, context - length)


def generate_answer(
    loaded: LoadedModel, inputs: Mapping[str, Any], on_text: Callable[[str], None], *, max_new_tokens: int,
    stop: Sequence[str] = (), sampling: SamplingOptions | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> GenerationResult:  # fmt: skip
    """Generate the answer to one prompt and pass its text to `on_text` piece by piece, up to the first of `stop`."""
    model, sampling = loaded.model, sampling or SamplingOptions()
    streamer = TokenStreamer(loaded.processor.tokenizer, StopFilter(on_text, stop))
    criteria = StoppingCriteriaList([StopWhen(lambda: streamer.filter.done or is_cancelled())])
    seeded = torch.random.fork_rng(enabled=sampling.seed is not None)
    options = {"max_new_tokens": max_new_tokens, "num_beams": 1, **sampling.generate_options()}
    if options.get("do_sample") and model.generation_config.top_k is None:
        options["top_k"] = 0  # transformers would draw from 50 tokens, OpenAI's protocol draws from all
    with time_prefill(model) as prefill, seeded:
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        model.generate(**inputs, streamer=streamer, stopping_criteria=criteria, **options)
    if streamer.filter.done or streamer.last_token in read_stop_ids(model.config, model.generation_config):
        reason: FinishReason = "stop"
    else:
        reason = "length" if streamer.count >= max_new_tokens else "cancelled"
    return GenerationResult(streamer.count, reason, prefill.seconds, prefill.kv_bytes)


@dataclass
class StopFilter:
    """Forwards text up to the first stop string; holds back a suffix that may be the beginning of one."""

    on_text: Callable[[str], None]
    stop: Sequence[str]
    pending: str = ""
    done: bool = False

    def preview(self, text: str) -> None:
        """Check text that may still change; it is used only if it completes a stop string."""
        if any(stop in self.pending + text for stop in self.stop):
            self.add(text)

    def add(self, text: str, *, end: bool = False) -> None:
        """Add final text; `end` marks the last piece."""
        if self.done:
            return
        self.pending += text
        stops = [at for at in map(self.pending.find, self.stop) if at >= 0]
        if stops:
            self.done, safe = True, min(stops)
        else:
            safe = len(self.pending) if end else len(self.pending) - self._partial_stop()
        if safe:
            self.on_text(self.pending[:safe])
        self.pending = "" if self.done else self.pending[safe:]

    def _partial_stop(self) -> int:
        """The length of the longest suffix that begins a stop string."""
        sizes = (size for s in self.stop for size in range(len(s) - 1, 0, -1) if self.pending.endswith(s[:size]))
        return max(sizes, default=0)


class TokenStreamer(TextStreamer):
    """Counts new tokens and passes their text to a `StopFilter`; transformers decodes whole words."""

    def __init__(self, tokenizer: Any, stop_filter: StopFilter) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.filter, self.count, self.last_token = stop_filter, 0, -1

    def put(self, value: Tensor) -> None:
        """Add new tokens; the first call brings the prompt."""
        if not self.next_tokens_are_prompt:
            self.count, self.last_token = self.count + value.numel(), int(value.flatten()[-1])
        super().put(value)
        if self.filter.stop:  # the streamer waits for the end of a word, but a stop string may end inside one
            text = self.tokenizer.decode(self.token_cache, **self.decode_kwargs)
            self.filter.preview(str(text)[self.print_len :])

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Receive text that further tokens do not change."""
        self.filter.add(text, end=stream_end)


@dataclass
class PrefillTiming:
    """Seconds of the model's first forward pass, and the bytes of the cache after it."""

    seconds: float = 0.0
    kv_bytes: int = 0


@contextmanager
def time_prefill(model: Any) -> Iterator[PrefillTiming]:
    """Time the model's next forward pass, which in `generate` is the prefill."""
    timing, timers = PrefillTiming(), list[StageTimer]()

    def before(_module: Any, _arguments: Any) -> None:
        timers.append(StageTimer(model.device))

    def after(_module: Any, _arguments: Any, output: Any) -> None:
        timers[0].lap("prefill")
        timing.seconds, timing.kv_bytes = timers[0].laps["prefill"], kv_bytes(cache_of(output))
        remove()

    def remove() -> None:
        for hook in hooks:
            hook.remove()

    hooks = [model.register_forward_pre_hook(before), model.register_forward_hook(after)]
    try:
        yield timing
    finally:
        remove()
