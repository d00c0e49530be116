"""The part that runs before the engine: finds the question, announces fewer tokens, keys the caches by both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from transformers import GenerationConfig
from vllm.logger import init_logger
from vllm.multimodal.hasher import MultiModalHasher
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import ImageEmbeddingItems
from vllm.multimodal.processing import PromptReplacement

from foveate.errors import InputError, ModelError
from foveate.integrations.vllm.layout import Layout
from foveate.integrations.vllm.reuse import FirstQuestions, count_choices
from foveate.integrations.vllm.settings import FIELD, ImagePlan, VllmSettings
from foveate.method import resolve
from foveate.method.checks import is_int
from foveate.models.chat_template import ChatTemplate
from foveate.models.generation import read_stop_ids
from foveate.models.lookup import family
from foveate.models.template import Template
from foveate.pipeline.question import NO_QUESTION
from foveate.runtime.chat_template import read_chat_template

logger = init_logger(__name__)
Stock: Any = object  # a stock processor follows in the bases of every subclass
PROFILED = VllmSettings(1.0)  # of the images with which vLLM measures its memory: each of them is encoded


@dataclass(frozen=True)
class Preparation:
    """What `apply` finds out about a request and the steps behind it read, among the stock processor's arguments.

    `hashes` are vLLM's own of every item, by modality. `questions` and `contents` are those of the images that are
    still to be processed: token ids, and hashes of the image alone.
    """

    settings: VllmSettings
    hashes: Mapping[str, list[str]]
    questions: Sequence[Sequence[int]]
    contents: Sequence[str]


class PruningProcessor(Stock):
    """Put before a stock multimodal processor. A subclass counts the tokens of an image (`count_tokens`)."""

    info: Any

    def __init__(self, info: Any, dummy_inputs: Any) -> None:
        super().__init__(info, dummy_inputs)
        self.settings = VllmSettings.from_config(info.ctx.model_config.hf_config)
        self.logged: set[str] = set()
        self._first_questions = FirstQuestions()

    def count_tokens(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """For each image, the number of its tokens and how many of them are protected (ends of rows)."""
        raise NotImplementedError

    def lay_out(self, mm_items: Any, data: Any, kwargs: Mapping[str, Any]) -> list[Layout]:
        """How the tokens of each image lie in the unpruned prompt."""
        return [Layout(*counts) for counts in self.count_tokens(mm_items, data)]

    @cached_property
    def template(self) -> Template | ChatTemplate:
        """How the chat template frames the user's text, as `foveate.runtime.load` reads it."""
        model_config = self.info.ctx.model_config
        config = model_config.hf_config
        if getattr(config, "foveate_template", None) is None:
            try:
                return read_chat_template(self.info.get_hf_processor())
            except ModelError as error:
                logger.warning("The question is looked for by special tokens alone. %s", error)
        generation = GenerationConfig(**(model_config.try_get_generation_config() or {}))
        return family(config.model_type).template(config, read_stop_ids(config, generation))

    # -- vLLM's steps, in their order --------------------------------------------------------------------------------

    def get_dummy_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """The largest images unpruned: the most that a request with keep=1.0 may cost."""
        inputs = super().get_dummy_inputs(*args, **kwargs)
        return replace(inputs, hf_processor_mm_kwargs={**inputs.hf_processor_mm_kwargs, FIELD: PROFILED})

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        """Raises a `FoveateError` (a `ValueError`, which the server answers with status 400)."""
        kwargs = dict(inputs.hf_processor_mm_kwargs)
        own = kwargs.pop(FIELD, None)
        settings = own if own is PROFILED else self.settings.override(own)
        if not settings.keeps_all:
            self.check_request(settings, inputs)
        count = inputs.mm_data_items.get_all_counts().get("image", 0)
        questions = self._find_questions(settings, inputs.prompt, count)
        hashes = super()._get_mm_hashes(replace(inputs, hf_processor_mm_kwargs=kwargs))
        contents = [""] * count if own is PROFILED else hashes.get("image", [])
        if settings.reuse == "auto":
            questions = list(map(self._first_questions.choose, contents, questions))
        added = {FIELD: Preparation(settings, hashes, questions, contents)}
        processed = super().apply(replace(inputs, hf_processor_mm_kwargs={**kwargs, **added}), timing_ctx)
        if own is not PROFILED:  # and not refused by one of the steps
            count_choices(questions, whole=settings.keeps_all)
            for image, question in zip(contents, questions, strict=True):
                self._first_questions.remember(image, question)
        return processed

    def check_request(self, settings: VllmSettings, inputs: Any) -> None:
        """Raise `InputError` for a request that is to be pruned and cannot be."""
        items = inputs.mm_data_items
        if "video" in items and len(items["video"]):
            raise InputError(
                'Videos are not pruned inside vLLM: set "mm_processor_kwargs": {"foveate": {"keep": 1.0}}, or '
                "send the frames as images."
            )
        if isinstance(items.get("image"), ImageEmbeddingItems):
            raise InputError("Images that come as embeddings are not pruned: send the images themselves.")

    def _find_questions(self, settings: VllmSettings, prompt: Sequence[int], count: int) -> list[Sequence[int]]:
        """The question to each image, in token ids; empty if it does not matter."""
        is_blind = settings.reuse == "picture" or not resolve(settings.method).prompt_aware
        if settings.keeps_all or not count or is_blind:
            return [[]] * count
        config = self.info.ctx.model_config.hf_config
        placeholder = family(config.model_type).token_id(config)
        columns = [column for column, token in enumerate(prompt) if token == placeholder]
        if not columns:
            return [[]] * count  # vLLM itself reports that the prompt lacks placeholders
        own, ignored = settings.turn == "own", [False] * len(prompt)
        starts = (columns + columns[-1:] * count)[:count] if own else columns[:1]
        questions: list[Sequence[int]] = []
        for start in starts:
            dialog = self.template.split(prompt, start, ignored)
            questions.append([prompt[column] for column in dialog.find_question(start if own else None)])
            self._log_once(dialog.doubt if questions[-1] else NO_QUESTION)
        return questions if own else questions * count

    def _log_once(self, note: str) -> None:
        if note and note not in self.logged:
            self.logged.add(note)
            logger.warning(note)

    def _get_mm_hashes(self, inputs: Any) -> Any:
        _, prepared = _split_kwargs(inputs.hf_processor_mm_kwargs)
        settings, algorithm = prepared.settings, self.info.ctx.get_mm_config().mm_hasher_algorithm
        method = "" if settings.keeps_all else settings.method  # it is not used
        key = {"keep": settings.keep, "method": method, "positions": settings.positions}
        images = [
            MultiModalHasher.hash_kwargs(algorithm, image=image, settings=key, question=list(question))
            for image, question in zip(prepared.hashes.get("image", []), prepared.questions, strict=True)
        ]
        return {modality: values for modality, values in {**prepared.hashes, "image": images}.items() if values}

    def _get_cache_missing_processor_kwargs(self, inputs: Any, mm_is_cached: Mapping[str, list[bool]]) -> Any:
        kwargs, prepared = _split_kwargs(super()._get_cache_missing_processor_kwargs(inputs, mm_is_cached))
        missing = [n for n, is_cached in enumerate(mm_is_cached.get("image", [])) if not is_cached]
        questions = [prepared.questions[n] for n in missing]
        contents = [prepared.contents[n] for n in missing]
        return {**kwargs, FIELD: replace(prepared, questions=questions, contents=contents)}

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, Any]) -> Any:
        kwargs, prepared = _split_kwargs(hf_kwargs)
        settings = prepared.settings
        data = super()._apply_hf_processor_main(mm_items, kwargs)
        if not prepared.questions:
            return data
        layouts = self.lay_out(mm_items, data, kwargs)
        most = max(layout.total - layout.protected for layout in layouts)
        if is_int(settings.keep) and most < settings.keep:
            raise InputError(
                f"keep={settings.keep} is more than the {most} tokens of the largest image: "
                f"use at most {most}, or 1.0 to keep all."
            )
        data[FIELD] = [
            ImagePlan(
                kept=total if settings.keeps_all else protected + settings.count_kept(total - protected),
                total=total,
                marks=marks,
                method=settings.method,
                positions=settings.positions,
                question=tuple(question),
                image=content,
            ).pack()
            for (total, protected, marks), question, content in zip(
                layouts, prepared.questions, prepared.contents, strict=True
            )
        ]
        return data

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, Any]) -> Any:
        stock = super()._get_mm_fields_config(hf_inputs, _split_kwargs(hf_processor_mm_kwargs)[0])
        # vLLM drops fields of images whose KV is cached, except those on the CPU. Positions are computed from this one.
        return {**stock, FIELD: MultiModalFieldConfig.batched("image", keep_on_cpu=True)}

    def _get_prompt_updates(self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: Any) -> Any:
        kwargs = _split_kwargs(hf_processor_mm_kwargs)[0]
        updates = super()._get_prompt_updates(mm_items, kwargs, out_mm_kwargs)
        return [_shorten_update(update, out_mm_kwargs) if update.modality == "image" else update for update in updates]


def _split_kwargs(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], Preparation]:
    """The stock processor's arguments, and what `apply` added to them."""
    rest = dict(kwargs)
    return rest, rest.pop(FIELD)


def _shorten_update(update: Any, out_mm_kwargs: Any) -> Any:
    """The stock replacement of an image's placeholder, cut down to the number of kept tokens."""

    def replacement(index: int) -> list[int]:
        stock = update.resolve(index).content.full
        plan = ImagePlan.unpack(out_mm_kwargs["image"][index][FIELD].data)
        if len(stock) != plan.total:
            raise ModelError(f"vLLM expects {len(stock)} tokens of an image, foveate {plan.total}: report this.")
        marks = [place for place, _ in plan.marks]
        placeholder = next(token for place, token in enumerate(stock) if place not in marks)
        return [placeholder] * plan.kept

    return PromptReplacement(modality="image", target=update.target, replacement=replacement)
