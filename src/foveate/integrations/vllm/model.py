"""The half that runs inside the engine: chooses the tokens as they leave the encoder, and gives each its place.

Where a kept token stood in its picture is known once the encoder has run, long after the engine has numbered the
prompt. So it travels in the token's own row, behind its features: the engine caches, slices and gathers the two
together. Numbers are written in digits below 256, which bfloat16 holds exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from foveate.integrations.vllm.engine import check_version
from foveate.integrations.vllm.settings import FIELD, Order
from foveate.method import resolve
from foveate.method.tokens import VisualTokens
from foveate.models.kept import mixed
from foveate.models.lookup import family
from foveate.pipeline.select import Subject, choose

check_version()
AXES, BASE = 3, 256
COLUMNS = 2 * AXES


class Pruned:
    """Put before a stock model of vLLM that takes positions of three axes (M-RoPE)."""

    config: Any

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        scheduler = vllm_config.scheduler_config
        self._encodes = max(scheduler.max_num_encoder_input_tokens, scheduler.max_num_batched_tokens)
        self._family = family(self.config.model_type)
        # At fixed addresses, which graphs of the GPU need. Not contiguous, as vLLM's own positions are not.
        size = scheduler.max_num_batched_tokens + 1
        self._offsets = torch.zeros(AXES, size, dtype=torch.long)
        self._positions = torch.zeros(AXES, size, dtype=torch.long)

    # -- the encoder's step ------------------------------------------------------------------------------------------

    def embed_multimodal(self, **kwargs: Any) -> Any:
        """The kept tokens of every picture (k, d), each with its place behind it; clips whole."""
        packed = kwargs.pop(FIELD, None)
        if packed is None:
            return [_with_places(rows, rows.new_zeros(AXES, len(rows))) for rows in super().embed_multimodal(**kwargs)]  # type: ignore[misc]
        orders = [Order.unpack(one) for one in packed]
        features: list[Tensor] = []
        for start, stop in _parts([order.total for order in orders], self._encodes):
            features += super().embed_multimodal(**self.some(kwargs, start, stop))  # type: ignore[misc]
        return self._prune(features, kwargs, orders)

    def some(self, kwargs: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
        """The encoder's inputs of some of the pictures."""
        return {name: value[start:stop] for name, value in kwargs.items()}

    def places(self, count: int, grid: tuple[int, int, int] | None) -> Tensor:
        """(3, count): where the tokens of a whole picture stand, counted from its first one."""
        raise NotImplementedError

    @torch.no_grad()
    def _prune(self, features: Sequence[Tensor], kwargs: Mapping[str, Any], orders: Sequence[Order]) -> list[Tensor]:
        width = self.config.get_text_config().hidden_size  # further columns are those of DeepStack
        embeds = [rows[:, :width] for rows in features]
        grids = self._family.grids(self.config, kwargs, embeds)
        stays = self._family.fixed(SimpleNamespace(base_model=self), kwargs, embeds)
        questions = self._words([order.question for order in orders])
        groups: dict[tuple[str, int], list[int]] = {}
        for n, order in enumerate(orders):
            if order.kept < order.total:
                fixed = stays[n]
                free = order.kept - (0 if fixed is None else int(fixed.sum()))
                groups.setdefault((order.method, free), []).append(n)
        kept, values = [torch.arange(len(rows), device=rows.device) for rows in features], list(features)
        for (method, free), members in groups.items():
            subjects = [Subject(n, VisualTokens(embeds[n], questions[n], grids[n]), stays[n]) for n in members]
            for n, choice in zip(members, choose(subjects, resolve(method), free), strict=True):
                kept[n] = choice.kept
                rows = features[n]
                values[n] = rows[choice.kept] if choice.mix is None else mixed(rows, choice.mix)
        found = []
        for n, order in enumerate(orders):
            compact = order.positions == "compact"
            places = torch.arange(order.kept).expand(AXES, -1) if compact else self.places(order.total, grids[n])
            places = places.to(kept[n].device)
            found.append(_with_places(values[n], places if compact else places[:, kept[n]]))
        return found

    def _words(self, questions: Sequence[Sequence[int]]) -> Sequence[Tensor]:
        """The embeddings (m, d) of each question's token ids."""
        ids = torch.tensor([i for question in questions for i in question], device=self._offsets.device)
        table = super().embed_input_ids(ids.long())  # type: ignore[misc]
        found: Sequence[Tensor] = table.split([len(question) for question in questions])
        return found

    def get_encoder_cudagraph_config(self) -> Any:
        """No modality: graphs of the encoder go past `embed_multimodal`."""
        return replace(super().get_encoder_cudagraph_config(), modalities=[])  # type: ignore[misc]

    # -- the decoder's step ------------------------------------------------------------------------------------------

    def embed_input_ids(
        self, input_ids: Tensor, multimodal_embeddings: Any = None, *, is_multimodal: Tensor | None = None
    ) -> Tensor:
        """Takes the places off the rows, for `forward`, which comes next."""
        self._offsets.zero_()
        if multimodal_embeddings is not None and len(multimodal_embeddings) and is_multimodal is not None:
            self._reserve(len(input_ids))
            rows = list(multimodal_embeddings)
            places = torch.cat([_places(part) for part in rows], 1).to(self._offsets.device)
            mask = is_multimodal.to(self._offsets.device, non_blocking=True)
            self._offsets[:, : len(mask)].masked_scatter_(mask.expand(AXES, -1), places)
            multimodal_embeddings = [part[:, :-COLUMNS] for part in rows]
        embedded: Tensor = super().embed_input_ids(  # type: ignore[misc]
            input_ids, multimodal_embeddings=multimodal_embeddings, is_multimodal=is_multimodal
        )
        return embedded

    def forward(
        self, input_ids: Any, positions: Tensor, intermediate_tensors: Any = None, inputs_embeds: Any = None,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        """The stock model's, with the kept tokens at their places."""
        count = positions.shape[-1]
        self._reserve(count)
        moved = self._positions[:, :count]
        torch.add(positions, self._offsets[:, :count], out=moved)
        return super().forward(input_ids, self.axes(moved), intermediate_tensors, inputs_embeds, **kwargs)  # type: ignore[misc]

    def axes(self, positions: Tensor) -> Tensor:
        """(3, n) as the decoder takes them."""
        return positions

    def _reserve(self, count: int) -> None:
        if count > self._offsets.shape[1]:
            more = count + 1 - self._offsets.shape[1]
            self._offsets, self._positions = (
                torch.nn.functional.pad(held, (0, more)) for held in (self._offsets, self._positions)
            )

    # -- the prompt's numbers ----------------------------------------------------------------------------------------

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: Sequence[Any]) -> tuple[Tensor, int]:
        """(3, n) and what decoding adds to the count of tokens: as if nothing had been dropped.

        All tokens of a pruned picture stand at its first one's place here; `forward` moves them on.
        """
        at, tokens, whole = 0, list[int](), []
        take: list[int] = []  # for each token of the prompt, its place among the unpruned ones
        compact = False
        for feature in sorted(mm_features, key=lambda f: f.mm_position.offset):
            span = feature.mm_position
            order = _order(feature)
            take += range(len(tokens), len(tokens) + span.offset - at)
            tokens += input_tokens[at : span.offset]
            at = span.offset + span.length
            first, total = len(tokens), span.length if order is None else order.total
            compact |= order is not None and order.positions == "compact"
            take += range(first, first + total) if order is None else [first] * span.length
            tokens += input_tokens[span.offset : at] if order is None else [input_tokens[span.offset]] * total
            whole.append(replace(feature, mm_position=replace(span, offset=first, length=total)))
        take += range(len(tokens), len(tokens) + len(input_tokens) - at)
        tokens += input_tokens[at:]
        if compact:
            first_of = {place: n for n, place in reversed(list(enumerate(take)))}
            return torch.tensor([first_of[place] for place in take]).expand(AXES, -1).clone(), 0
        positions, delta = self.number(tokens, whole)
        return positions[:, take], delta + len(tokens) - len(input_tokens)

    def number(self, tokens: list[int], features: Sequence[Any]) -> tuple[Tensor, int]:
        """`get_mrope_input_positions` of the unpruned prompt."""
        found: tuple[Tensor, int] = super().get_mrope_input_positions(tokens, features)  # type: ignore[misc]
        return found


