"""The part that runs inside the engine: selects tokens as they leave the encoder, and keeps the position of each.

vLLM numbers a prompt before the encoder has run, so the offset of a kept token within its image is known too late. It
therefore travels in the token's own row (`rows.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from foveate.integrations.vllm.clips import insert_words, place_kept, share_budget
from foveate.integrations.vllm.engine import check_version
from foveate.integrations.vllm.features import make_store
from foveate.integrations.vllm.prompt import restore_prompt
from foveate.integrations.vllm.rows import AXES, COLUMNS, append_offsets, join_rows, read_offsets
from foveate.integrations.vllm.settings import PLAN_FIELDS, EngineSettings, ImagePlan
from foveate.method import resolve
from foveate.models.kept import keep_values
from foveate.models.lookup import family
from foveate.models.visual_input import make_visual_input
from foveate.pipeline.budget import Share
from foveate.pipeline.select import select_tokens

check_version()
Stock: Any = object  # a stock model follows in the bases of every subclass


class PrunedMRopeModel(Stock):
    """Put before a stock model of vLLM that takes positions of three axes (M-RoPE)."""

    config: Any

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        scheduler = vllm_config.scheduler_config
        self._max_encoder_tokens = max(scheduler.max_num_encoder_input_tokens, scheduler.max_num_batched_tokens)
        self._family = family(self.config.model_type)
        self._features = make_store(vllm_config, EngineSettings.from_config(self.config))
        # CUDA graphs need fixed addresses. Not contiguous, like vLLM's own positions.
        size = scheduler.max_num_batched_tokens + 1
        self._offsets = torch.zeros(AXES, size, dtype=torch.long)
        self._positions = torch.zeros(AXES, size, dtype=torch.long)

    @property
    def base_model(self) -> Any:
        """This model: a `Family` looks for the parts of a model of transformers under this name."""
        return self

    # -- the encoder's step ------------------------------------------------------------------------------------------

    def embed_multimodal(self, **kwargs: Any) -> Any:
        """The kept tokens of every image or clip (k, d + 6), each followed by its offset."""
        modality = next((name for name, field in PLAN_FIELDS.items() if field in kwargs), None)
        if modality is None:  # clips that this model does not prune
            return [
                append_offsets(rows, rows.new_zeros(AXES, len(rows))) for rows in super().embed_multimodal(**kwargs)
            ]
        plans = [ImagePlan.unpack(plan) for plan in kwargs.pop(PLAN_FIELDS[modality])]
        totals, device = [plan.total for plan in plans], self._offsets.device
        features = self._features.read([plan.image for plan in plans], partial(self._encode, kwargs, totals))
        return self._prune([rows.to(device) for rows in features], kwargs, plans, modality)

    def _encode(self, kwargs: Mapping[str, Any], totals: Sequence[int], numbers: Sequence[int]) -> list[Tensor]:
        """The features of some of the images, whose whole numbers of tokens are `totals`."""
        parts = [self.slice_inputs(kwargs, n, n + 1) for n in numbers] if len(numbers) < len(totals) else [kwargs]
        inputs = {name: join_rows([part[name] for part in parts]) for name in parts[0]}
        features: list[Tensor] = []
        for start, stop in split_into_steps([totals[n] for n in numbers], self._max_encoder_tokens):
            encoded = super().embed_multimodal(**self.slice_inputs(inputs, start, stop))
            features += [rows.flatten(0, -2) for rows in encoded]  # some models give clips a first axis of one
        return features

    def load_weights(self, *args: Any, **kwargs: Any) -> Any:
        """The stock model's. Features of other weights are forgotten."""
        self._features.clear()
        return super().load_weights(*args, **kwargs)

    def slice_inputs(self, kwargs: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
        """The encoder's inputs for the images (or clips) from `start` to `stop`."""
        return {name: value[start:stop] for name, value in kwargs.items()}

    def describe_images(self, kwargs: Mapping[str, Any], plans: Sequence[ImagePlan]) -> Mapping[str, Any]:
        """The inputs from which the `Family` reads how the tokens of images lie."""
        return kwargs

    def make_offsets(self, count: int, grid: tuple[int, int, int] | None) -> Tensor:
        """(3, count): the positions of the tokens of a whole image, counted from its first one."""
        raise NotImplementedError

    def make_clip_offsets(self, plan: ImagePlan, kwargs: Mapping[str, Any], n: int) -> Tensor:
        """(3, plan.total): the same for clip `n`, whose fields are among `kwargs`."""
        raise NotImplementedError

    @torch.no_grad()
    def _prune(
        self, features: Sequence[Tensor], kwargs: Mapping[str, Any], plans: Sequence[ImagePlan], modality: str
    ) -> list[Tensor]:
        width = self.config.get_text_config().hidden_size  # further columns are those of DeepStack
        embeds = [rows[:, :width] for rows in features]
        inputs = self.describe_images(kwargs, plans) if modality == "image" else kwargs
        grids = self._family.grids(self.config, inputs, embeds, modality)
        protected = self._family.protected(self, inputs, embeds, modality)
        questions = dict(enumerate(self._embed_ids([plan.question for plan in plans])))
        words = self._embed_ids([[token for _, token in plan.words] for plan in plans])
        items = [
            replace(make_visual_input(modality, n, torch.arange(0), 0, rows), grid=grids[n], protected=protected[n])
            for n, rows in enumerate(embeds)
        ]
        for method in dict.fromkeys(plan.method for plan in plans):
            shares: list[Share] = []
            for n, plan in enumerate(plans):
                if plan.method == method and not plan.is_whole:
                    count = plan.kept - plan.total + int(items[n].selectable.sum())
                    shares += share_budget(n, items[n], count)
            items = select_tokens(items, shares, questions, resolve(method))
        results = []
        for n, (rows, plan, item) in enumerate(zip(features, plans, items, strict=True)):
            if plan.is_whole:  # its places are in the prompt, as in the stock model
                results.append(append_offsets(rows, rows.new_zeros(AXES, len(rows))))
                continue
            places = place_kept(plan, item.kept)
            if plan.positions == "compact":
                offsets = torch.arange(plan.kept).expand(AXES, -1)
            elif modality == "image":
                offsets = self.make_offsets(plan.total, item.grid).to(rows.device)[:, places]
            else:
                offsets = self.make_clip_offsets(plan, kwargs, n).to(rows.device)[:, places]
            rows = insert_words(keep_values(rows, item), plan, places, words[n])
            results.append(append_offsets(rows, offsets.to(rows.device)))
        return results

    def _embed_ids(self, lists: Sequence[Sequence[int]]) -> list[Tensor]:
        """The embeddings (m, d) of each list of token ids."""
        ids = torch.tensor([i for own in lists for i in own], device=self._offsets.device)
        embeds: Tensor = super().embed_input_ids(ids.long())
        return list(embeds.split([len(own) for own in lists]))

    def get_encoder_cudagraph_config(self) -> Any:
        """No modality: CUDA graphs of the encoder would bypass `embed_multimodal`."""
        return replace(super().get_encoder_cudagraph_config(), modalities=[])

    # -- the decoder's step ------------------------------------------------------------------------------------------

    def embed_input_ids(
        self, input_ids: Tensor, multimodal_embeddings: Any = None, *, is_multimodal: Tensor | None = None
    ) -> Any:
        """Takes the offsets off the rows and keeps them for `forward`, which vLLM calls next."""
        self._offsets.zero_()
        if multimodal_embeddings is not None and len(multimodal_embeddings) and is_multimodal is not None:
            self._reserve(len(input_ids))
            rows = list(multimodal_embeddings)
            offsets = torch.cat([read_offsets(part) for part in rows], 1).to(self._offsets.device)
            mask = is_multimodal.to(self._offsets.device, non_blocking=True)
            self._offsets[:, : len(mask)].masked_scatter_(mask.expand(AXES, -1), offsets)
            multimodal_embeddings = [part[:, :-COLUMNS] for part in rows]
        return super().embed_input_ids(
            input_ids, multimodal_embeddings=multimodal_embeddings, is_multimodal=is_multimodal
        )

    def forward(
        self, input_ids: Any, positions: Any, intermediate_tensors: Any = None, inputs_embeds: Any = None, **kwargs: Any
    ) -> Any:
        """The stock model's, with the offsets of kept tokens added to their positions."""
        count = positions.shape[-1]
        self._reserve(count)
        moved = self._positions[:, :count]
        torch.add(positions, self._offsets[:, :count], out=moved)
        positions = self.to_decoder_positions(moved)
        return super().forward(input_ids, positions, intermediate_tensors, inputs_embeds, **kwargs)

    def to_decoder_positions(self, positions: Tensor) -> Tensor:
        """(3, n) as the decoder takes them."""
        return positions

    def _reserve(self, count: int) -> None:
        if count > self._offsets.shape[1]:
            more = count + 1 - self._offsets.shape[1]
            self._offsets, self._positions = (
                torch.nn.functional.pad(buffer, (0, more)) for buffer in (self._offsets, self._positions)
            )

    # -- the prompt's positions --------------------------------------------------------------------------------------

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: Sequence[Any]) -> tuple[Tensor, int]:
        """(3, n), and what decoding adds to the number of tokens: as if nothing had been dropped.

        All that is kept of a pruned image or clip gets the position of its first token; `forward` adds the offsets.
        """
        whole = restore_prompt(input_tokens, mm_features)
        if whole.is_compact:
            first_of = {place: n for n, place in reversed(list(enumerate(whole.columns)))}
            return torch.tensor([first_of[place] for place in whole.columns]).expand(AXES, -1).clone(), 0
        positions, delta = self.number_unpruned(whole.tokens, whole.features)
        return positions[:, whole.columns], delta + len(whole.tokens) - len(input_tokens)

    def number_unpruned(self, tokens: list[int], features: Sequence[Any]) -> tuple[Tensor, int]:
        """`get_mrope_input_positions` of the unpruned prompt."""
        positions, delta = super().get_mrope_input_positions(tokens, features)
        return positions, delta


