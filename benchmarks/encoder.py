"""Where the vision encoder stands after pruning, what it wastes, what a glance first would save. Writes encoder.json.

Shapes of published models with random weights: the whole tower and two decoder layers are built, and the decoder's time
is that of its layers, times how many the published model has, and the rest (embeddings, head) once. Calls that are
compared take turns in one process; figures are medians and quartiles, ratios are taken within a round.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from foveate.apps.bench.memory import measure_peak
from foveate.apps.bench.shapes import DTYPES, SHAPES, Shape, build, make_example
from foveate.models import family_of
from foveate.models.inputs import drop_raw
from foveate.pipeline.encode import encode
from foveate.pipeline.prune import prune_inputs
from foveate.runtime.timing import prefill

KEEP = 0.1
LAYERS = 2  # of the decoder
LONG = 2  # rounds of calls so long that they need no warm-up
SIZES = {"llava-1.5-7b": (336,), "llava-next-7b": (672,), "qwen2.5-vl-3b": (448, 896, 1344)}
WASTE_SIZE = {"llava-1.5-7b": 336, "llava-next-7b": 672, "qwen2.5-vl-3b": 896}
WINDOWS = (0.1, 0.25, 0.5)  # shares of them at full resolution
Calls = Mapping[str, Callable[[], object]]
Row = dict[str, Any]


def whole_tower(name: str, dtype: torch.dtype) -> tuple[Any, Shape]:
    """A stock model with all of the vision tower and the first layers of the decoder."""
    shape = SHAPES[name]
    text = {**shape.config["text_config"], "num_hidden_layers": LAYERS}
    shape = replace(shape, config={**shape.config, "text_config": text})
    return build(shape, LAYERS, dtype)[0], shape


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def turns(calls: Calls, rounds: int) -> dict[str, list[float]]:
    """Seconds of every call, a figure a round; a different one is first each time."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values() if rounds > LONG else ():
        call()  # a warm-up
    for number in range(rounds):
        names = list(calls)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            spent[name].append(seconds(calls[name]))
    return spent


