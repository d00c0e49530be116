"""The run: stock vLLM, the plug-in and the limit take turns, at every number of clients."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from foveate.apps.bench.published import Size
from foveate.apps.bench.served.clients import Load, Server, blocks_of
from foveate.apps.bench.served.folder import WORDS, save_shape
from foveate.apps.bench.settings import Budget
from foveate.apps.bench.shapes import scale_of
from foveate.apps.bench.subject import find
from foveate.errors import InputError
from foveate.integrations.vllm import overrides
from foveate.method.budget import to_budget
from foveate.runtime.load import locate, read_config

UNPRUNED, LIMIT = "unpruned", "limit"
SIDE = 672  # of the pictures, where the model has no size of its own
FULL = 16  # unpruned requests that the KV space holds
WARM = 2  # requests


@dataclass(eq=False)
class Arm:
    """A way to answer: an engine, the (height, width) of the pictures it is shown, what a request asks for."""

    name: str
    server: Server
    size: Size
    asked: Mapping[str, Any]
    of: str = ""
    """Which arm it is the limit of."""
    prompt: int = 0
    loads: dict[int, list[Load]] = field(default_factory=dict)
    fits: int = 0
    """Requests that the KV space holds."""


@dataclass(frozen=True, eq=False)
class Served:
    """What was measured, on which model, with how many KV blocks; notes tell what the reader should know."""

    name: str
    arms: list[Arm]
    blocks: int
    notes: tuple[str, ...]


def run(
    model: str, budgets: Sequence[Budget], concurrency: Sequence[int], *, requests: int, new_tokens: int, rounds: int,
    layers: int | None = None, sizes: Sequence[Size] | None = None, dtype: str | None = None,
) -> Served:  # fmt: skip
    """Measure every budget beside the unpruned model, and where pictures can be made of as few tokens, its limit.

    `requests` are sent in a turn, each with a picture of its own. Raises a `FoveateError` for a model, a method or a
    budget that cannot be used.
    """
    for shown, method, _ in budgets:
        if shown != method.name:
            raise InputError(f"Inside vLLM a method goes by its name: ask for {method.name}, not {shown}.")
    with tempfile.TemporaryDirectory() as made:
        bench = Bench(model, Path(made), layers, sizes, dtype, new_tokens)
        arms = bench.arms(budgets)
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("turns", total=len(arms) * rounds * len(concurrency))
            for arm in arms:
                arm.prompt = arm.server.serve(bench.prompts(arm, WARM), 1, new_tokens).prompt
                arm.fits = bench.blocks // blocks_of(arm.prompt, new_tokens)
            for clients in concurrency:
                for turn in range(rounds):
                    for arm in arms if turn % 2 else arms[::-1]:
                        load = arm.server.serve(bench.prompts(arm, max(requests, clients)), clients, new_tokens)
                        arm.loads.setdefault(clients, []).append(load)
                        bar.advance(task)
        return Served(model, arms, bench.blocks, tuple(bench.notes))


class Bench:
    """Folders, engines and prompts of one run."""

    def __init__(
        self, model: str, made: Path, layers: int | None, sizes: Sequence[Size] | None, dtype: str | None,
        new_tokens: int,
    ) -> None:  # fmt: skip
        self.made, self.notes = made, list[str]()
        shape = find(model, layers, dtype)
        self.shape = None if shape is None else shape[0]
        self.layers = layers or 1
        self.folder = str(save_shape(self.shape, self.layers, made / "model")) if self.shape else locate(model)
        self.config = read_config(self.folder)
        if shape is not None:
            self.notes.append(scale_of(shape[1], self.config).note())
        fixed = getattr(self.config.vision_config, "image_size", None)
        if sizes is not None and len(sizes) > 1:
            raise InputError("--engine vllm takes one --image-size at a time.")
        self.size = sizes[0] if sizes else (fixed or SIDE, fixed or SIDE)
        self.processor = self._processor()
        self.total = self._tokens(self.size)
        longest = len(self._ids()) - 1 + self.total
        self.blocks = FULL * blocks_of(longest, new_tokens)
        self.options: dict[str, Any] = {"dtype": "auto", "seed": 0, "max_model_len": longest + new_tokens}
        if self.shape is not None:
            self.options |= {"dtype": dtype or "float32", "load_format": "dummy"}

    def arms(self, budgets: Sequence[Budget]) -> list[Arm]:
        """The unpruned one, then every budget with its limit."""
        stock = self._server({})
        _, method, keep = budgets[0]  # of the server; every request asks for its own
        pruning = self._server(overrides(self.folder, keep=keep, method=method.name))
        found = [Arm(UNPRUNED, stock, self.size, {})]
        limits: dict[int, Arm] = {}
        for name, method, keep in budgets:
            shown = f"{name}, keep {keep}"
            asked = {"mm_processor_kwargs": {"foveate": {"keep": keep, "method": method.name}}}
            found.append(Arm(shown, pruning, self.size, asked))
            kept = to_budget(keep, self.total)
            if kept not in limits:
                limit = self._limit(stock, kept)
                if limit is None:
                    self.notes.append(f"No limit for {shown}: this model makes no picture of {kept} tokens.")
                    continue
                limit.of = shown
                limits[kept] = limit
                found.append(limit)
        return found

    def _limit(self, stock: Server, kept: int) -> Arm | None:
        """Stock vLLM on pictures of so many tokens: smaller ones, or a tower that reads smaller ones."""
        name, vision = f"{LIMIT} of {kept} tokens", self.config.vision_config
        merge = getattr(vision, "spatial_merge_size", None)
        if merge is not None:
            cell, rows = vision.patch_size * merge, _root(kept)
            size = (cell * rows, cell * (kept // rows))
            return Arm(name, stock, size, {}) if self._tokens(size) == kept else None
        root = math.isqrt(kept)
        if self.shape is None or root * root != kept:
            return None
        side = root * vision.patch_size
        folder = save_shape(self.shape, self.layers, self.made / f"limit-{kept}", side=side)
        return Arm(name, self._server({}, str(folder)), (side, side), {})

    def _server(self, asked: Mapping[str, Any], folder: str | None = None) -> Server:
        return Server(folder or self.folder, overrides=asked, blocks=self.blocks + 1, **self.options)

    # -- prompts -----------------------------------------------------------------------------------------------------

    def prompts(self, arm: Arm, count: int) -> list[dict[str, Any]]:
        """So many, each with a picture of noise of its own."""
        seeds = [np.random.default_rng(seed) for seed in range(count)]
        pictures = [seed.integers(0, 256, (*arm.size, 3), dtype=np.uint8) for seed in seeds]
        return [self.prompt(pixels, WORDS, arm.asked) for pixels in pictures]

    def prompt(self, pixels: NDArray[np.uint8], question: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """As vLLM takes it."""
        picture = {"multi_modal_data": {"image": Image.fromarray(pixels)}}
        return {"prompt_token_ids": self._ids(question), **picture, **asked}

    def _ids(self, question: str = WORDS) -> list[int]:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        chat = [{"role": "user", "content": content}]
        text = self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _tokens(self, size: Size) -> int:
        """How many tokens the processor makes of a picture of this size."""
        blank = Image.new("RGB", size[::-1])
        inputs = self.processor(text=self.processor.image_token, images=blank, return_tensors="pt")
        return int((inputs["input_ids"] == self.config.image_token_id).sum())

    def _processor(self) -> Any:
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(self.folder)


def _root(count: int) -> int:
    """The largest divisor that is not above the square root."""
    return max(rows for rows in range(1, math.isqrt(count) + 1) if count % rows == 0)
