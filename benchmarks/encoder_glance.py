"""What encoding a small version of the image first, then only parts of the full one, would save."""

from collections.abc import Callable
from typing import Any

import torch

from encoder_timing import SIZES, Row, compare, encode_clip
from foveate.apps.bench.shapes import Shape, make_example

WINDOWS = (0.1, 0.25, 0.5)  # shares of the windows at full resolution


def glance_clip(name: str, model: Any, shape: Shape, share: Row, rounds: int) -> Row:
    """Encode the overview, which is one tile, then some tiles in a second call."""
    side = share["side"]
    pixels = make_example(model, shape, (side, side))["pixel_values"].flatten(0, 1)
    calls: dict[str, Callable[[], object]] = {
        f"glance and {n} of {len(pixels) - 1} tiles": lambda n=n: [
            encode_clip(model, part) for part in (pixels[:1], pixels[1 : n + 1]) if len(part)
        ]
        for n in range(len(pixels))
    }
    return _add_savings(share, compare(name, side, {"all": lambda: encode_clip(model, pixels), **calls}, rounds))


def glance_qwen(name: str, model: Any, shape: Shape, share: Row, rounds: int) -> Row:
    """Encode the image at half its side, then a share of the windows at full size, in one stock call each."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import get_vision_position_ids, get_vision_window_index

    side, tower = share["side"], model.base_model.visual
    inputs, small = (make_example(model, shape, (s, s)) for s in (side, side // 2))
    pixels, grid = inputs["pixel_values"], inputs["image_grid_thw"]
    merge = tower.spatial_merge_size
    index, ends = get_vision_window_index(grid, merge, tower.window_size, tower.patch_size)
    order = torch.arange(len(pixels)).view(-1, merge**2)[index].flatten()  # of the patches, window by window
    positions = get_vision_position_ids(grid, merge)
    lengths = ends.diff()

    def encode_some(part: float) -> Any:
        count = max(1, round(part * len(lengths)))
        which = torch.arange(count) * len(lengths) // count  # spread evenly
        windows = [torch.arange(int(ends[w]), int(ends[w + 1])) for w in which.tolist()]
        own = order[torch.cat(windows)]
        limits = torch.cat([ends.new_zeros(1), lengths[which].cumsum(0, dtype=ends.dtype)])
        return tower(
            pixels[own],
            grid_thw=grid,
            position_ids=positions[own],
            window_index=torch.arange(len(own) // merge**2),
            cu_window_seqlens=limits,
            cu_seqlens=limits[[0, -1]],
        )

    def glance() -> Any:
        return tower(small["pixel_values"], grid_thw=small["image_grid_thw"])

    def encode_all() -> Any:
        return tower(pixels, grid_thw=grid)

    calls: dict[str, Callable[[], object]] = {"all": encode_all, "glance alone": glance}
    calls |= {f"glance and {s:.0%} of windows": lambda s=s: (glance(), encode_some(s)) for s in WINDOWS}
    row = {**_add_savings(share, compare(name, side, calls, rounds)), "windows": len(lengths)}
    if side > SIZES[name][0]:
        return row
    error = float((encode_some(1.0).pooler_output - encode_all().pooler_output[index]).abs().max())
    return {**row, "error where all windows are chosen": error}


def _add_savings(share: Row, row: Row) -> Row:
    """Add the ratio of the times to first token, pruned, with all else equal. The effect on answers is not measured."""
    rest = share["selection s"][1] + share["pruned s"][1]
    whole = share["encoder s"][1]
    ratios = {call: (whole * ratio[1] + rest) / (whole + rest) for call, ratio in row["ratio"].items()}
    row["ratio of time to first token"] = {call: float(f"{ratio:.4g}") for call, ratio in ratios.items()}
    return {**row, "what": "glance"}
