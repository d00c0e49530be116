"""The half that runs before the engine: finds the question, announces fewer places, keys the caches by both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from transformers import GenerationConfig
from vllm.logger import init_logger
from vllm.multimodal.hasher import MultiModalHasher
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import ImageEmbeddingItems
from vllm.multimodal.processing import PromptReplacement

from foveate.errors import InputError, ModelError
from foveate.integrations.vllm.settings import FIELD, Order, Settings
from foveate.method import resolve
from foveate.method.checks import is_int
from foveate.models.lookup import family
from foveate.pipeline.prune import stop_ids
from foveate.pipeline.question import Template, find_question
from foveate.runtime.chat_template import read_template

logger = init_logger(__name__)


class Pruning:
    """Put before a stock multimodal processor. A subclass says how many tokens a picture makes (`counts`)."""

    info: Any

    def __init__(self, info: Any, dummy_inputs: Any) -> None:
        super().__init__(info, dummy_inputs)  # type: ignore[call-arg]
        self.settings = Settings.read(getattr(info.ctx.model_config.hf_config, FIELD, None))

    def counts(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """How many tokens each picture makes, and how many of them always stay (ends of rows)."""
        raise NotImplementedError

    @cached_property
    def template(self) -> Template:
        """How the chat template frames the user's words, as `foveate.runtime.load` has it."""
        model_config = self.info.ctx.model_config
        config = model_config.hf_config
        if getattr(config, "foveate_template", None) is None:
            try:
                config.foveate_template = read_template(self.info.get_hf_processor())
            except ModelError as error:
                logger.warning("The question is looked for by special tokens alone. %s", error)
        stops = GenerationConfig(**(model_config.try_get_generation_config() or {}))
        model = SimpleNamespace(config=config, generation_config=stops)
        return family(config.model_type).template(config, stop_ids(model))

    # -- vLLM's steps, in their order --------------------------------------------------------------------------------

    def get_dummy_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """The largest pictures unpruned: what a request with keep=1.0 may cost."""
        inputs = super().get_dummy_inputs(*args, **kwargs)  # type: ignore[misc]
        return replace(inputs, hf_processor_mm_kwargs={**inputs.hf_processor_mm_kwargs, FIELD: {"keep": 1.0}})

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        """Raises a `FoveateError` (a `ValueError`, which the server answers with status 400)."""
        kwargs = dict(inputs.hf_processor_mm_kwargs)
        settings = self.settings.changed(kwargs.pop(FIELD, None))
        if not settings.whole:
            self.check(settings, inputs)
        count = inputs.mm_data_items.get_all_counts().get("image", 0)
        questions = self._questions(settings, inputs.prompt, count)
        kwargs[FIELD] = {"settings": settings.record(), "questions": questions}
        return super().apply(replace(inputs, hf_processor_mm_kwargs=kwargs), timing_ctx)  # type: ignore[misc]

    def check(self, settings: Settings, inputs: Any) -> None:
        """Raise `InputError` for a prompt of which something was to be dropped and cannot be."""
        items = inputs.mm_data_items
        if "video" in items and len(items["video"]):
            raise InputError(
                'Clips are not pruned inside vLLM: ask with "mm_processor_kwargs": {"foveate": {"keep": 1.0}}, or '
                "send the frames as pictures."
            )
        if isinstance(items.get("image"), ImageEmbeddingItems):
            raise InputError("Pictures that come as embeddings are not pruned: send the pictures themselves.")

    def _questions(self, settings: Settings, prompt: Sequence[int], count: int) -> list[list[int]]:
        """The question to each picture, in token ids; none where it would not matter."""
        if settings.whole or not count or not resolve(settings.method).prompt_aware:
            return [[]] * count
        config = self.info.ctx.model_config.hf_config
        token = family(config.model_type).token_id(config)
        places = [place for place, i in enumerate(prompt) if i == token]
        if not places:
            return [[]] * count  # vLLM itself says that the prompt lacks them
        own, ignored = settings.turn == "own", [False] * len(prompt)
        starts = (places + places[-1:] * count)[:count] if own else places[:1]
        found = [[prompt[i] for i in find_question(prompt, p, self.template, ignored, own=own)] for p in starts]
        return found if own else found * count

    def _get_mm_hashes(self, inputs: Any) -> Any:
        kwargs, settings, questions = _split(inputs.hf_processor_mm_kwargs)
        inputs = replace(inputs, hf_processor_mm_kwargs=kwargs)
        hashes = dict(super()._get_mm_hashes(inputs))  # type: ignore[misc]
        algorithm = self.info.ctx.get_mm_config().mm_hasher_algorithm
        asked = settings.record()
        if settings.whole:
            asked["method"] = ""  # nothing is chosen
        del asked["turn"]  # the question says it
        hashes["image"] = [
            MultiModalHasher.hash_kwargs(algorithm, picture=picture, asked=asked, question=question)
            for picture, question in zip(hashes.get("image", []), questions, strict=True)
        ]
        return {modality: found for modality, found in hashes.items() if found}

    def _get_cache_missing_processor_kwargs(self, inputs: Any, mm_is_cached: Mapping[str, list[bool]]) -> Any:
        kwargs = dict(super()._get_cache_missing_processor_kwargs(inputs, mm_is_cached))  # type: ignore[misc]
        known = mm_is_cached.get("image", [])
        questions = [q for q, cached in zip(kwargs[FIELD]["questions"], known, strict=True) if not cached]
        return {**kwargs, FIELD: {**kwargs[FIELD], "questions": questions}}

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, Any]) -> Any:
        kwargs, settings, questions = _split(hf_kwargs)
        data = super()._apply_hf_processor_main(mm_items, kwargs)  # type: ignore[misc]
        if not questions:
            return data
        counts = self.counts(mm_items, data)
        if is_int(settings.keep) and all(total - fixed < settings.keep for total, fixed in counts):
            most = max(total - fixed for total, fixed in counts)
            raise InputError(
                f"keep={settings.keep} is more than the {most} tokens that the largest picture has: "
                f"ask for at most {most}, or for 1.0 to keep all."
            )
        data[FIELD] = [
            Order(
                total if settings.whole else fixed + settings.count(total - fixed), total, settings.method,
                settings.positions, tuple(question),
            ).pack()
            for (total, fixed), question in zip(counts, questions, strict=True)
        ]  # fmt: skip
        return data

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, Any]) -> Any:
        stock = super()._get_mm_fields_config(hf_inputs, _split(hf_processor_mm_kwargs)[0])  # type: ignore[misc]
        # On the CPU, as the engine reads positions off what stays there even after it found the picture in its caches.
        return {**stock, FIELD: MultiModalFieldConfig.batched("image", keep_on_cpu=True)}

    def _get_prompt_updates(self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: Any) -> Any:
        kwargs = _split(hf_processor_mm_kwargs)[0]
        updates = super()._get_prompt_updates(mm_items, kwargs, out_mm_kwargs)  # type: ignore[misc]
        return [_shorter(update, out_mm_kwargs) if update.modality == "image" else update for update in updates]


def _split(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], Settings, list[list[int]]]:
    """What is the stock processor's, and what `apply` has put beside it."""
    rest = dict(kwargs)
    note = rest.pop(FIELD)
    return rest, Settings(**note["settings"]), note["questions"]


def _shorter(update: Any, out_mm_kwargs: Any) -> Any:
    """The stock replacement of a picture's placeholder, cut down to the tokens that stay."""

    def replacement(index: int) -> list[int]:
        stock = update.content(index)
        order = Order.unpack(out_mm_kwargs["image"][index][FIELD].data)
        if len(stock) != order.total:
            raise ModelError(f"vLLM expects {len(stock)} tokens of a picture, foveate {order.total}: report this.")
        return list(stock[: order.kept])

    return PromptReplacement(modality="image", target=update.target, replacement=replacement)
