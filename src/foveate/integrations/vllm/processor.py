"""The part that runs before the engine: finds the question, announces fewer tokens, keys the caches by both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import compress
from types import NoneType
from typing import Any

from transformers import GenerationConfig
from vllm.logger import init_logger
from vllm.multimodal.hasher import MultiModalHasher
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import ImageProcessorItems, VideoProcessorItems

from foveate.errors import InputError, ModelError
from foveate.integrations.vllm.prompt import shorten_update
from foveate.integrations.vllm.reuse import FirstQuestions, count_choices
from foveate.integrations.vllm.settings import FIELD, PLAN_FIELDS, Layout, VllmSettings, Words
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

    All by modality: `hashes` are vLLM's own of every item; `questions` and `contents` are those of the images and
    clips that are still to be processed: token ids, and hashes of the image alone.
    """

    settings: VllmSettings
    hashes: Mapping[str, list[str]]
    questions: Mapping[str, Sequence[Sequence[int]]]
    contents: Mapping[str, Sequence[str]]


class PruningProcessor(Stock):
    """Put before a stock multimodal processor. A subclass counts the tokens of an image (`count_tokens`).

    One that has "video" among its `modalities` counts those of a clip too (`count_clip_tokens`).
    """

    modalities: tuple[str, ...] = ("image",)
    info: Any

    def __init__(self, info: Any, dummy_inputs: Any) -> None:
        super().__init__(info, dummy_inputs)
        self.settings = VllmSettings.from_config(info.ctx.model_config.hf_config)
        self.logged: set[str] = set()
        self._first_questions = FirstQuestions()

    def count_tokens(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """For each image, the number of its tokens and how many of them are protected (ends of rows)."""
        raise NotImplementedError

    def count_clip_tokens(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """The same for each clip."""
        raise NotImplementedError

    def read_words(self, data: Any, totals: Sequence[int]) -> list[Words]:
        """For each clip of so many tokens, what stands between them, as in `ImagePlan`."""
        return [()] * len(totals)

    def lay_out_images(self, mm_items: Any, data: Any, kwargs: Mapping[str, Any]) -> list[Layout]:
        """For each image `count_tokens`, and the words that stand among its tokens, as in `ImagePlan`."""
        return [(count, ()) for count in self.count_tokens(mm_items, data)]

    def lay_out_clips(self, mm_items: Any, data: Any, kwargs: Mapping[str, Any]) -> list[Layout]:
        """The same for each clip."""
        counts = self.count_clip_tokens(mm_items, data)
        return list(zip(counts, self.read_words(data, [total for total, _ in counts]), strict=True))

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
        self._refuse_embeddings(inputs)
        if not settings.keeps_all:
            self.check_request(settings, inputs)
        questions = self._find_questions(settings, inputs)
        hashes = super()._get_mm_hashes(replace(inputs, hf_processor_mm_kwargs=kwargs))
        contents = {
            modality: [""] * len(own_questions) if own is PROFILED else hashes.get(modality, [])
            for modality, own_questions in questions.items()
        }
        if settings.reuse == "auto":
            choose = self._first_questions.choose
            questions = {name: list(map(choose, contents[name], texts)) for name, texts in questions.items()}
        added = {FIELD: Preparation(settings, hashes, questions, contents)}
        processed = super().apply(replace(inputs, hf_processor_mm_kwargs={**kwargs, **added}), timing_ctx)
        if own is not PROFILED:  # and not refused by one of the steps
            for modality, texts in questions.items():
                count_choices(texts, whole=settings.keeps_all)
                for image, question in zip(contents[modality], texts, strict=True):
                    self._first_questions.remember(image, question)
        return processed

    def check_request(self, settings: VllmSettings, inputs: Any) -> None:
        """Raise `InputError` for a request that is to be pruned and cannot be."""
        items = inputs.mm_data_items
        if "video" not in self.modalities and "video" in items and len(items["video"]):
            raise InputError(
                "Videos of this model are not pruned inside vLLM: set "
                '"mm_processor_kwargs": {"foveate": {"keep": 1.0}}, or send the frames as images.'
            )

    def _refuse_embeddings(self, inputs: Any) -> None:
        for modality in self.modalities:
            if not isinstance(inputs.mm_data_items.get(modality), (ImageProcessorItems, VideoProcessorItems, NoneType)):
                raise InputError(
                    f"{modality.capitalize()}s that come as embeddings are not pruned: send the {modality}s themselves."
                )

    def _find_questions(self, settings: VllmSettings, inputs: Any) -> dict[str, list[Sequence[int]]]:
        """The question to each image and clip, in token ids; empty if it does not matter."""
        prompt, counts = inputs.prompt, inputs.mm_data_items.get_all_counts()
        counts = {modality: counts.get(modality, 0) for modality in self.modalities}
        is_blind = settings.reuse == "picture" or not resolve(settings.method).prompt_aware
        if settings.keeps_all or is_blind:
            return {modality: [[]] * count for modality, count in counts.items()}
        config = self.info.ctx.model_config.hf_config
        columns: dict[str, list[int]] = {}
        for modality, count in counts.items():
            placeholder = family(config.model_type).token_id(config, modality) if count else None
            columns[modality] = [column for column, token in enumerate(prompt) if token == placeholder]
        if not any(columns.values()):  # vLLM itself reports that the prompt lacks placeholders
            return {modality: [[]] * count for modality, count in counts.items()}
        first = min(own[0] for own in columns.values() if own)
        if settings.turn == "last":
            question = self._read_question(prompt, first)
            return {modality: [question] * count for modality, count in counts.items()}
        starts = {modality: (own + (own[-1:] or [first]) * counts[modality]) for modality, own in columns.items()}
        return {
            modality: [self._read_question(prompt, start, start) for start in starts[modality][:count]]
            for modality, count in counts.items()
        }

    def _read_question(self, prompt: Sequence[int], start: int, own: int | None = None) -> Sequence[int]:
        """The last question, of a prompt whose first image is at column `start`, or that of the image at `own`."""
        dialog = self.template.split(prompt, start, [False] * len(prompt))
        question = [prompt[column] for column in dialog.find_question(own)]
        self._log_once(dialog.doubt if question else NO_QUESTION)
        return question

    def _log_once(self, note: str) -> None:
        if note and note not in self.logged:
            self.logged.add(note)
            logger.warning(note)

    def _get_mm_hashes(self, inputs: Any) -> Any:
        _, prepared = _split_kwargs(inputs.hf_processor_mm_kwargs)
        settings, algorithm = prepared.settings, self.info.ctx.get_mm_config().mm_hasher_algorithm
        method = "" if settings.keeps_all else settings.method  # it is not used
        key = {"keep": settings.keep, "method": method, "positions": settings.positions}
        keyed = {
            modality: [
                MultiModalHasher.hash_kwargs(algorithm, image=image, settings=key, question=list(question))
                for image, question in zip(prepared.hashes.get(modality, []), questions, strict=True)
            ]
            for modality, questions in prepared.questions.items()
        }
        return {modality: values for modality, values in {**prepared.hashes, **keyed}.items() if values}

    def _get_cache_missing_processor_kwargs(self, inputs: Any, mm_is_cached: Mapping[str, list[bool]]) -> Any:
        kwargs, prepared = _split_kwargs(inputs.hf_processor_mm_kwargs)
        rest = super()._get_cache_missing_processor_kwargs(replace(inputs, hf_processor_mm_kwargs=kwargs), mm_is_cached)

        def select(values: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
            """Those of the items that are not cached."""
            missing = {name: [not is_cached for is_cached in mm_is_cached.get(name, [])] for name in values}
            return {name: list(compress(own, missing[name])) for name, own in values.items()}

        added = replace(prepared, questions=select(prepared.questions), contents=select(prepared.contents))
        return {**rest, FIELD: added}

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, Any]) -> Any:
        kwargs, prepared = _split_kwargs(hf_kwargs)
        data = super()._apply_hf_processor_main(mm_items, kwargs)
        lay_out = {"image": self.lay_out_images, "video": self.lay_out_clips}
        names = [name for name, questions in prepared.questions.items() if questions]
        layouts = {name: lay_out[name](mm_items, data, kwargs) for name in names}
        self._check_budget(prepared.settings, [count for own in layouts.values() for count, _ in own])
        for modality, own in layouts.items():
            plans = zip(*zip(*own, strict=True), prepared.questions[modality], prepared.contents[modality], strict=True)
            data[PLAN_FIELDS[modality]] = [prepared.settings.make_plan(*plan).pack() for plan in plans]
        return data

    def _check_budget(self, settings: VllmSettings, counts: Sequence[tuple[int, int]]) -> None:
        most = max((total - protected for total, protected in counts), default=0)
        if counts and is_int(settings.keep) and most < settings.keep:
            raise InputError(
                f"keep={settings.keep} is more than the {most} tokens of the largest image: "
                f"use at most {most}, or 1.0 to keep all."
            )

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, Any]) -> Any:
        stock = super()._get_mm_fields_config(hf_inputs, _split_kwargs(hf_processor_mm_kwargs)[0])
        # vLLM drops fields of images whose KV is cached, except those on the CPU. Positions are computed from this one.
        plans = {PLAN_FIELDS[name]: MultiModalFieldConfig.batched(name, keep_on_cpu=True) for name in self.modalities}
        return {**stock, **plans}

    def _get_prompt_updates(self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: Any) -> Any:
        kwargs, prepared = _split_kwargs(hf_processor_mm_kwargs)
        updates = super()._get_prompt_updates(mm_items, kwargs, out_mm_kwargs)
        shorten = partial(shorten_update, out_mm_kwargs=out_mm_kwargs, is_profile=prepared.settings is PROFILED)
        return [shorten(update) if update.modality in self.modalities else update for update in updates]


def _split_kwargs(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], Preparation]:
    """The stock processor's arguments, and what `apply` added to them."""
    rest = dict(kwargs)
    return rest, rest.pop(FIELD)
