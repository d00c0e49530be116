"""What the stock encoders compute without need: layers, hidden states, attention, gradients, types, patches."""

import copy
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from encoder_timing import (
    SIZES,
    Calls,
    Row,
    compare,
    encode_clip,
    measure_seconds,
    quartiles,
    record_seconds,
    with_attention,
    with_gradients,
)
from foveate.apps.bench.shapes import Shape, make_example
from foveate.models import family_of
from foveate.pipeline.encode import encode

WASTE_SIZE = {"llava-1.5-7b": 336, "llava-next-7b": 672, "qwen2.5-vl-3b": 896}


def measure_clip(name: str, model: Any, shape: Shape, rounds: int) -> Iterator[Row]:
    """LLaVA's: hidden states, layers after the one that is read, attention, gradients, extras, layout of pixels."""
    side = WASTE_SIZE[name]
    inputs = make_example(model, shape, (side, side))
    core, family, pixels = model.base_model, family_of(model), inputs["pixel_values"].flatten(0, -4)
    tower = core.vision_tower
    encoder_inputs = family.encoder_inputs(model, inputs)

    def stock() -> Any:
        return core.get_image_features(**encoder_inputs, return_dict=True)

    calls: dict[str, Callable[[], object]] = {
        f"stock ({tower.config._attn_implementation})": stock,
        "all hidden states": lambda: core.get_image_features(
            **encoder_inputs, return_dict=True, output_hidden_states=True
        ),
        "eager": with_attention(tower, "eager", stock),
        "with gradients": with_gradients(stock),
    }
    yield compare(name, side, calls, rounds, peaks=True)
    yield _measure_last_layers(name, side, model, pixels, rounds)
    yield _measure_clip_patches(name, side, tower, pixels, measure_seconds(stock), rounds)
    if family.extras(model.config):
        needs = frozenset(family.extras(model.config))
        calls = {"encode": lambda: encode(model, inputs), "extras": lambda: family.encode_with(model, inputs, needs)}
        yield compare(name, side, calls, 2 * rounds)
    if len(pixels) > 1:
        calls = {
            "tiles in one batch": lambda: encode_clip(model, pixels),
            "one by one": lambda: [encode_clip(model, pixel[None]) for pixel in pixels],
        }
        yield compare(name, side, calls, rounds)


def _measure_last_layers(name: str, side: int, model: Any, pixels: Tensor, rounds: int) -> Row:
    """Compare the tower with one that ends at the layer that is read."""
    tower, layer = model.base_model.vision_tower, model.config.vision_feature_layer
    config = copy.deepcopy(tower.config)
    config.num_hidden_layers += layer + 1  # the layer that is read is the last
    shorter = type(tower)._from_config(config, dtype=model.dtype).eval()
    shorter.load_state_dict(tower.state_dict(), strict=False, assign=True)
    whole = tower(pixels, output_hidden_states=layer).hidden_states[layer]
    same = torch.equal(whole, shorter(pixels).last_hidden_state)
    calls: Calls = {
        "stock tower": lambda: tower(pixels, output_hidden_states=layer),
        "no hidden state": lambda: tower(pixels),
        "without the layers after": lambda: shorter(pixels),
    }
    return {**compare(name, side, calls, rounds), "same features": same}


def _measure_clip_patches(name: str, side: int, tower: Any, pixels: Tensor, total: float, rounds: int) -> Row:
    """Compare the patch convolution with other layouts; `total` is the seconds of the whole tower."""
    patch = tower.embeddings.patch_embedding
    flat = patch.weight.flatten(1)
    last = copy.deepcopy(patch).to(memory_format=torch.channels_last)
    channels, size = pixels.to(memory_format=torch.channels_last), patch.kernel_size[0]

    def product() -> Tensor:
        return pixels.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5).flatten(3) @ flat.T

    calls = {"stock patches": lambda: patch(pixels), "channels last": lambda: last(channels), "product": product}
    row = compare(name, side, calls, rounds)
    return {**row, "share of tower": row["s"]["stock patches"][1] / total}


