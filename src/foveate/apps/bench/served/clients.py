"""Clients that send their next request when the last one is answered, to an engine in this process."""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foveate.integrations.vllm.engine import require_vllm

IN_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
BLOCK = 32  # tokens; attention on a CPU requires it


@dataclass
class VllmLoad:
    """A measurement with a number of clients.

    `seconds` of all requests, `first` seconds to the first token of each request, the `prompt`'s tokens, and the most
    KV `blocks` in use at a time.
    """

    seconds: float = 0.0
    first: list[float] = field(default_factory=list)
    prompt: int = 0
    blocks: int = 0


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
        self,
        prompts: Sequence[Mapping[str, Any]],
        clients: int,
        new_tokens: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> VllmLoad:
        """Answer all prompts, at most `clients` at a time, with empty caches at the start; `clock` gives seconds."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True)
        self._reset_caches()
        waiting, sent, load = list(enumerate(prompts)), dict[str, float](), VllmLoad()
        started = clock()
        open_requests = 0
        while waiting or open_requests:
            while waiting and open_requests < clients:
                number, prompt = waiting.pop(0)
                sent[str(number)] = clock()
                self.engine.add_request(str(number), prompt, params)
                open_requests += 1
            outputs = self.engine.step()
            now = clock()
            load.blocks = max(load.blocks, self._count_blocks())
            for output in outputs:
                if output.request_id in sent and output.outputs[0].token_ids:
                    load.first.append(now - sent.pop(output.request_id))
                if output.finished:
                    open_requests -= 1
                    load.prompt = len(output.prompt_token_ids)
        load.seconds = clock() - started
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


def count_blocks(prompt: int, new_tokens: int) -> int:
    """KV blocks of one request."""
    return math.ceil((prompt + new_tokens) / BLOCK)
