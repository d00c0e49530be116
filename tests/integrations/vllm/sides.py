"""The two sides: vLLM inside this process, and transformers, on the same weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers.video_utils import VideoMetadata

import foveate
from foveate.integrations import vllm as plugin
from foveate.runtime.load import load, quiet

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1",
}  # fmt: skip
NEW = 12
Frames = NDArray[np.uint8]  # (t, h, w, 3)


def describe_clip(frames: Frames) -> dict[str, Any]:
    """Two frames a second, none left out."""
    count = len(frames)
    return {"fps": 2.0, "total_num_frames": count, "frames_indices": list(range(count)), "duration": count / 2}


@dataclass(frozen=True)
class Answer:
    """Greedy tokens, the log-probabilities returned (one mapping per token), and the length of the prompt."""

    tokens: list[int]
    logprobs: list[dict[int, float]]
    prompt: int
    cached: int = 0


def number_as_published(
    config: Any, input_ids: Tensor, mm_token_type_ids: Tensor, image_grid_thw: Any = None, video_grid_thw: Any = None,
    second_per_grid_ts: Any = None, attention_mask: Any = None, **_: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Positions (3, 1, n) in which the text after a clip is behind its last frame, as Qwen2.5-VL was trained.

    transformers 5.3 and later number it inside the clip's times; vLLM and transformers before do as here.
    """
    assert attention_mask is None or attention_mask.bool().all()
    merge, speed = config.vision_config.spatial_merge_size, getattr(config.vision_config, "tokens_per_second", 1)
    grids = {
        1: iter(image_grid_thw if image_grid_thw is not None else ()),
        2: iter(video_grid_thw if video_grid_thw is not None else ()),
    }
    seconds = iter(() if second_per_grid_ts is None else second_per_grid_ts)
    places: list[tuple[int, int, int]] = []
    kinds = mm_token_type_ids[0].tolist()
    while len(places) < len(kinds):
        start, kind = max(map(max, places), default=-1) + 1, kinds[len(places)]
        if kind == 0:
            places.append((start, start, start))
            continue
        t, rows, columns = next(grids[kind]).tolist()
        pace = float(next(seconds, 1 / speed)) * speed if kind == 2 else 1
        cells = product(range(t), range(rows // merge), range(columns // merge))
        places += [(start + int(frame * pace), start + row, start + column) for frame, row, column in cells]
    axes = torch.tensor(places).T[:, None]
    return axes, axes.max()[None, None] + 1 - input_ids.shape[1]


class Reference:
    """`prune_inputs` and stock `generate`."""

    def __init__(self, folder: Any) -> None:
        with quiet():
            loaded = load(str(folder))
        self.model, self.processor = loaded.model.float(), loaded.processor
        if self.model.config.model_type in ("qwen2_vl", "qwen2_5_vl"):
            self.model.model.get_rope_index = partial(number_as_published, self.model.config)

    def ids(self, chat: list[dict]) -> list[int]:
        text = self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def inputs(self, chat: list[dict], images: list[Image.Image], clips: Sequence[Frames] = ()) -> Any:
        text = self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        videos: dict[str, Any] = {}
        if clips:
            videos = {"videos": list(clips), "do_sample_frames": False}
            videos["video_metadata"] = [VideoMetadata(**describe_clip(clip)) for clip in clips]
        return self.processor(
            text=[text], images=images or None, return_tensors="pt", add_special_tokens=False, **videos
        )

    @torch.no_grad()
    def answer(
        self, chat: list[dict], images: list[Image.Image], clips: Sequence[Frames] = (), **settings: Any
    ) -> Answer:
        short = foveate.prune_inputs(self.model, self.inputs(chat, images, clips), **settings)
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
            "max_num_seqs": 8, "limit_mm_per_prompt": {"image": 4, "video": 2}, "block_size": 32, "seed": 0,
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

    def prompt(
        self, chat: list[dict], images: list[Image.Image], clips: Sequence[Frames] = (), **settings: Any
    ) -> dict[str, Any]:
        prompt: dict[str, Any] = {"prompt_token_ids": self.reference.ids(chat)}
        with_times = "qwen" in self.reference.model.config.model_type
        videos = [(clip, describe_clip(clip)) if with_times else clip for clip in clips]
        if images or videos:
            prompt["multi_modal_data"] = {k: v for k, v in (("image", images), ("video", videos)) if v}
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

    def answer(
        self, chat: list[dict], images: list[Image.Image], clips: Sequence[Frames] = (), **settings: Any
    ) -> Answer:
        return self.answers([self.prompt(chat, images, clips, **settings)])[0]

    def check_answer(
        self, chat: list[dict], images: list[Image.Image], clips: Sequence[Frames] = (), **settings: Any
    ) -> None:
        """The answer is that of `prune_inputs` and transformers."""
        expected = self.reference.answer(chat, images, clips, **{"keep": 0.3, **settings})
        assert_same(self.answer(chat, images, clips, **settings), expected)

    def clear_caches(self) -> None:
        """Empty the caches of images and of the KV."""
        self.llm.llm_engine.reset_prefix_cache()
        self.llm.llm_engine.reset_mm_cache()
        self.llm.llm_engine.reset_encoder_cache()

    def stop(self) -> None:
        """End it, with its process groups."""
        self.llm.llm_engine.engine_core.shutdown()


class Engines:
    """Engines one after another: a start takes seconds, and the end of an engine ends the groups of its process."""

    def __init__(self, folder: Callable[[str], Any], reference: Callable[[str], Reference]) -> None:
        self._folder, self._reference = folder, reference
        self._running: Engine | None = None
        self._settings: tuple[str, dict[str, Any]] | None = None

    def start(self, family: str, **settings: Any) -> Engine:
        """The running engine if it is of this family and these settings; else another one in its place."""
        if self._running is None or self._settings != (family, settings):
            self.stop()
            self._running = Engine(self._folder(family), reference=self._reference(family), **settings)
            self._settings = family, settings
        return self._running

    def stop(self) -> None:
        """End the running engine."""
        if self._running:
            self._running.stop()
        self._running = None


def assert_same(answer: Answer, expected: Answer) -> None:
    """The same greedy tokens with the same probabilities, after a prompt of the same length."""
    assert answer.prompt == expected.prompt
    assert answer.tokens == expected.tokens
    for step, (ours, theirs) in enumerate(zip(answer.logprobs, expected.logprobs, strict=True)):
        for token, score in ours.items():
            assert abs(score - theirs[token]) < 2e-3, f"step {step}, token {token}: {score}, not {theirs[token]}"