def spread(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    found = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return [float(f"{value:.4g}") for value in found]


@contextmanager
def seconds_of(modules: Sequence[Any]) -> Iterator[list[float]]:
    """Of every call of these modules inside the block."""
    started: list[float] = []
    spent: list[float] = []
    handles = [m.register_forward_pre_hook(lambda *_: started.append(time.perf_counter())) for m in modules]
    handles += [m.register_forward_hook(lambda *_: spent.append(time.perf_counter() - started.pop())) for m in modules]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


def decoder_seconds(model: Any, inputs: Mapping[str, Any], count: int) -> float:
    """A prefill's with `count` layers, from those that were built."""
    with seconds_of(family_of(model).decoder(model).layers) as spent:
        total = seconds(lambda: prefill(model, inputs))
    return total - sum(spent) + count * statistics.mean(spent)


def standing(name: str, model: Any, shape: Shape, side: int, rounds: int) -> Row:
    """The encoder's share of the time to first token, unpruned and pruned."""
    inputs = make_example(model, shape, (side, side))
    words, count = drop_raw(family_of(model), inputs), SHAPES[name].count_layers()[0]
    spent: dict[str, list[float]] = {"encoder": [], "selection": [], "unpruned": [], "pruned": []}
    for number in range(-1 if rounds > LONG else 0, rounds):
        started = time.perf_counter()
        encoded = encode(model, inputs)
        between = time.perf_counter()
        short = prune_inputs(model, words, keep=KEEP, encoded=encoded)
        chosen = time.perf_counter() - between
        whole = prune_inputs(model, words, keep=1.0, encoded=encoded)
        laps = {"encoder": between - started, "selection": chosen}
        laps["unpruned"] = decoder_seconds(model, whole, count)
        laps["pruned"] = decoder_seconds(model, short, count)
        if number >= 0:
            for stage, lap in laps.items():
                spent[stage].append(lap)
    tokens, kept = short.report.items[0].total, len(short.report.items[0].kept)
    row: Row = {"what": "standing", "model": name, "side": side, "tokens": tokens, "kept": kept, "rounds": rounds}
    row |= {f"{stage} s": spread(laps) for stage, laps in spent.items()}
    rest = {"unpruned": [0.0] * rounds, "pruned": spent["selection"]}
    for arm, more in rest.items():
        parts = zip(spent["encoder"], spent[arm], more, strict=True)
        row[f"share {arm}"] = spread([mine / (mine + other + extra) for mine, other, extra in parts])
    row |= arithmetic(model, name, inputs, whole["input_ids"].shape[1], short["input_ids"].shape[1])
    return row


def arithmetic(model: Any, name: str, inputs: Mapping[str, Tensor], length: int, short: int) -> Row:
    """The same shares by the multiplications of the layers, which do not depend on the machine."""
    core, config = model.base_model, model.config
    vision = config.vision_config
    if name.startswith("qwen"):
        layers, n = core.visual.blocks, len(inputs["pixel_values"])
        whole = len(vision.fullatt_block_indexes)
        seen = whole * n + (len(layers) - whole) * (vision.window_size // vision.patch_size) ** 2
        tower = n * (matrices(layers) + 2 * vision.hidden_size * seen)
    else:
        layers, n = core.vision_tower.encoder.layers, (vision.image_size // vision.patch_size) ** 2 + 1
        tiles = inputs["pixel_values"].flatten(0, -4).shape[0]
        tower = tiles * n * (matrices(layers) + 2 * vision.hidden_size * n * len(layers))
    text, count = config.get_text_config(), SHAPES[name].count_layers()[0]
    each = matrices(core.language_model.layers) / LAYERS
    unpruned, pruned = (count * m * (each + text.hidden_size * m) for m in (length, short))
    found = {"tower TFLOP": 2e-12 * tower, "unpruned decoder TFLOP": 2e-12 * unpruned}
    found |= {"share of FLOP unpruned": tower / (tower + unpruned), "share of FLOP pruned": tower / (tower + pruned)}
    return {what: float(f"{value:.4g}") for what, value in found.items()}


def matrices(modules: Any) -> int:
    """Parameters that every token is multiplied with."""
    return sum(p.numel() for p in modules.parameters() if p.ndim == 2)


def beside(name: str, side: int, calls: Calls, rounds: int, *, peaks: bool = False) -> Row:
    """The ratio of every call to the first one, and what each held at most on top of the weights."""
    spent = turns(calls, rounds)
    first, *_ = calls
    row: Row = {"what": f"beside {first}", "model": name, "side": side, "rounds": rounds}
    row["s"] = {call: spread(laps) for call, laps in spent.items()}
    row["ratio"] = {
        call: spread([lap / stock for lap, stock in zip(laps, spent[first], strict=True)])
        for call, laps in spent.items()
        if call != first
    }
    if peaks:
        found = {call: measure_peak(run, torch.device("cpu")) for call, run in calls.items()}
        row["peak MiB"] = {call: round(peak.above / 2**20) for call, peak in found.items() if peak}
    return row


def with_gradients(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call as a caller without `torch.no_grad()` makes it."""

    def run() -> Any:
        with torch.enable_grad():
            return call()

    return run


def with_attention(module: Any, implementation: str, call: Callable[[], Any]) -> Callable[[], Any]:
    """The call with the tower's attention in this implementation."""

    def run() -> Any:
        before = module.config._attn_implementation
        module.set_attn_implementation(implementation)
        try:
            return call()
        finally:
            module.set_attn_implementation(before)

    return run


def clip_features(model: Any, tiles: Tensor) -> Tensor:
    """What LLaVA's stock encoder does with (tiles, 3, side, side), before tiles are joined."""
    core, layer = model.base_model, model.config.vision_feature_layer
    states = core.vision_tower(tiles, output_hidden_states=layer).hidden_states[layer]
    features: Tensor = core.multi_modal_projector(states[:, 1:])
    return features


def clip_waste(name: str, model: Any, shape: Shape, rounds: int) -> Iterator[Row]:
    """LLaVA's: hidden states, the layers after the one that is read, attention, gradients, extras, layout of pixels."""
    side = WASTE_SIZE[name]
    inputs = make_example(model, shape, (side, side))
    core, family, pixels = model.base_model, family_of(model), inputs["pixel_values"].flatten(0, -4)
    tower, layer = core.vision_tower, model.config.vision_feature_layer
    given = family.encoder_inputs(model, inputs)

    def stock() -> Any:
        return core.get_image_features(**given, return_dict=True)

    def all_states() -> Any:
        return core.get_image_features(**given, return_dict=True, output_hidden_states=True)

    attention = tower.config._attn_implementation
    yield beside(
        name, side,
        {f"stock ({attention})": stock, "all hidden states": all_states, "eager": with_attention(tower, "eager", stock),
         "with gradients": with_gradients(stock)},
        rounds, peaks=True,
    )  # fmt: skip

    config = copy.deepcopy(tower.config)
    config.num_hidden_layers += layer + 1  # the layer that is read is the last
    shorter = type(tower)._from_config(config, dtype=model.dtype).eval()
    shorter.load_state_dict(tower.state_dict(), strict=False, assign=True)
    whole = tower(pixels, output_hidden_states=layer).hidden_states[layer]
    same = torch.equal(whole, shorter(pixels).last_hidden_state)
    calls: dict[str, Callable[[], object]] = {
        "stock tower": lambda: tower(pixels, output_hidden_states=layer),
        "no hidden state": lambda: tower(pixels),
        "without the layers after": lambda: shorter(pixels),
    }
    yield {**beside(name, side, calls, rounds), "same features": same}

    patch = tower.embeddings.patch_embedding
    flat = patch.weight.flatten(1)
    last = copy.deepcopy(patch).to(memory_format=torch.channels_last)
    channels, size = pixels.to(memory_format=torch.channels_last), patch.kernel_size[0]

    def product() -> Tensor:
        return pixels.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5).flatten(3) @ flat.T

    calls = {"stock patches": lambda: patch(pixels), "channels last": lambda: last(channels), "product": product}
    row = beside(name, side, calls, rounds)
    yield {**row, "share of tower": row["s"]["stock patches"][1] / seconds(stock)}

    if family.extras(model.config):
        needs = frozenset(family.extras(model.config))
        calls = {"encode": lambda: encode(model, inputs), "extras": lambda: family.encode_with(model, inputs, needs)}
        yield beside(name, side, calls, 2 * rounds)
    if len(pixels) > 1:
        one = [pixel[None] for pixel in pixels]
        calls = {
            "tiles in one batch": lambda: clip_features(model, pixels),
            "one by one": lambda: [clip_features(model, pixel) for pixel in one],
        }
        yield beside(name, side, calls, rounds)


def qwen_waste(name: str, model: Any, shape: Shape, rounds: int) -> Iterator[Row]:
    """Qwen2.5-VL's: attention, gradients, the loop over windows, the patch convolution, the indices."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import get_vision_position_ids, get_vision_window_index

    side = WASTE_SIZE[name]
    inputs = make_example(model, shape, (side, side))
    core, vision = model.base_model, model.config.vision_config
    tower, given = core.visual, family_of(model).encoder_inputs(model, inputs)

    def stock() -> Any:
        return core.get_image_features(**given, return_dict=True)

    attention = tower.config._attn_implementation
    yield beside(
        name, side,
        {f"stock ({attention})": stock, "eager": with_attention(tower, "eager", stock)}, rounds, peaks=True,
    )  # fmt: skip
    small = make_example(model, shape, (SIZES[name][0],) * 2)

    def few() -> Any:
        return core.get_image_features(small["pixel_values"], small["image_grid_thw"])

    yield beside(name, SIZES[name][0], {"stock": few, "with gradients": with_gradients(few)}, rounds, peaks=True)

    windowed = [block.attn for n, block in enumerate(tower.blocks) if n not in tower.fullatt_block_indexes]
    whole = [tower.blocks[n].attn for n in tower.fullatt_block_indexes]
    shares: dict[str, list[float]] = {"windowed": [], "whole": []}
    for _ in range(rounds):
        with seconds_of(windowed) as some, seconds_of(whole) as others:
            total = seconds(stock)
        shares["windowed"].append(sum(some) / total)
        shares["whole"].append(sum(others) / total)
    row: Row = {"what": "attention's share of the tower, with its projections", "model": name, "side": side}
    yield row | {f"{len(windowed if kind == 'windowed' else whole)} {kind}": spread(v) for kind, v in shares.items()}

    total = statistics.median(seconds(stock) for _ in range(rounds))
    n, heads = len(inputs["pixel_values"]), vision.num_heads
    each = (vision.window_size // vision.patch_size) ** 2
    qkv = [torch.randn(1, heads, n, vision.hidden_size // heads, dtype=model.dtype) for _ in range(3)]

    def loop() -> Tensor:
        parts = zip(*(tensor.split(each, 2) for tensor in qkv), strict=True)
        return torch.cat([scaled_dot_product_attention(*part).transpose(1, 2).contiguous() for part in parts], 1)

    def batch() -> Tensor:
        q, k, v = (tensor[0].unflatten(1, (-1, each)).transpose(0, 1) for tensor in qkv)
        return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)[None]

    row = beside(name, side, {"loop over windows": loop, "windows in one batch": batch}, 5 * rounds)
    saved = len(windowed) * (row["s"]["loop over windows"][1] - row["s"]["windows in one batch"][1]) / total
    calls = n // each * len(windowed)
    error = float((loop().float() - batch().float()).abs().max())
    yield {**row, "calls in the tower": calls, "of the tower saved": saved, "error": error}

    pixels, patch = inputs["pixel_values"].to(model.dtype), tower.patch_embed
    flat, grid = patch.proj.weight.flatten(1), inputs["image_grid_thw"]
    merge, window, size = tower.spatial_merge_size, tower.window_size, tower.patch_size

    def indices() -> object:
        return get_vision_window_index(grid, merge, window, size), get_vision_position_ids(grid, merge)

    parts: Calls = {"stock patches": lambda: patch(pixels), "product": lambda: pixels @ flat.T, "indices": indices}
    row = beside(name, side, parts, 5 * rounds)
    yield {**row, "share of tower": {part: laps[1] / total for part, laps in row["s"].items()}}


def types(name: str, model: Any, shape: Shape, rounds: int) -> Row:
    """The whole encoder in both types, on the same weights."""
    side = SIZES[name][0]
    inputs = make_example(model, shape, (side, side))
    core = model.base_model
    tower = core.visual if hasattr(core, "visual") else core.vision_tower
    wide = copy.deepcopy(tower).float()
    given = [inputs["pixel_values"], inputs["image_grid_thw"]] if hasattr(core, "visual") else [inputs["pixel_values"]]
    floats = [given[0].float(), *given[1:]]
    return beside(name, side, {"bfloat16": lambda: tower(*given), "float32": lambda: wide(*floats)}, rounds)


def clip_glance(name: str, model: Any, shape: Shape, stood: Row, rounds: int) -> Row:
    """The whole picture in one tile (that is the glance), then some tiles in a second call."""
    side = stood["side"]
    pixels = make_example(model, shape, (side, side))["pixel_values"].flatten(0, 1)
    calls: dict[str, Callable[[], object]] = {
        f"glance and {n} of {len(pixels) - 1} tiles": lambda n=n: [
            clip_features(model, part) for part in (pixels[:1], pixels[1 : n + 1]) if len(part)
        ]
        for n in range(len(pixels))
    }
    return saving(stood, beside(name, side, {"all": lambda: clip_features(model, pixels), **calls}, rounds))


def qwen_glance(name: str, model: Any, shape: Shape, stood: Row, rounds: int) -> Row:
    """Half the side first, then a share of the windows at full size, with their own places, in one stock call."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import get_vision_position_ids, get_vision_window_index

    side, tower = stood["side"], model.base_model.visual
    inputs, small = (make_example(model, shape, (s, s)) for s in (side, side // 2))
    pixels, grid = inputs["pixel_values"], inputs["image_grid_thw"]
    merge = tower.spatial_merge_size
    index, ends = get_vision_window_index(grid, merge, tower.window_size, tower.patch_size)
    order = torch.arange(len(pixels)).view(-1, merge**2)[index].flatten()  # of the patches, window by window
    places = get_vision_position_ids(grid, merge)
    lengths = ends.diff()

    def some(share: float) -> Any:
        count = max(1, round(share * len(lengths)))
        which = torch.arange(count) * len(lengths) // count  # spread evenly
        starts = [torch.arange(int(ends[w]), int(ends[w + 1])) for w in which.tolist()]
        own = order[torch.cat(starts)]
        limits = torch.cat([ends.new_zeros(1), lengths[which].cumsum(0, dtype=ends.dtype)])
        return tower(
            pixels[own], grid_thw=grid, position_ids=places[own], window_index=torch.arange(len(own) // merge**2),
            cu_window_seqlens=limits, cu_seqlens=limits[[0, -1]],
        )  # fmt: skip

    def glance() -> Any:
        return tower(small["pixel_values"], grid_thw=small["image_grid_thw"])

    def all_of_it() -> Any:
        return tower(pixels, grid_thw=grid)

    calls: dict[str, Callable[[], object]] = {"all": all_of_it, "glance alone": glance}
    calls |= {f"glance and {share:.0%} of windows": lambda s=share: (glance(), some(s)) for share in WINDOWS}
    row = saving(stood, beside(name, side, calls, rounds))
    if side > SIZES[name][0]:
        return {**row, "windows": len(lengths)}
    error = float((some(1.0).pooler_output - all_of_it().pooler_output[index]).abs().max())
    return {**row, "windows": len(lengths), "error where all windows are chosen": error}


def saving(stood: Row, row: Row) -> Row:
    """With the ratio of times to first token, pruned, all else being equal; what it does to answers is not measured."""
    rest = stood["selection s"][1] + stood["pruned s"][1]
    whole = stood["encoder s"][1]
    ratios = {call: (whole * ratio[1] + rest) / (whole + rest) for call, ratio in row["ratio"].items()}
    row["ratio of time to first token"] = {call: float(f"{ratio:.4g}") for call, ratio in ratios.items()}
    return {**row, "what": "glance"}


@torch.no_grad()
def rows(name: str, dtype: torch.dtype, rounds: int) -> Iterator[Row]:
    """All that is measured on one shape."""
    model, shape = whole_tower(name, dtype)
    qwen = name.startswith("qwen")
    for side in SIZES[name]:
        fewer = rounds if side < 1000 else LONG
        stood = standing(name, model, shape, side, fewer)
        yield stood
        if qwen or name == "llava-next-7b":
            yield (qwen_glance if qwen else clip_glance)(name, model, shape, stood, fewer)
    fewer = LONG if qwen else rounds
    yield from (qwen_waste if qwen else clip_waste)(name, model, shape, fewer)
    if dtype == torch.bfloat16 and name != "llava-next-7b":
        yield types(name, model, shape, fewer)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--dtype", default="bfloat16", choices=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = Path(__file__).with_name("results").joinpath("encoder.json")
    found: list[Row] = []
    for name in args.models:
        for row in rows(name, DTYPES[args.dtype], args.rounds):
            found.append({**row, "dtype": args.dtype, "threads": args.threads})
            print(json.dumps(found[-1]), flush=True)
    others = [row for row in json.loads(path.read_text()) if row["model"] not in args.models] if path.exists() else []
    path.write_text(json.dumps(others + found, indent=1) + "\n")


if __name__ == "__main__":
    main()
