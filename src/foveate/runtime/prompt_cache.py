"""The KV cache of a conversation: the next prompt goes on from what it begins with."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.hooks.generate import find_assistance, read_setting
from foveate.hooks.record import find_cache
from foveate.models import family_of
from foveate.models.cache import NAMES, cache_name
from foveate.models.generation import has_own_decoder
from foveate.models.kept import take_tokens
from foveate.models.wrappers import unwrap
from foveate.pipeline.report import PrunedInputs
from foveate.runtime.token_sequence import (
    Token,
    count_shared,
    counts_tokens,
    follow_tokens,
    order_behind,
    read_tokens,
)

CROPPABLE = frozenset({"DynamicLayer", "DynamicIndexedLayer", "DummyLayer"})  # layers of transformers' caches
SLIDING = "DynamicSlidingWindowLayer"


class PromptCache:
    """The keys and values of the last prompt and its answer.

    A prompt is compared with it token by token: by id, position and features. What both begin with is not computed
    again, so the answer is that of the stock model on exactly the tokens of the prompt. Where a cache cannot be cut
    (sliding windows, recurrent layers, states that the text attends across to) it serves only a prompt that begins
    with all of it. One prompt of one row; not for threads.

    Args:
        model: A model of transformers.
        is_compact: Whether prompts number their tokens anew.
    """

    def __init__(self, model: Any, *, is_compact: bool) -> None:
        self._model, self._family = model, family_of(unwrap(model))
        self._is_compact = is_compact or self._family.traits.sequential_positions
        self._cache: Any = None
        self._tokens: list[Token] = []
        self._next: list[Token] | None = None  # the prompt that is being answered
        self._width = 0  # of that, before pruning

    @property
    def length(self) -> int:
        """How many tokens it holds."""
        return len(self._tokens)

    def begin(
        self, short: PrunedInputs, options: Mapping[str, Any], *, appends: bool
    ) -> tuple[Mapping[str, Any], dict[str, Any], int]:
        """What `generate` takes for this prompt, its options, and how many of the tokens are not computed again.

        `appends` puts the tokens that the cache does not hold behind those that it holds, also where they stand before
        them in the prompt. `finish` or `clear` must follow.
        """
        tokens = None
        if self._family.traits.reuse != "nothing" and _is_plain(self._model, options):
            tokens = read_tokens(unwrap(self._model), self._family, short, is_compact=self._is_compact)
        if not tokens:
            self.clear()
            return short, dict(options), 0
        order = order_behind(tokens, self._tokens) if appends else list(range(len(tokens)))
        shared = self._cut([tokens[n] for n in order])
        order = order if shared else list(range(len(tokens)))
        self._next, self._width = [tokens[n] for n in order], short.layout.width if short.layout else 0
        inputs = self._take(short, order, shared) if shared or appends else dict(short)
        return inputs, {**options, "return_dict_in_generate": True}, shared

    def finish(self, output: Any) -> None:
        """Keep the cache of what `generate` returned, if it is that of the prompt and the answer; None: it failed."""
        tokens, cache = self._next, find_cache(output)
        if tokens is None or cache is None:
            return self.clear()
        answer = output.sequences[0, len(tokens) : -1].tolist()  # the last token was not read
        self._tokens, self._cache = [*tokens, *follow_tokens(tokens, self._width, answer)], cache
        self._next = None
        if cache.get_seq_length() != len(self._tokens):
            self.clear()
        return None

    def clear(self) -> None:
        """Free the cache."""
        self._cache, self._tokens, self._next = None, [], None

    def _cut(self, tokens: Sequence[Token]) -> int:
        """Cut the cache to what this prompt begins with, without its last token; return the length."""
        reuse, length = self._family.traits.reuse, len(self._tokens)
        shared = min(count_shared(tokens, self._tokens, in_blocks=reuse == "image"), len(tokens) - 1)
        if shared < length and (reuse == "whole" or not can_crop(self._cache)):
            shared = 0
        if not shared:
            self.clear()
        elif shared < length:
            self._cache.crop(shared - length)
            self._tokens = self._tokens[:shared]
        return shared

    def _take(self, short: PrunedInputs, order: Sequence[int], shared: int) -> dict[str, Any]:
        """The prompt in this order, with the features behind the first `shared` tokens, and the cache."""
        inputs = dict(short)
        at = torch.tensor(order, device=short["input_ids"].device)
        for name, value in short.items():
            if name in ("input_ids", "position_ids") or name.endswith("token_type_ids"):
                inputs[name] = value[..., at]
        if "position_ids" in short:
            inputs["position_ids"] = self._number(short["position_ids"], inputs["position_ids"])
        if self._cache is not None:
            inputs[cache_name(type(unwrap(self._model)).forward)] = self._cache
        if not self._family.traits.in_sequence:
            return {name: value for name, value in inputs.items() if not shared or name != "cross_attention_states"}
        encoded = {}
        for modality, output in inputs.pop("mm_encoder_outputs").items():
            places = self._family.placeholders(unwrap(self._model).config, short, modality)[0]
            ranks, is_visual = (places.cumsum(0) - 1)[at][shared:], places[at][shared:]
            if bool(is_visual.any()):
                encoded[modality] = take_tokens(output, ranks[is_visual])
        return {**inputs, "mm_encoder_outputs": encoded} if encoded else inputs

    def _number(self, before: Tensor, positions: Tensor) -> Tensor:
        """The positions in the new order, where they count tokens counted again."""
        if self._is_compact:
            return before
        return torch.cat([before[:1], positions[1:]]) if counts_tokens(before) else positions


def can_crop(cache: Any) -> bool:
    """Whether the end of a cache can be taken off, so that it is as before: full attention, or windows not yet full."""
    kinds = [(type(layer).__name__, layer) for layer in getattr(cache, "layers", ())]
    return all(
        kind in CROPPABLE or (kind == SLIDING and layer.get_seq_length() < layer.sliding_window)
        for kind, layer in kinds
    )


def _is_plain(model: Any, options: Mapping[str, Any]) -> bool:
    """Whether `generate` goes on token by token, in one row, with the cache that it makes by itself."""
    model = unwrap(model)
    if has_own_decoder(model) or any(options.get(name) is not None for name in (*NAMES, "custom_generate")):
        return False
    single = all((read_setting(model, options, name) or 1) == 1 for name in ("num_beams", "num_return_sequences"))
    uses = read_setting(model, options, "use_cache") is not False
    own = read_setting(model, options, "cache_implementation") in (None, "dynamic")
    return single and uses and own and find_assistance(model, options) is None
