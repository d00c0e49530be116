"""Step 1 where `encode` is below 1 and the tower takes patches: a glance at a smaller image, then some windows."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.budget import to_fraction
from foveate.method.tiles import find_region, rank_tiles
from foveate.models.encoder_memory import count_patches
from foveate.models.patch_encoder import PatchEncoder, read_levels, write_levels
from foveate.models.windows import BLOCK, WindowPlan, plan_windows, shrink_patches
from foveate.models.wrappers import gather_shards
from foveate.pipeline.encode import NAN, Encoded, EncodedPart, drop_hidden_states, encode_missing
from foveate.pipeline.glance import glance
from foveate.pipeline.inputs import explain_refusal
from foveate.pipeline.locate import locate_items
from foveate.pipeline.select import read_tokens
from foveate.pipeline.settings import PruneSettings

LOOK = 1.0  # share of the smaller image's tokens that a first look sees
BOUNDED = "An image was encoded in part: more of it at once would need more than max_encoder_memory."
ONE_WINDOW = "An image of few windows was encoded whole: there is nothing of it to leave out."


def encode_windows(
    model: Any, family: PatchEncoder, inputs: Mapping[str, Any], settings: PruneSettings, shown: Sequence[str]
) -> EncodedPart:
    """Encode a smaller image of every image, then the windows that the question needs, at full size.

    Where no window was encoded, every token of the smaller image stands in the place at its middle; the other places
    there are empty. Where memory is bounded, videos go through the tower in groups of frames.
    """
    limit = find_limit(model, family, settings)
    plans = plan_images(model, family, inputs, settings, limit) if "image" in shown else []
    is_bounded = limit is not None
    videos = {m: _encode(model, family, inputs, m, None, limit) for m in shown if m == "video" and is_bounded}
    notes = _describe_plans(plans, settings)
    if not any(plan.windows for plan in plans):
        images = {"image": _encode(model, family, inputs, "image", None, limit)} if is_bounded and plans else {}
        return EncodedPart(Encoded({**images, **videos}) if images or videos else None, notes=notes)
    small = shrink_images(model, family, inputs, plans)
    coarse = _encode(model, family, small, "image", None, limit)
    looks = [_place(level, plans) for level in read_levels(coarse)]
    outputs = {"image": write_levels(coarse, looks), **videos}
    encoded = encode_missing(model, family, inputs, settings, Encoded(outputs))
    started = time.perf_counter()
    chosen, looked = _choose_windows(model, family, inputs, encoded, plans, settings)
    seconds = time.perf_counter() - started
    units = [plan.mark(own) for plan, own in zip(plans, chosen, strict=True)]
    fine = _encode(model, family, inputs, "image", units, limit)
    levels = [_join(level, look, units) for level, look in zip(read_levels(fine), looks, strict=True)]
    encoded = Encoded({**encoded.outputs, "image": write_levels(fine, levels)})
    marks = [_describe(plan, own) for plan, own in zip(plans, chosen, strict=True)]
    return EncodedPart(encoded, {"image": marks}, notes, seconds, looked)


def find_limit(model: Any, family: PatchEncoder, settings: PruneSettings) -> int | None:
    """How many patches may go through the tower at once; None where nothing bounds them."""
    memory = settings.max_encoder_memory
    return None if memory is None else count_patches(family.vision_tower(model), memory)


def plan_images(
    model: Any, family: PatchEncoder, inputs: Mapping[str, Any], settings: PruneSettings, limit: int | None
) -> list[WindowPlan]:
    """How each image of the batch is encoded. Raises `InputError` where the settings allow no part of one."""
    with explain_refusal(model):
        grids = family.read_grids(inputs, "image").tolist()
    tower = family.vision_tower(model)
    merge = tower.spatial_merge_size
    side = tower.window_size // merge // tower.config.patch_size if hasattr(tower, "fullatt_block_indexes") else BLOCK
    plans = []
    for frames, height, width in grids:
        count = frames * height * width
        share = min(to_fraction(settings.encode_share), Fraction(count if limit is None else limit, count))
        plans.append(plan_windows((frames, height // merge, width // merge), side, share))
    if any(plan.windows for plan in plans):
        _check_part(settings)
    return plans


def _check_part(settings: PruneSettings) -> None:
    """Raise `InputError` where settings are not for a part of an image; `check_encode` did so for `encode` below 1."""
    small = "max_encoder_memory is too little for an image as a whole"
    if settings.policy:
        raise InputError(f"{small}, and a policy was calibrated on whole images: raise it, or give keep a number.")
    if "image" not in settings.modalities:
        raise InputError(f'{small}, and a part of one is chosen to be pruned: raise it, or add "image" to modalities.')


def _describe_plans(plans: Sequence[WindowPlan], settings: PruneSettings) -> tuple[str, ...]:
    """What the caller should know about them, in sentences."""
    whole = settings.encode_share < 1 and any(not plan.windows for plan in plans)
    part = any(plan.windows and plan.share < to_fraction(settings.encode_share) for plan in plans)
    return (*([ONE_WINDOW] if whole else []), *([BOUNDED] if part else []))


def shrink_images(
    model: Any, family: PatchEncoder, inputs: Mapping[str, Any], plans: Sequence[WindowPlan]
) -> dict[str, Any]:
    """The inputs with the smaller images."""
    tower, name = family.vision_tower(model), family.traits.main_inputs["image"]
    merge = tower.spatial_merge_size
    sizes = [plan.total * merge**2 for plan in plans]
    if sum(sizes) != len(inputs[name]):
        raise InputError(f"{name} holds {len(inputs[name])} patches, and image_grid_thw stands for {sum(sizes)}.")
    small = [
        shrink_patches(patches, plan.grid, plan.coarse, merge, tower.config.patch_size)
        for patches, plan in zip(inputs[name].split(sizes), plans, strict=True)
    ]
    grids = [(t, h * merge, w * merge) for t, h, w in (plan.coarse for plan in plans)]
    return {**inputs, name: torch.cat(small), "image_grid_thw": inputs["image_grid_thw"].new_tensor(grids)}


def _encode(
    model: Any, family: PatchEncoder, inputs: Mapping[str, Any], modality: str, units: Sequence[Tensor] | None,
    limit: int | None,
) -> Any:  # fmt: skip
    """The encoder's output on these units, or on all of them, without the hidden states of its layers."""
    gather_shards(model)
    with explain_refusal(model):
        if units is None and limit is None:
            return drop_hidden_states(family.encode(model, inputs, modality))
        chosen = family.all_units(model, inputs, modality) if units is None else units
        return drop_hidden_states(family.encode_split(model, inputs, modality, chosen, limit))


