"""One forward call under an in-decoder method: a prompt that is being pruned, or tokens that follow a pruned one."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.hooks.attention import Keys
from foveate.hooks.prompt import RatedImage
from foveate.hooks.report import Stage
from foveate.hooks.slots import Slots
from foveate.method.in_decoder import DecoderMethod
from foveate.models.cache import cache_name, cache_of


class DecodeCall:
    """Tokens after a pruned prompt: each layer's mask is as wide as that layer's own cache."""

    def __init__(self, config: Any, slots: Sequence[Slots], mask: Tensor | None) -> None:
        """`config` is the text model's, `mask` the caller's of prompt and new tokens."""
        self.config, self.slots, self.mask = config, list(slots), mask
        self._masks: dict[int, Any] = {}

    def before(self, layer: int, module: Any, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """The layer's input and keyword arguments, changed to what it holds."""
        del module
        here = self.find_slots(layer)
        return hidden, kwargs if here is None else {**kwargs, **self.make_arguments(layer, here, hidden, kwargs)}

    def after(self, layer: int, hidden: Tensor) -> Tensor:
        """The layer's output as the language model expects it."""
        del layer
        return hidden

    def find_slots(self, layer: int) -> Slots | None:
        """What a layer holds, None before the first drop."""
        return next((slots for slots in reversed(self.slots) if slots.layer <= layer), None)

    def make_arguments(self, layer: int, here: Slots, hidden: Tensor, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The mask and the position ids for `hidden` (b, q, d) in a layer that holds `here` of the prompt."""
        if here.layer not in self._masks:
            # Imported late: importing foveate must not import transformers' modelling code.
            from transformers.masking_utils import create_causal_mask

            cache = cache_of(kwargs)
            past = 0 if cache is None else cache.get_seq_length(layer)
            self._masks[here.layer] = create_causal_mask(
                config=self.config,
                inputs_embeds=hidden,
                attention_mask=here.make_mask(past + hidden.shape[1], self.mask).to(hidden.device),
                **{cache_name(create_causal_mask): cache},
                layer_idx=layer,
            )
        # The layers rotate by position_embeddings. Flash attention alone reads the ids, and takes a gap in them for the
        # border between packed sequences.
        return {"attention_mask": self._masks[here.layer], "position_ids": None}


class PrefillCall(DecodeCall):
    """A prompt with images: reads the attention before each drop, selects tokens, and cuts the sequence down."""

    def __init__(
        self, config: Any, method: DecoderMethod, mask: Tensor, images: Sequence[RatedImage],
        counts: Mapping[int, Sequence[int]], whole: int, answer: int = 0, notes: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """`counts` are, by the layer of each drop, how many tokens it leaves of each image.

        After `whole` layers, and after the last, the language model itself needs the whole sequence. `answer` tokens
        stand behind the prompt's last one.
        """
        super().__init__(config, (), None)
        self.method, self.images, self.counts, self.whole = method, images, counts, whole
        self.depth = config.num_hidden_layers
        self.whole_prompt = self.current = Slots.make_whole(mask)
        self.stages: list[Stage] = []
        self.cache: Any = None
        self.seconds = 0.0
        self.answer, self.notes = answer, notes

    def before(self, layer: int, module: Any, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Cut the input down to what this layer holds; before a drop, select tokens by this layer's attention."""
        here, rotary = self.find_slots(layer), kwargs["position_embeddings"]
        if here is not None:
            if here is not self.current:
                hidden = here.cut(hidden if self.current is self.whole_prompt else self.current.scatter(hidden))
            rotary = tuple(here.cut(part) for part in rotary)
            kwargs = {**kwargs, **self.make_arguments(layer, here, hidden, kwargs), "position_embeddings": rotary}
            self.current = here
        if layer + 1 in self.counts:
            started = time.perf_counter()
            with torch.no_grad():
                self._select(layer + 1, module, hidden, rotary)
            self.seconds += time.perf_counter() - started
            self.cache = cache_of(kwargs)
        return hidden, kwargs

    def after(self, layer: int, hidden: Tensor) -> Tensor:
        """Scatter the output back where the language model reads or adds to the whole sequence."""
        if self.current is self.whole_prompt or self.whole <= layer < self.depth - 1:
            return hidden
        hidden, self.current = self.current.scatter(hidden), self.whole_prompt
        return hidden

    def _select(self, drop: int, module: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> None:
        """`hidden` (b, S, d) and `rotary` are the input of the last layer before the drop."""
        here = self.find_slots(drop) or self.whole_prompt
        before = self.stages[-1].kept if self.stages else [image.item.kept for image in self.images]
        cos, sin = (part.expand(len(hidden), -1, -1) for part in rotary)
        keys = Keys(module, hidden, (cos, sin), here.real.to(hidden.device))
        stays = torch.zeros_like(self.whole_prompt.real).scatter(1, here.places, here.real)
        kept = []
        for image, left, count in zip(self.images, before, self.counts[drop], strict=True):
            row, places = image.item.row, image.item.columns[left.to(image.item.columns.device)]
            attention = keys.rows(row, here.find_slots(row, image.raters).to(hidden.device))
            columns = here.find_slots(row, places).to(hidden.device)
            selected = self.method.select(attention[..., columns], count).to(places.device)
            stays[row, places] = False
            stays[row, places[selected]] = True
            kept.append(left.to(selected.device)[selected])
        self.stages.append(Stage(drop, tuple(kept)))
        self.slots.append(Slots.make_kept(drop, stays))