def measure_qwen(name: str, model: Any, shape: Shape, rounds: int) -> Iterator[Row]:
    """Qwen2.5-VL's: attention, gradients, the loop over windows, the patch convolution, the indices."""
    side = WASTE_SIZE[name]
    inputs, small = (make_example(model, shape, (s, s)) for s in (side, SIZES[name][0]))
    core, tower = model.base_model, model.base_model.visual
    encoder_inputs = family_of(model).encoder_inputs(model, inputs)

    def stock() -> Any:
        return core.get_image_features(**encoder_inputs, return_dict=True)

    calls = {f"stock ({tower.config._attn_implementation})": stock, "eager": with_attention(tower, "eager", stock)}
    yield compare(name, side, calls, rounds, peaks=True)

    def encode_small() -> Any:
        return core.get_image_features(small["pixel_values"], small["image_grid_thw"])

    calls = {"stock": encode_small, "with gradients": with_gradients(encode_small)}
    yield compare(name, SIZES[name][0], calls, rounds, peaks=True)
    windowed = [block.attn for n, block in enumerate(tower.blocks) if n not in tower.fullatt_block_indexes]
    whole = [tower.blocks[n].attn for n in tower.fullatt_block_indexes]
    shares: dict[str, list[float]] = {"windowed": [], "whole": []}
    for _ in range(rounds):
        with record_seconds(windowed) as some, record_seconds(whole) as others:
            total = measure_seconds(stock)
        shares["windowed"].append(sum(some) / total)
        shares["whole"].append(sum(others) / total)
    row: Row = {"what": "attention's share of the tower, with its projections", "model": name, "side": side}
    yield row | {f"{len(windowed if kind == 'windowed' else whole)} {kind}": quartiles(v) for kind, v in shares.items()}
    total = statistics.median(measure_seconds(stock) for _ in range(rounds))
    yield _measure_windows(name, side, model, len(inputs["pixel_values"]), len(windowed), total, rounds)
    yield _measure_qwen_patches(name, side, model, inputs, total, rounds)


def _measure_windows(name: str, side: int, model: Any, n: int, layers: int, total: float, rounds: int) -> Row:
    """Compare attention that loops over windows, as the stock encoder does, with one call for all windows."""
    vision = model.config.vision_config
    each = (vision.window_size // vision.patch_size) ** 2
    width = vision.hidden_size // vision.num_heads
    qkv = [torch.randn(1, vision.num_heads, n, width, dtype=model.dtype) for _ in range(3)]

    def loop() -> Tensor:
        parts = zip(*(tensor.split(each, 2) for tensor in qkv), strict=True)
        return torch.cat([scaled_dot_product_attention(*part).transpose(1, 2).contiguous() for part in parts], 1)

    def batch() -> Tensor:
        q, k, v = (tensor[0].unflatten(1, (-1, each)).transpose(0, 1) for tensor in qkv)
        return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)[None]

    row = compare(name, side, {"loop over windows": loop, "windows in one batch": batch}, 5 * rounds)
    saved = layers * (row["s"]["loop over windows"][1] - row["s"]["windows in one batch"][1]) / total
    error = float((loop().float() - batch().float()).abs().max())
    return {**row, "calls in the tower": n // each * layers, "of the tower saved": saved, "error": error}


def _measure_qwen_patches(name: str, side: int, model: Any, inputs: Any, total: float, rounds: int) -> Row:
    """Compare the patch convolution with a matrix product; time the indices of windows and positions."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import get_vision_position_ids, get_vision_window_index

    tower = model.base_model.visual
    pixels, patch = inputs["pixel_values"].to(model.dtype), tower.patch_embed
    flat, grid = patch.proj.weight.flatten(1), inputs["image_grid_thw"]
    merge, window, size = tower.spatial_merge_size, tower.window_size, tower.patch_size

    def indices() -> object:
        return get_vision_window_index(grid, merge, window, size), get_vision_position_ids(grid, merge)

    parts: Calls = {"stock patches": lambda: patch(pixels), "product": lambda: pixels @ flat.T, "indices": indices}
    row = compare(name, side, parts, 5 * rounds)
    return {**row, "share of tower": {part: laps[1] / total for part, laps in row["s"].items()}}


def compare_types(name: str, model: Any, shape: Shape, rounds: int) -> Row:
    """Compare the whole encoder in bfloat16 and float32, with the same weights."""
    side = SIZES[name][0]
    inputs = make_example(model, shape, (side, side))
    core = model.base_model
    tower = core.visual if hasattr(core, "visual") else core.vision_tower
    wide = copy.deepcopy(tower).float()
    others = [inputs["image_grid_thw"]] if hasattr(core, "visual") else []
    pixels, floats = inputs["pixel_values"], inputs["pixel_values"].float()
    calls = {"bfloat16": lambda: tower(pixels, *others), "float32": lambda: wide(floats, *others)}
    return compare(name, side, calls, rounds)
