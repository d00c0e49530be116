"""What is compared: engines, the images and options of their requests, and what was measured with them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveate.apps.bench.model import check_options
from foveate.apps.bench.published import Size
from foveate.apps.bench.served.cases import LoadCase
from foveate.apps.bench.served.clients import VllmLoad, VllmServer, count_blocks
from foveate.apps.bench.served.folder import WORDS, save_shape
from foveate.apps.bench.settings import Budget
from foveate.apps.bench.shapes import measure_scale
from foveate.errors import InputError
from foveate.integrations.vllm import overrides
from foveate.integrations.vllm.loading import to_engine_options
from foveate.method.budget import to_budget
from foveate.runtime.load import locate, read_config
from foveate.runtime.load_options import LoadOptions

SIDE = 672  # pixels of the images, where the model has no size of its own
FULL = 16  # unpruned requests that the KV space holds


@dataclass(eq=False)
class VllmArm:
    """A way to answer: an engine, the (height, width) of its images, and the options of a request.

    `limit_of` names the arm that it is the limit of, if it is one. Measured: the `prompt`'s tokens, `loads` by case,
    and `fit`, the requests that the KV space holds.
    """

    name: str
    server: VllmServer
    size: Size
    options: Mapping[str, Any]
    limit_of: str = ""
    prompt: int = 0
    loads: dict[LoadCase, list[VllmLoad]] = field(default_factory=dict)
    fit: int = 0


class VllmBench:
    """Folders, engines and prompts of one run."""

    def __init__(
        self, model: str, made: Path, layers: int | None, sizes: Sequence[Size] | None, loading: LoadOptions,
        new_tokens: int, questions: int = 1,
    ) -> None:  # fmt: skip
        from transformers import AutoProcessor

        self.made, self.notes = made, list[str]()
        shape, self.loading = check_options(model, layers, loading), loading
        engine = to_engine_options(loading)
        self.shape = None if shape is None else shape[0]
        self.layers = layers or 1
        self.folder = str(save_shape(self.shape, self.layers, made / "model")) if self.shape else locate(model)
        self.config = read_config(self.folder, loading if shape is None else None)
        if shape is not None:
            self.notes.append(measure_scale(shape[1], self.config).describe())
        fixed = getattr(self.config.vision_config, "image_size", None)
        if sizes is not None and len(sizes) > 1:
            raise InputError("--engine vllm takes one --image-size at a time.")
        self.size = sizes[0] if sizes else (fixed or SIDE, fixed or SIDE)
        self.processor = AutoProcessor.from_pretrained(self.folder, **loading.source)
        self.total = self._count_tokens(self.size)
        longest = max(len(self._make_ids(make_question(n))) for n in range(questions)) - 1 + self.total
        self.blocks = FULL * count_blocks(longest, new_tokens)
        self.options: dict[str, Any] = {"dtype": "auto", "seed": 0, "max_model_len": longest + new_tokens} | engine
        if self.shape is not None:
            self.options |= {"dtype": loading.dtype or "float32", "load_format": "dummy"}

    def make_arms(self, budgets: Sequence[Budget], reuse: Sequence[str] = ("question",)) -> list[VllmArm]:
        """The unpruned one, then every budget, with every `reuse`, and its limit."""
        stock = self.start_server()
        _, method, keep = budgets[0]  # the server's default; every request has its own
        pruning = self.start_server(keep=keep, method=method.name)
        arms = [VllmArm("unpruned", stock, self.size, {})]
        limits: set[int] = set()
        for method_name, method, keep in budgets:
            name = f"{method_name}, keep {keep}"
            for way in reuse:
                settings = {"keep": keep, "method": method.name, "reuse": way}
                full_name = name if way == "question" else f"{name}, reuse {way}"
                arms.append(VllmArm(full_name, pruning, self.size, {"mm_processor_kwargs": {"foveate": settings}}))
            kept = to_budget(keep, self.total)
            if kept in limits:
                continue
            limit = self._make_limit(stock, kept, name)
            if limit is None:
                self.notes.append(f"No limit for {name}: this model makes no image of {kept} tokens.")
                continue
            limits.add(kept)
            arms.append(limit)
        return arms

    def _make_limit(self, stock: VllmServer, kept: int, limit_of: str) -> VllmArm | None:
        """Stock vLLM on images of `kept` tokens: smaller ones, or a tower that reads smaller ones."""
        name, vision = f"limit of {kept} tokens", self.config.vision_config
        merge = getattr(vision, "spatial_merge_size", None)
        if merge is not None:
            cell, rows = vision.patch_size * merge, _find_rows(kept)
            size = (cell * rows, cell * (kept // rows))
            return VllmArm(name, stock, size, {}, limit_of) if self._count_tokens(size) == kept else None
        root = math.isqrt(kept)
        if self.shape is None or root * root != kept:
            return None
        side = root * vision.patch_size
        folder = save_shape(self.shape, self.layers, self.made / f"limit-{kept}", side=side)
        return VllmArm(name, self.start_server(str(folder)), (side, side), {}, limit_of)

    def start_server(self, folder: str | None = None, **pruning: Any) -> VllmServer:
        """An engine: stock vLLM, or with `pruning`, which `foveate.integrations.vllm.overrides` takes, the plug-in."""
        changes = overrides(self.folder, revision=self.loading.revision, **pruning) if pruning else {}
        return VllmServer(folder or self.folder, overrides=changes, blocks=self.blocks + 1, **self.options)

    # -- prompts -----------------------------------------------------------------------------------------------------

    def make_prompts(self, arm: VllmArm, requests: Sequence[tuple[int, int]], seed: int) -> list[dict[str, Any]]:
        """A prompt for each (image, question): images of noise, others for every `seed`."""
        images: dict[int, NDArray[np.uint8]] = {}
        for image, _ in requests:
            if image not in images:
                images[image] = np.random.default_rng((seed, image)).integers(0, 256, (*arm.size, 3), dtype=np.uint8)
        return [self.make_prompt(images[image], make_question(number), arm.options) for image, number in requests]

    def make_prompt(self, pixels: NDArray[np.uint8], question: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """A prompt in the form that vLLM takes."""
        image = {"multi_modal_data": {"image": Image.fromarray(pixels)}}
        return {"prompt_token_ids": self._make_ids(question), **image, **options}

    def _make_ids(self, question: str = WORDS) -> list[int]:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        chat = [{"role": "user", "content": content}]
        text = self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _count_tokens(self, size: Size) -> int:
        """Tokens that the processor makes of an image of this size."""
        blank = Image.new("RGB", size[::-1])
        inputs = self.processor(text=self.processor.image_token, images=blank, return_tensors="pt")
        return int((inputs["input_ids"] == self.config.image_token_id).sum())


def make_question(number: int) -> str:
    """One of many questions."""
    return f"{WORDS} {number}" if number else WORDS


def _find_rows(count: int) -> int:
    """The largest divisor that is not above the square root."""
    return max(rows for rows in range(1, math.isqrt(count) + 1) if count % rows == 0)
