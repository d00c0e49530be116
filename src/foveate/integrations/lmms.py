"""foveate as a model of lmms-eval, for public benchmarks. lmms-eval finds it through its entry points.

`lmms_eval --model foveate --model_args pretrained=llava-hf/llava-1.5-7b-hf,keep=0.1,method=foveate --tasks gqa,pope`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from PIL import Image
from torch import Tensor

from foveate.apps.budgets import parse_budget
from foveate.apps.encoder import EncoderOptions, parse_bytes, parse_encode, parse_skip
from foveate.errors import InputError
from foveate.hooks.attach import pruning
from foveate.method import Method, resolve_any
from foveate.method.inner import InnerMethod
from foveate.models.generation import has_own_decoder
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.report import Report
from foveate.pipeline.settings import Keep, Positions, check_choices
from foveate.runtime.conversation import process_prompts
from foveate.runtime.load import load
from foveate.runtime.load_options import LoadOptions, parse_device_map
from foveate.runtime.loaded import LoadedModel

LOAD_OPTIONS = [field.name for field in fields(LoadOptions)]


def manifest() -> ModelManifest:
    """The entry point of lmms-eval's group `lmms_eval.models`."""
    return ModelManifest("foveate", chat_class_path=f"{__name__}.FoveateLmms")


class FoveateLmms(lmms):
    """A model of transformers that answers lmms-eval's questions on pruned visual tokens.

    Answers are greedy unless the task asks for sampling. Input tokens are counted after pruning.

    Args:
        pretrained: a hub id, a folder, the name of a bundled model, or what `foveate.load` returned.
        keep: as for `foveate.prune_inputs`, or the .json file of a policy; 1.0 runs the whole model.
        method: a method or its name (`foveate methods`).
        positions: "original" or "compact", as for `foveate.prune_inputs`.
        encode, skip, max_encoder_memory: as for `foveate.prune_inputs`; the last one in bytes.
        batch_size: how many prompts are answered at a time.
        max_new_tokens: the most tokens of an answer, where the task sets no limit.
        device: where the model runs, such as "cuda:1".
        options: those of `foveate.load`: device_map, dtype, attention, quantize, revision, adapter, gguf_file.

    Raises:
        FoveateError: for settings that cannot be used.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str | LoadedModel = "bundled",
        keep: Keep | str = 1.0,
        method: str | Method | InnerMethod = "foveate",
        positions: Positions = "original",
        encode: float | str = 1.0,
        skip: float | str | None = None,
        max_encoder_memory: int | str | None = None,
        batch_size: int | str = 1,
        max_new_tokens: int = 128,
        device: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        unknown = sorted(options.keys() - LOAD_OPTIONS)
        if unknown:
            raise InputError(
                f"foveate has no setting {unknown[0]!r}: --model_args takes pretrained, keep, method, positions, "
                f"encode, skip, max_encoder_memory, batch_size, max_new_tokens, device, {', '.join(LOAD_OPTIONS)}."
            )
        if device is not None and "device_map" in options:
            raise InputError("device and device_map say both where the model runs: leave one of them out.")
        place = options.pop("device_map", device)
        options["device_map"] = parse_device_map(place) if isinstance(place, str) else place
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise InputError(f"batch_size={batch_size!r} is not a number of prompts: use an int of 1 or more.")
        budget = parse_budget(keep, "keep") if isinstance(keep, str) else keep
        check_choices(budget, positions, "image", ("image",), explain=False)
        encoder = EncoderOptions(
            parse_encode(encode, "encode").encode if isinstance(encode, str) else encode,
            parse_skip(skip, "skip") if isinstance(skip, str) else skip,
            parse_bytes(max_encoder_memory) if isinstance(max_encoder_memory, str) else max_encoder_memory,
        )
        self._settings: dict[str, Any] = {"keep": budget, "method": resolve_any(method), "positions": positions}
        self._settings |= vars(encoder)
        self._batch_size, self._max_new_tokens = int(batch_size), max_new_tokens
        self._loaded = _load(pretrained, options)
        with pruning(self._loaded.model, **self._settings):
            pass  # raises here if the model cannot run the method

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answer each request; requests with equal generation settings share batches."""
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(repr(sorted(request.args[2].items())), []).append(i)
        results: dict[int, GenerationResult] = {}
        for members in groups.values():
            for start in range(0, len(members), self._batch_size):
                batch = members[start : start + self._batch_size]
                results.update(zip(batch, self._answer([requests[i] for i in batch]), strict=True))
        return [results[i] for i in range(len(requests))]

    @torch.no_grad()
    def _answer(self, requests: Sequence[Instance]) -> Iterator[GenerationResult]:
        processor = self._loaded.processor
        chats, images = zip(*(self._read_request(request) for request in requests), strict=True)
        texts = [processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
        inputs = process_prompts(self._loaded, texts, list(images) if any(images) else None)
        settings = requests[0].args[2]
        new, report = self._generate(inputs, _select_options(settings, self._max_new_tokens))
        items = report.by_row()
        for row, (ids, mask) in enumerate(zip(new, inputs["attention_mask"], strict=True)):
            written = int((ids != processor.tokenizer.pad_token_id).sum())
            dropped = sum(item.total - len(item.kept) for item in items.get(row, ()) if len(item.columns))
            counts = TokenCounts(input_tokens=int(mask.sum()) - dropped, output_tokens=written)
            text = processor.tokenizer.decode(ids, skip_special_tokens=True)
            yield GenerationResult(_cut(text, settings.get("until")), counts)

    def _generate(self, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[Tensor, Report]:
        """The new tokens (b, n) of each row, and what was kept."""
        model, short = self._loaded.model, inputs
        if isinstance(self._settings["method"], InnerMethod):
            with pruning(model, **self._settings) as handle:
                out = model.generate(**inputs, **options)
            report = handle.last_report or Report((), "", 0.0)
        else:
            short = prune_inputs(model, inputs, **self._settings)
            out, report = model.generate(**short, **options), short.report
        return out if has_own_decoder(model) else out[:, short["input_ids"].shape[1] :], report

    def _read_request(self, request: Instance) -> tuple[list[dict[str, Any]], list[Image.Image]]:
        """The conversation of a request for a chat template, and its images in order."""
        _, to_messages, _, doc_id, task, split = request.args
        chat, images = [], []
        for message in to_messages(self.task_dict[task][split][doc_id]):
            parts: list[dict[str, Any]] = []
            for part in message["content"]:
                if part["type"] == "text":
                    parts.append({"type": "text", "text": part["text"]})
                elif part["type"] == "image" and isinstance(part["url"], Image.Image):
                    parts.append({"type": "image"})
                    images.append(part["url"])
                else:
                    raise InputError(
                        f"{task} has {part['type']} in its questions: choose tasks with images alone, or give a "
                        "video's frames as images."
                    )
            chat.append({"role": message["role"], "content": parts})
        return chat, images

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:  # noqa: ARG002
        """Not supported."""
        raise InputError("foveate does not rank given answers: choose tasks of output type generate_until.")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:  # noqa: ARG002
        """Not supported."""
        raise InputError("foveate answers single prompts: choose tasks of output type generate_until.")


def _load(pretrained: str | LoadedModel, options: Mapping[str, Any]) -> LoadedModel:
    if not isinstance(pretrained, LoadedModel):
        return load(pretrained, **options)
    if any(value is not None for value in options.values()):
        raise InputError("A loaded model stays where it is: give device and the other options to foveate.load.")
    return pretrained


def _select_options(settings: Mapping[str, Any], max_new_tokens: int) -> dict[str, Any]:
    """The options of `generate` in a task's `generation_kwargs`."""
    names = ("temperature", "top_p", "num_beams")
    options = {name: settings[name] for name in names if settings.get(name) is not None}
    sampled = bool(settings.get("do_sample", False)) and options.get("temperature", 1.0) > 0
    if not sampled:
        options = {name: value for name, value in options.items() if name == "num_beams"}
    return {"max_new_tokens": settings.get("max_new_tokens", max_new_tokens), "do_sample": sampled, **options}


def _cut(text: str, until: str | Sequence[str] | None) -> str:
    """The text up to the first of the stop strings."""
    for stop in [until] if isinstance(until, str) else until or []:
        if stop:
            text = text.split(stop)[0]
    return text.strip()
