"""Answers by vLLM, which prunes by foveate's plug-in and does not report how many tokens it kept."""

import os
from collections.abc import Sequence
from typing import Any

from PIL import Image

from foveate.apps.batch.engines.base import BatchReply, make_probe
from foveate.apps.batch.settings import BatchSettings
from foveate.integrations.vllm import overrides
from foveate.integrations.vllm.loading import join_options
from foveate.runtime.conversation import check_question
from foveate.runtime.load import locate, read_config

# "0": vLLM runs in this process alone. Errors arrive as they are, and a worker that dies leaves nothing on its GPU.
MULTIPROCESSING = "VLLM_ENABLE_V1_MULTIPROCESSING"
OPTIONS: dict[str, Any] = {
    "distributed_executor_backend": "uni",
    "max_model_len": -1,  # as long as memory allows
    "limit_mm_per_prompt": {"image": 1},
}


class VllmEngine:
    """vLLM's own scheduler splits a batch: the larger the batch, the better."""

    notes: Sequence[str] = ()

    def __init__(self, settings: BatchSettings) -> None:
        """Start vLLM. Raises what it raises, and a `FoveateError` where foveate does not prune inside it."""
        os.environ.setdefault(MULTIPROCESSING, "0")
        from vllm import LLM, SamplingParams

        loading = settings.loading
        pruned = overrides(settings.model, **settings.pruning, revision=loading.revision)
        where = locate(settings.model)
        self._llm = LLM(where, hf_overrides=pruned, **{**OPTIONS, **join_options(loading, settings.options)})
        self._placeholder = self._llm.get_tokenizer().convert_ids_to_tokens(read_config(where, loading).image_token_id)
        self._greedy = SamplingParams(temperature=0.0, max_tokens=settings.max_new_tokens)
        self.answer(*make_probe())

    def answer(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[BatchReply]:
        """One batch. Raises what vLLM raises, and `InputError` for a question that holds an image placeholder."""
        for question in questions:
            check_question(question, self._placeholder)
        chats = [_make_chat(image, question) for image, question in zip(images, questions, strict=True)]
        outputs = self._llm.chat(chats, self._greedy, use_tqdm=False)
        return [BatchReply(output.outputs[0].text.strip(), None, None) for output in outputs]


def _make_chat(image: Image.Image, question: str) -> list[dict[str, object]]:
    content = [{"type": "image_pil", "image_pil": image}, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]
