"""Llama 3.2 Vision: tiles of an image, which some layers of the language model attend across to."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from foveate.models.base import Inputs
from foveate.models.cross import CrossAttention, States

HIDDEN = -1.0  # in a mask: no word ever sees this state


@dataclass(eq=False)
class _Step:
    """Whether the cache already holds the states; the mask knows, for it is cut down to the new words then."""

    cached: bool = False


class _Preserved(Tensor):
    """Tensor subclass preserved by the operations that `generate` applies to inputs."""

    step: _Step
    tail: bool = False
    stays: ClassVar[frozenset[str]] = frozenset({"repeat_interleave", "clone", "detach", "to", "contiguous"})

    @classmethod
    def of(cls, values: Tensor, step: _Step, tail: bool = False) -> Any:
        """These values, and what goes with them."""
        marked = values.as_subclass(cls)
        marked.step, marked.tail = step, tail
        return marked

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Anything but the operations in `stays` gives a plain tensor."""
        out = super().__torch_function__(func, types, args, kwargs or {})
        if not isinstance(out, cls):
            return out
        if func.__name__ not in cls.stays:
            return out.as_subclass(Tensor)
        one = next(arg for arg in (args[0] if isinstance(args[0], (list, tuple)) else args) if isinstance(arg, cls))
        return cls.of(out, one.step, one.tail or (func.__name__ == "__getitem__" and out.shape[1] < one.shape[1]))


class _States(_Preserved):
    """The states (b, n, d) of kept tokens, of which nothing is left once the cache holds their keys and values."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The layers' projections find the states, or none."""
        if func is torch.nn.functional.linear:
            states = args[0].as_subclass(Tensor)
            return func(states[:, :0] if args[0].step.cached else states, *args[1:], **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)


class _Mask(_Preserved):
    """(b, L, 1, n): 1 where a word sees a state, 0 where it does not, `HIDDEN` where no word ever does.

    The stock code makes it additive, after it has repeated each column for every token of a tile: there is one a token
    already. It opens all of a row that sees nothing; hidden columns stay closed there.
    """

    stays = _Preserved.stays | {"__getitem__", "cat", "expand", "view", "unsqueeze", "__rsub__", "masked_fill"}

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What the stock code does to a mask of tiles, for a mask of tokens."""
        name = func.__name__
        if name == "repeat_interleave" and (kwargs or {}).get("dim") == 3:
            args[0].step.cached = args[0].tail
            return args[0]
        out = super().__torch_function__(func, types, args, kwargs)
        if name == "masked_fill":  # of 1 - mask
            hidden = args[0].as_subclass(Tensor) > 1
            return cls.of(out.as_subclass(Tensor).masked_fill(hidden, -torch.inf), args[0].step)
        if name == "ne":
            return args[0].as_subclass(Tensor) > args[1]
        if name == "mul_":
            return out.nan_to_num(nan=torch.finfo(out.dtype).min)  # -inf times 0 or 1
        return out


class Mllama(CrossAttention):
    """Llama 3.2 Vision; cross-attention, tiles; chosen for diversity alone, or by `trimmed_llama`.

    A budget is for all tiles of an image; padding tiles are never kept.

    In the stock model a word that sees no image (all before the first one) still attends to every state, whatever the
    mask says: here, to every state that stays. Not for `cache_implementation="static"`, whose room for states is that
    of whole images, and all of it is attended to. Without a `cross_attention_mask` every word sees every state, as with
    eager attention (SDPA then attends to the states as if they were the text).
    """

    # several tiles, each with a class token
    traits = replace(CrossAttention.traits, raster=False, reuse="whole")

    def encoder_inputs(self, model: Any, inputs: Inputs, modality: str = "image") -> dict[str, Any]:
        """Images, and how they were cut into tiles."""
        names = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")
        return {name: inputs[name] for name in names if inputs.get(name) is not None}

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> States:
        """The stock tower and projector."""
        core, encoder_inputs = model.base_model, self.encoder_inputs(model, inputs)
        states = core.multi_modal_projector(core.vision_model(**encoder_inputs).last_hidden_state)
        real = encoder_inputs["aspect_ratio_mask"].bool() & (encoder_inputs["aspect_ratio_ids"] != 0)[..., None]
        number = torch.arange(real.shape[1], device=real.device)[:, None]
        owner = torch.where(real, number, -1)[..., None].expand(states.shape[:-1])
        return States(states.flatten(1, 3), owner.flatten(1))

    def seen(self, inputs: Inputs, encoded: States) -> Tensor:
        """As the processor's mask says for every tile; without it, as in the stock model, every word sees all."""
        if inputs.get("cross_attention_mask") is None:
            return torch.ones(*inputs["input_ids"].shape, encoded.owner.shape[1], device=encoded.owner.device).bool()
        tiles: Tensor = inputs["cross_attention_mask"].flatten(2).bool()
        return tiles.repeat_interleave(encoded.owner.shape[1] // tiles.shape[2], dim=2)

    def first_cross_attention(self, model: Any) -> Any:
        """In the first of the layers that the configuration lists."""
        text = model.base_model.language_model
        return text.layers[min(text.config.cross_attention_layers)].cross_attn

    def across(self, model: Any, states: Tensor, seen: Tensor, real: Tensor) -> dict[str, Any]:
        """One column of the mask for every state."""
        step = _Step()
        marks = seen.float().masked_fill(~real[:, None], HIDDEN)[:, :, None]
        return {"cross_attention_states": _States.of(states, step), "cross_attention_mask": _Mask.of(marks, step)}
