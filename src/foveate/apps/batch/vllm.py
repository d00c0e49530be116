"""Answers by vLLM, which prunes by the vLLM plug-in and does not tell how many tokens it kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from PIL import Image

from foveate.apps.batch.engine import Reply, probe
from foveate.apps.batch.settings import Settings
from foveate.integrations.vllm import overrides
from foveate.runtime.conversation import check_question
from foveate.runtime.load import locate, read_config

# In this process alone: errors come as they are, and a worker that dies leaves nothing behind on its GPU.
IN_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"
OPTIONS: dict[str, Any] = {
    "distributed_executor_backend": "uni",
    "max_model_len": -1,  # as long as memory allows
    "limit_mm_per_prompt": {"image": 1},
}


class VllmEngine:
    """vLLM's own scheduler takes a batch apart as it likes: the larger the batch, the better."""

    notes: Sequence[str] = ()

    def __init__(self, settings: Settings) -> None:
        """Start vLLM. Raises what it raises, and a `FoveateError` where foveate does not prune inside it."""
        os.environ.setdefault(IN_PROCESS, "0")
        from vllm import LLM, SamplingParams

        pruned = overrides(settings.model, keep=settings.keep, method=settings.method, positions=settings.positions)
        where = locate(settings.model)
        self._llm = LLM(where, hf_overrides=pruned, **{**OPTIONS, **settings.options})
        self._placeholder = self._llm.get_tokenizer().convert_ids_to_tokens(read_config(where).image_token_id)
        self._greedy = SamplingParams(temperature=0.0, max_tokens=settings.max_new_tokens)
        probe(self)

    def answer(self, pictures: Sequence[Image.Image], questions: Sequence[str]) -> list[Reply]:
        """One batch. Raises what vLLM raises, and `InputError` for a question that holds a picture's placeholder."""
        for question in questions:
            check_question(question, self._placeholder)
        turns = [_turn(picture, question) for picture, question in zip(pictures, questions, strict=True)]
        found = self._llm.chat(turns, self._greedy, use_tqdm=False)
        return [Reply(each.outputs[0].text.strip(), None, None) for each in found]


def _turn(picture: Image.Image, question: str) -> list[dict[str, object]]:
    content = [{"type": "image_pil", "image_pil": picture}, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]
