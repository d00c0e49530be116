"""Families whose tower takes patches with their places: some merge units of a batch go through it, the others are NaN.

A merge unit is the square of patches that becomes one token. The tower is the stock one: where its patches lie, and
which of them see each other, are arguments of its own.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from foveate.errors import InputError
from foveate.models.base import Family, Inputs
from foveate.models.encoders import make_arguments


class PatchEncoder(Family):
    """A tower of `transformers` that can be called with some merge units of a batch, at their own places.

    In a layer with windows a patch sees what was encoded of its window, in any other layer what was encoded of its
    image or frame.
    """

    def vision_tower(self, model: Any) -> Any:
        """The module that encodes patches."""
        return model.base_model.visual

    def encode_units(self, model: Any, inputs: Inputs, modality: str, chosen: Sequence[Tensor]) -> Any:
        """`encode`, where only the chosen merge units go through the tower.

        Args:
            model: A model of the family.
            inputs: The processor's output.
            modality: "image" or "video".
            chosen: For every image or video (n,) bool, which of its merge units to encode, in the order of its tokens:
                frame by frame and row by row.

        Returns:
            What `encode` returns, bit for bit where all are chosen. The tokens of all other merge units are NaN.

        Raises:
            InputError: Nothing is chosen, or the patches do not fit their grids.
        """
        grids, side = self.read_grids(inputs, modality), self.vision_tower(model).spatial_merge_size
        units, name = torch.cat(list(chosen)).to(grids.device), self.traits.main_inputs[modality]
        patches, count = units.repeat_interleave(side**2), int(grids.prod(-1).sum())
        if len(inputs[name]) != count or len(patches) != count:
            raise InputError(
                f"{name} holds {len(inputs[name])} patches, {modality}_grid_thw stands for {count} and {len(patches)} "
                "are chosen from: pass what the model's processor returned."
            )
        if not bool(units.any()):
            raise InputError("No merge unit is chosen: choose one at least, of any image.")
        rows = [(1, side, side * int(own.sum())) for own in chosen]  # read for the numbers of patches alone
        own = self.encoder_inputs(model, inputs, modality)
        own |= {name: inputs[name][patches.to(inputs[name].device)], f"{modality}_grid_thw": grids.new_tensor(rows)}
        encoder = getattr(model.base_model, f"get_{modality}_features")
        places = place_units(self.vision_tower(model), grids, units)
        encoded = encoder(**make_arguments(encoder, own), **places, return_dict=True)
        return write_levels(encoded, [_spread(level, chosen) for level in read_levels(encoded)])

    def encode_split(
        self, model: Any, inputs: Inputs, modality: str, chosen: Sequence[Tensor], limit: int | None
    ) -> Any:
        """`encode_units` of at most `limit` patches at once; None for any number.

        It is cut between images and between frames, which do not see each other: but for rounding nothing changes.

        Raises:
            InputError: More patches than that are chosen of a single image or frame.
        """
        if limit is None:
            return self.encode_units(model, inputs, modality, chosen)
        encoded = None
        frames = self.read_grids(inputs, modality)[:, 0].tolist()
        for part in _group_frames(chosen, frames, limit // self.vision_tower(model).spatial_merge_size ** 2):
            new = self.encode_units(model, inputs, modality, part)
            if encoded is not None:
                levels = zip(read_levels(new), read_levels(encoded), strict=True)
                write_levels(new, [_merge(level, other, part) for level, other in levels])
            encoded = new
        return encoded

    def all_units(self, model: Any, inputs: Inputs, modality: str) -> list[Tensor]:
        """For every image or video (n,) true: all of its merge units."""
        sizes = self.read_grids(inputs, modality).prod(-1) // self.vision_tower(model).spatial_merge_size ** 2
        return [torch.ones(size, dtype=torch.bool) for size in sizes.tolist()]

    def read_grids(self, inputs: Inputs, modality: str) -> Tensor:
        """(images, 3): frames, and patches down and across. Raises `InputError` where they did not come."""
        grids: Tensor | None = inputs.get(f"{modality}_grid_thw")
        if grids is None:
            raise InputError(f"{modality}_grid_thw is missing: pass what the model's processor returned.")
        return grids


def place_units(tower: Any, grids: Tensor, units: Tensor) -> dict[str, Tensor]:
    """The tower's own arguments by which the patches of these `units` (n,) bool lie where they lie among all.

    Args:
        tower: The stock tower.
        grids: (images, 3) of the whole images, in patches.
        units: Which merge units of all images go through the tower.
    """
    from transformers import vision_utils

    side = tower.spatial_merge_size
    patches = units.repeat_interleave(side**2)
    places = {
        "position_ids": vision_utils.get_vision_position_ids(grids, side)[patches],
        "cu_seqlens": _cut_ends(vision_utils.get_vision_cu_seqlens(grids), units, side**2),
    }
    if hasattr(tower, "num_grid_per_side"):  # learned positions, interpolated
        taps, weights = vision_utils.get_vision_interpolation_indices_and_weights(
            grids, tower.num_grid_per_side, tower.interpolation_mode, tower.interpolation_align_corners, side
        )
        places |= {"interp_indices": taps[patches], "interp_weights": weights[patches]}
    if hasattr(tower, "fullatt_block_indexes"):  # the other layers have windows
        order, ends = vision_utils.get_vision_window_index(grids, side, tower.window_size, tower.patch_size)
        order = order.to(units.device)
        ranks = units.cumsum(0) - 1
        places["window_index"] = ranks[order[units[order]]]
        places["cu_window_seqlens"] = _cut_ends(ends, units[order], side**2)
    return places


def read_levels(encoded: Any) -> list[Sequence[Tensor]]:
    """The tokens (n, d) of every item, and those of each level of DeepStack."""
    return [encoded.pooler_output, *(getattr(encoded, "deepstack_features", None) or [])]


def write_levels(encoded: Any, levels: Sequence[Sequence[Tensor]]) -> Any:
    """Put other tokens into this output, and return it."""
    encoded.pooler_output = levels[0]
    if getattr(encoded, "deepstack_features", None) is not None:
        encoded.deepstack_features = list(levels[1:])
    return encoded


def _cut_ends(ends: Tensor, units: Tensor, size: int) -> Tensor:
    """Where segments end, in patches, once only these `units` (n,) of `size` patches are left; no segment is empty."""
    before = pad(units.cumsum(0), (1, 0))
    left: Tensor = (before[ends.long() // size] * size).unique_consecutive()
    return left.to(ends.dtype)


def _group_frames(chosen: Sequence[Tensor], frames: Sequence[int], limit: int) -> Iterator[list[Tensor]]:
    """The chosen units of all items in groups of at most `limit`, each of whole images or frames."""
    part, left = [torch.zeros_like(own) for own in chosen], limit
    for number, (own, count) in enumerate(zip(chosen, frames, strict=True)):
        for frame in torch.arange(len(own), device=own.device).chunk(count):
            size = int(own[frame].sum())
            if size > limit:
                raise InputError(
                    f"max_encoder_memory is enough for {limit} of the tokens of an image or frame at once, and one has "
                    f"{size}: raise it, or make the image or video smaller."
                )
            if size > left:
                yield part
                part, left = [torch.zeros_like(other) for other in chosen], limit
            part[number][frame] = own[frame]
            left -= size
    yield part


def _merge(level: Sequence[Tensor], other: Sequence[Tensor], chosen: Sequence[Tensor]) -> list[Tensor]:
    """The tokens of `level` where they are chosen, those of `other` elsewhere."""
    return [
        torch.where(own.to(new.device)[:, None], new, old) for new, old, own in zip(level, other, chosen, strict=True)
    ]


def _spread(features: Sequence[Tensor], chosen: Sequence[Tensor]) -> list[Tensor]:
    """The tokens (n, d) of every item, NaN where they were not chosen."""
    return [_put(feature, own.to(feature.device)) for feature, own in zip(features, chosen, strict=True)]


def _put(feature: Tensor, chosen: Tensor) -> Tensor:
    whole = feature.new_full((len(chosen), feature.shape[-1]), math.nan)
    return whole.masked_scatter(chosen[:, None], feature)