class PrunedRopeModel(PrunedMRopeModel):
    """Put before a stock model of vLLM that takes positions of one axis."""

    supports_mrope = True  # for the engine; the decoder still gets one axis

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self._last_position = read_max_positions(vllm_config.model_config) - 1

    def make_offsets(self, count: int, grid: tuple[int, int, int] | None) -> Tensor:
        """0, 1, 2, ... on every axis."""
        return torch.arange(count).expand(AXES, -1)

    def make_clip_offsets(self, plan: ImagePlan, kwargs: Mapping[str, Any], n: int) -> Tensor:
        """0, 1, 2, ... on every axis."""
        return torch.arange(plan.total).expand(AXES, -1)

    def to_decoder_positions(self, positions: Tensor) -> Tensor:
        """One of the three equal axes. An answer that runs past the last position stays there."""
        return positions[0].clamp_(max=self._last_position)

    def number_unpruned(self, tokens: list[int], features: Sequence[Any]) -> tuple[Tensor, int]:
        """0, 1, 2, ... on every axis."""
        return torch.arange(len(tokens)).expand(AXES, -1), 0


def read_max_positions(model_config: Any) -> int:
    """How many positions the decoder's RoPE table has. vLLM limits a request by its kept tokens, which are fewer."""
    return int(max(model_config.hf_text_config.max_position_embeddings, model_config.max_model_len))


def split_into_steps(totals: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of images with at most `most` tokens before pruning. (The engine fills a step by kept tokens.)"""
    start = tokens = 0
    for n, total in enumerate(totals):
        if n > start and tokens + total > most:
            yield start, n
            start, tokens = n, 0
        tokens += total
    if start < len(totals):
        yield start, len(totals)
