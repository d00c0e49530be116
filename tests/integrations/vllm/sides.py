"""The two sides: vLLM inside this process, and transformers, on the same weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

import foveate
from foveate.integrations import vllm as plugin
from foveate.runtime.load import load, quiet

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1",
}  # fmt: skip
NEW = 12


@dataclass(frozen=True)
class Answer:
    """Greedy tokens, the log-probabilities returned (one mapping per token), and the length of the prompt."""

    tokens: list[int]
    logprobs: list[dict[int, float]]
    prompt: int
    cached: int = 0


class Reference:
    """`prune_inputs` and stock `generate`."""

    def __init__(self, folder: Any) -> None:
        with quiet():
            loaded = load(str(folder))
        self.model, self.processor = loaded.model.float(), loaded.processor

    def ids(self, chat: list[dict]) -> list[int]:
        text = self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def inputs(self, chat: list[dict], images: list[Image.Image]) -> Any:
        text = self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return self.processor(text=[text], images=images or None, return_tensors="pt", add_special_tokens=False)

    @torch.no_grad()
    def answer(self, chat: list[dict], images: list[Image.Image], **settings: Any) -> Answer:
        short = foveate.prune_inputs(self.model, self.inputs(chat, images), **settings)
        options = {"max_new_tokens": NEW, "do_sample": False, "output_scores": True, "return_dict_in_generate": True}
        out = self.model.generate(**short, **options)
        length = short["input_ids"].shape[1]
        scores = [dict(enumerate(row[0].log_softmax(-1).tolist())) for row in out.scores]
        return Answer(out.sequences[0, length:].tolist(), scores, length)


class Engine:
    """vLLM with the plug-in, or with `stock=True` without."""

    def __init__(self, folder: Any, *, reference: Reference, stock: bool = False, **settings: Any) -> None:
        from vllm import LLM

        pruning = {"keep": 0.3} | {
            name: settings.pop(name)
            for name in ("keep", "method", "turn", "reuse", "feature_cache_gib")
            if name in settings
        }
        options = {
            "dtype": "float32", "enforce_eager": True, "distributed_executor_backend": "uni", "max_model_len": 1024,
            "max_num_seqs": 8, "limit_mm_per_prompt": {"image": 4, "video": 1}, "block_size": 32, "seed": 0,
        }  # fmt: skip
        overrides = {} if stock else plugin.overrides(str(folder), **pruning)
        overrides |= settings.pop("text", {})
        self.llm = LLM(str(folder), hf_overrides=overrides, **{**options, **settings})
        self.reference = reference

    @property
    def model(self) -> Any:
        """The model that runs inside."""
        core = self.llm.llm_engine.engine_core.engine_core
        return core.model_executor.driver_worker.worker.model_runner.get_model()

    @property
    def features(self) -> Any:
        """Its store of encoded images."""
        return self.model._features

    def prompt(self, chat: list[dict], images: list[Image.Image], **settings: Any) -> dict[str, Any]:
        prompt: dict[str, Any] = {"prompt_token_ids": self.reference.ids(chat)}
        if images:
            prompt["multi_modal_data"] = {"image": images}
        return prompt | ({"mm_processor_kwargs": {"foveate": settings}} if settings else {})

    def answers(self, prompts: list[dict[str, Any]]) -> list[Answer]:
        from vllm import SamplingParams

        params = SamplingParams(temperature=0, max_tokens=NEW, logprobs=5)
        answers = []
        for out in self.llm.generate(prompts, params, use_tqdm=False):
            output = out.outputs[0]
            scores = [{i: entry.logprob for i, entry in step.items()} for step in output.logprobs]
            cached = out.num_cached_tokens or 0
            answers.append(Answer(list(output.token_ids), scores, len(out.prompt_token_ids), cached))
        return answers

    def answer(self, chat: list[dict], images: list[Image.Image], **settings: Any) -> Answer:
        return self.answers([self.prompt(chat, images, **settings)])[0]

    def check_answer(self, chat: list[dict], images: list[Image.Image], **settings: Any) -> None:
        """The answer is that of `prune_inputs` and transformers."""
        expected = self.reference.answer(chat, images, **{"keep": 0.3, **settings})
        assert_same(self.answer(chat, images, **settings), expected)

    def clear_caches(self) -> None:
        """Empty the caches of images and of the KV."""
        self.llm.llm_engine.reset_prefix_cache()
        self.llm.llm_engine.reset_mm_cache()
        self.llm.llm_engine.reset_encoder_cache()


def assert_same(answer: Answer, expected: Answer) -> None:
    """The same greedy tokens with the same probabilities, after a prompt of the same length."""
    assert answer.prompt == expected.prompt
    assert answer.tokens == expected.tokens
    for step, (ours, theirs) in enumerate(zip(answer.logprobs, expected.logprobs, strict=True)):
        for token, score in ours.items():
            assert abs(score - theirs[token]) < 2e-3, f"step {step}, token {token}: {score}, not {theirs[token]}"