def _choose_windows(
    model: Any, family: PatchEncoder, inputs: Mapping[str, Any], encoded: Encoded, plans: Sequence[WindowPlan],
    settings: PruneSettings,
) -> tuple[list[list[int]], float]:  # fmt: skip
    """The numbers of the windows of each image to encode, and what a first look at the smaller images took."""
    method, looked = settings.method, 0.0
    marks = [_describe(plan, []) for plan in plans]
    items, mask, questions, _ = locate_items(model, family, inputs, encoded, {"image": marks})
    if "attention" in method.needs:
        before = time.perf_counter()
        pruned = replace(settings, keep=1)  # a look is needed where all is kept too
        items = glance(model, family, inputs, encoded, items, mask, questions, pruned, share=LOOK)
        looked = time.perf_counter() - before
    chosen: list[list[int]] = [[] for _ in plans]
    for item in items:
        if item.modality == "image" and plans[item.index].windows:
            plan = plans[item.index]
            rows = item.find_rows(plan.places.to(item.embeds.device))
            tokens = read_tokens(item, questions, method).subset(rows, plan.coarse)
            chosen[item.index] = plan.choose(rank_tiles(method, tokens, _find_regions(plan)))
    return chosen, looked


def _find_regions(plan: WindowPlan) -> list[Tensor]:
    """For every window the tokens of the smaller image that lie over it."""
    frames, rows, columns = plan.coarse
    starts = torch.arange(frames)[:, None] * rows * columns
    return [(starts + find_region(box, rows, columns)).flatten() for box in plan.boxes]


def _describe(plan: WindowPlan, chosen: Sequence[int]) -> dict[str, Any]:
    """What the record of an image says where these windows were encoded."""
    if not plan.windows:
        return {}
    units = plan.mark(chosen)
    glanced = torch.zeros_like(units)
    glanced[plan.places] = True
    share = (math.prod(plan.coarse) + int(units.sum())) / plan.total
    marks = tuple(number in chosen for number in range(len(plan.windows)))
    return {"encoded": marks, "encoded_share": share, "glanced": glanced & ~units}


def _place(looks: Sequence[Tensor], plans: Sequence[WindowPlan]) -> list[Tensor]:
    """The tokens of every smaller image in their places among those of the image, and NaN in the others."""
    placed = []
    for look, plan in zip(looks, plans, strict=True):
        if bool(look.detach().isnan().any()):
            raise InputError(NAN)
        whole = look.new_full((plan.total, look.shape[-1]), math.nan)
        placed.append(whole.index_copy(0, plan.places.to(look.device), look))
    return placed


def _join(level: Sequence[Tensor], looks: Sequence[Tensor], units: Sequence[Tensor]) -> list[Tensor]:
    """The tokens of the encoded windows, and in the other places those of the smaller images."""
    joined = []
    for tokens, look, own in zip(level, looks, units, strict=True):
        is_encoded = own.to(tokens.device)
        if bool(tokens.detach()[is_encoded].isnan().any()):
            raise InputError(NAN)
        joined.append(torch.where(is_encoded[:, None], tokens, look))
    return joined