class OneAxis(Pruned):
    """For a stock model whose tokens are numbered one by one."""

    supports_mrope = True  # to vLLM; its decoder never sees more than one axis

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self._last = positions_of(vllm_config.model_config) - 1

    def places(self, count: int, grid: tuple[int, int, int] | None) -> Tensor:
        """One after the other."""
        return torch.arange(count).expand(AXES, -1)

    def axes(self, positions: Tensor) -> Tensor:
        """Any of the three: they are the same. An answer that runs past the last position stays there."""
        return positions[0].clamp_(max=self._last)

    def number(self, tokens: list[int], features: Sequence[Any]) -> tuple[Tensor, int]:
        """Counted."""
        return torch.arange(len(tokens)).expand(AXES, -1), 0


def positions_of(model_config: Any) -> int:
    """How many the decoder's table of rotations has: vLLM stops a request by its kept tokens, which are fewer."""
    return int(max(model_config.hf_text_config.max_position_embeddings, model_config.max_model_len))


def _order(feature: Any) -> Order | None:
    """None for a clip, which is whole."""
    return Order.unpack(feature.data[FIELD].data) if feature.modality == "image" else None


def _parts(totals: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Neighbouring pictures of at most so many tokens: the engine counts the kept ones when it fills a step."""
    start = held = 0
    for n, total in enumerate(totals):
        if n > start and held + total > most:
            yield start, n
            start, held = n, 0
        held += total
    if start < len(totals):
        yield start, len(totals)


def _with_places(rows: Tensor, places: Tensor) -> Tensor:
    """(n, d) rows and (3, n) places as (n, d + 6)."""
    digits = torch.stack((places // BASE, places % BASE)).flatten(0, 1).T
    return torch.cat((rows, digits.to(rows)), 1)


def _places(rows: Tensor) -> Tensor:
    """(3, n): what `_with_places` has put there."""
    digits = rows[:, -COLUMNS:].T.long().unflatten(0, (2, AXES))
    places: Tensor = digits[0] * BASE + digits[1]
    return places
