"""Public benchmarks: foveate as a model of lmms-eval, found through its entry points.

`lmms_eval --model foveate --model_args pretrained=llava-hf/llava-1.5-7b-hf,keep=0.1,method=foveate --tasks gqa,pope`
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from PIL import Image

from foveate.errors import InputError
from foveate.hooks.attach import pruning
from foveate.method import resolve_any
from foveate.method.budget import check_keep
from foveate.pipeline.prune import Positions
from foveate.runtime.load import load


def manifest() -> ModelManifest:
    """What lmms-eval's entry-point group `lmms_eval.models` asks for."""
    return ModelManifest("foveate", chat_class_path="foveate.integrations.lmms.Pruned")


class Pruned(lmms):
    """A model of transformers that answers on the visual tokens that the question needs.

    `pretrained` is a hub id, a folder or one of the bundled models; `keep` and `method` are as everywhere in foveate
    (1.0 is the whole model); `batch_size` prompts are answered at a time. Answers are greedy unless the task asks for
    sampling. The kept tokens, not the dropped ones, are counted as input tokens.

    Raises a `FoveateError` for settings that cannot be used.
    """

    is_simple = False

    def __init__(
        self, pretrained: str = "bundled", keep: int | float = 1.0, method: str = "foveate",
        positions: Positions = "original", batch_size: int | str = 1, max_new_tokens: int = 128,
        device: str | None = None, **unknown: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        if unknown:
            raise InputError(
                f"{sorted(unknown)[0]!r} is no setting of foveate: --model_args takes pretrained, keep, method, "
                "positions, batch_size, max_new_tokens, device."
            )
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise InputError(f"batch_size={batch_size!r} is no number of prompts: use an int of 1 or more.")
        check_keep(keep)
        self._settings: dict[str, Any] = {"keep": keep, "method": resolve_any(method), "positions": positions}
        self._batch, self._longest = int(batch_size), max_new_tokens
        self._loaded = load(pretrained)
        if device is not None:
            self._loaded.model.to(device)
        with pruning(self._loaded.model, **self._settings):
            pass  # a method that the model cannot serve shows now

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """One answer a request; requests with the same settings of generation share batches."""
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(repr(sorted(request.args[2].items())), []).append(i)
        found: dict[int, GenerationResult] = {}
        for members in groups.values():
            for start in range(0, len(members), self._batch):
                some = members[start : start + self._batch]
                found.update(zip(some, self._answer([requests[i] for i in some]), strict=True))
        return [found[i] for i in range(len(requests))]

    @torch.no_grad()
    def _answer(self, requests: Sequence[Instance]) -> Iterator[GenerationResult]:
        model, processor = self._loaded.model, self._loaded.processor
        chats = [self._messages(request) for request in requests]
        texts = [processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat, _ in chats]
        pictures = [picture for _, held in chats for picture in held]
        bos, tokenizer = processor.tokenizer.bos_token, processor.tokenizer
        tokenizer.padding_side = "left"
        extra = {"add_special_tokens": False} if bos and texts[0].startswith(bos) else {}
        inputs = processor(text=texts, images=pictures or None, padding=True, return_tensors="pt", **extra)
        inputs = inputs.to(model.device, model.dtype)
        given = dict(requests[0].args[2])
        with pruning(model, **self._settings) as handle:
            out = model.generate(**inputs, **_generation(given, self._longest))
        dropped = [0] * len(pictures)
        if handle.report is not None and pictures:
            dropped = [total - len(kept) for total, kept in zip(handle.report.total, handle.report.kept, strict=True)]
        left = iter(dropped)
        for row, (_, held), mask in zip(out, chats, inputs["attention_mask"], strict=True):
            new = row[inputs["input_ids"].shape[1] :]
            said = int((new != tokenizer.pad_token_id).sum())
            read = int(mask.sum()) - sum(next(left) for _ in held)
            text = _cut(tokenizer.decode(new, skip_special_tokens=True), given.get("until"))
            yield GenerationResult(text, TokenCounts(input_tokens=read, output_tokens=said))

    def _messages(self, request: Instance) -> tuple[list[dict[str, Any]], list[Image.Image]]:
        """The request's conversation as a chat template takes it, and its pictures in order."""
        _, to_messages, _, doc_id, task, split = request.args
        chat, pictures = [], []
        for message in to_messages(self.task_dict[task][split][doc_id]):
            parts: list[dict[str, Any]] = []
            for part in message["content"]:
                if part["type"] == "text":
                    parts.append({"type": "text", "text": part["text"]})
                elif part["type"] == "image" and isinstance(part["url"], Image.Image):
                    parts.append({"type": "image"})
                    pictures.append(part["url"].convert("RGB"))
                else:
                    raise InputError(f"{task} asks about {part['type']}: foveate answers questions about pictures.")
            chat.append({"role": message["role"], "content": parts})
        return chat, pictures

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:  # noqa: ARG002
        """Not supported."""
        raise InputError("foveate generates answers and ranks none: choose tasks of output type generate_until.")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:  # noqa: ARG002
        """Not supported."""
        raise InputError("foveate answers single prompts: choose tasks of output type generate_until.")


def _generation(given: dict[str, Any], longest: int) -> dict[str, Any]:
    """What of a task's `generation_kwargs` is for `generate`."""
    wanted = {name: given[name] for name in ("temperature", "top_p", "num_beams") if given.get(name) is not None}
    sampled = bool(given.get("do_sample", False)) and wanted.get("temperature", 1.0) > 0
    if not sampled:
        wanted = {name: value for name, value in wanted.items() if name == "num_beams"}
    return {"max_new_tokens": given.get("max_new_tokens", longest), "do_sample": sampled, **wanted}


def _cut(text: str, until: str | Sequence[str] | None) -> str:
    """The text up to the first of the stop strings."""
    for stop in [until] if isinstance(until, str) else until or []:
        if stop:
            text = text.split(stop)[0]
    return text.strip()
