"""Images and tiles that stand in one row of tokens."""

from collections.abc import Sequence
from itertools import accumulate, cycle
from typing import Any, ClassVar

import torch
from torch import Tensor

from foveate.conformance.families.patches import TinyPatches, TinyTimestamped, TinyTogether
from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.patch_models import DROPPED
from foveate.models.step3p7 import token_side
from foveate.models.visual_input import Grid

SQUARES = (6, 9, 4, 8)  # of the images, in turn


class TinyInkling2(TinyPatches):
    """Tiny models of `Inkling2`."""

    patch_grids = {"image": ((1, 2, 3), (1, 3, 3), (1, 2, 2), (1, 4, 2))}

    overrides = {
        "text_config": {
            "hidden_size": 64, "num_hidden_layers": 3, "layer_types": ["hybrid_sliding", "hybrid", "hybrid"],
            "unpadded_vocab_size": 320, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16,
            "rel_extent": 32, "n_layers_per_attn_res_block": 2,
            "final_logit_softcapping": 1e4,  # the laws compare plain logits
        },
        "vision_config": {"posemb_grid_size": 4, "projection_hidden_dim": 32, "text_hidden_size": 64},
    }  # fmt: skip

    def patch_shape(self, config: Any) -> tuple[int, ...]:
        """The square of pixels that makes one token."""
        side = config.vision_config.patch_size * config.vision_config.spatial_merge_size
        return (side, side, 3)


class TinyInkling(TinyFamily):
    """Tiny models of `Inkling`."""

    overrides = {
        "text_config": {
            "num_hidden_layers": 2, "layer_types": ["hybrid_sliding", "hybrid"], "mlp_layer_types": ["dense", "sparse"],
            "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16, "rel_extent": 32,
            "hidden_size": 64, "logits_mup_width_multiplier": 1.0,  # the laws compare plain logits
        },
        "vision_config": {"patch_size": 2, "n_layers": 3},
        "audio_config": {"n_mel_bins": 4, "mel_vocab_size": 8},
    }  # fmt: skip

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images of different sizes."""
        vision = config.vision_config
        total = sum(SQUARES[i % len(SQUARES)] for i in range(sum(rows)))
        shape = (total, vision.temporal_patch_size, vision.patch_size, vision.patch_size, 3)
        return {"pixel_values": torch.randn(shape, generator=rng)}

    def encode_inputs(self, model: Any, inputs: Inputs, modality: str) -> Any:
        """With a prompt of placeholders alone: only their runs tell the images apart."""
        total, ids = len(inputs["pixel_values"]), list[int]()
        for end, size in zip(accumulate(cycle(SQUARES)), cycle(SQUARES), strict=False):
            if end > total:
                break
            ids += [*[self.family.token_id(model.config)] * size, 0]
        return super().encode_inputs(model, {**inputs, "input_ids": torch.tensor([ids])}, modality)

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The squares of the row's images."""
        ends = [0, *accumulate(self.family.sizes(config, inputs))]
        return {"pixel_values": inputs["pixel_values"][ends[items.start] : ends[items.stop]]}


OVERVIEW, COLUMNS = (2, 2), 3  # (h, w) of the overviews in tokens, and the columns of the rasters
ROWS = (3, 4, 2)  # of the rasters, in turn
VIDEOS = ((2, 2, 3), (3, 2, 2))  # (t, h, w) in tokens


class TinyMolmo2(TinyTogether):
    """Tiny models of `Molmo2`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Two crops for an image, one for a frame; a token pools three or four patches of its own image or video."""
        vision = config.vision_config
        count, patches = sum(rows), vision.num_position_embeddings
        if modality == "image":
            grids = torch.tensor([(*OVERVIEW, ROWS[i % len(ROWS)], COLUMNS) for i in range(count)])
            crops, tokens = [2] * count, (grids[:, :2].prod(-1) + grids[:, 2:].prod(-1)).tolist()
        else:
            grids = torch.tensor([VIDEOS[i % len(VIDEOS)] for i in range(count)])
            crops, tokens = grids[:, 0].tolist(), grids.prod(-1).tolist()
        pooling, start = [], 0
        for own, size in zip(crops, tokens, strict=True):
            pooling.append(torch.randint(start, start + own * patches, (size, 4), generator=rng))
            pooling[-1][::3, -1] = -1
            start += own * patches
        pixels = torch.randn(sum(crops), patches, 3 * vision.patch_size**2, generator=rng)
        made = {self.main_inputs[modality]: pixels, f"{modality}_token_pooling": torch.cat(pooling)}
        made[f"{modality}_grids"] = grids
        return made | ({"image_num_crops": torch.tensor(crops)} if modality == "image" else {})

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Pooled patches are numbered from the row's first image on."""
        grids, pixels, crops = inputs["image_grids"], inputs["pixel_values"], inputs["image_num_crops"]
        own, (first, last) = slice(items.start, items.stop), _ends(crops, items)
        tokens = grids[:, 0] * grids[:, 1] + grids[:, 2] * grids[:, 3]
        pooling = inputs["image_token_pooling"][slice(*_ends(tokens, items))]
        pooling = torch.where(pooling < 0, pooling, pooling - first * pixels.shape[1])
        return {
            "pixel_values": pixels[first:last], "image_token_pooling": pooling, "image_grids": grids[own],
            "image_num_crops": crops[own],
        }  # fmt: skip

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Overview and raster with a token at the end of each row, or frames with two text tokens before each."""
        patch, end = config.image_patch_id, config.image_end_token_id
        if grid is not None:
            frame = [config.frame_start_token_id, *[patch] * (grid[1] * grid[2]), config.frame_end_token_id]
            return [token for number in range(grid[0]) for token in (20 + number, 19, *frame)]
        column = patch + 1
        small = [*[patch] * OVERVIEW[1], column] * OVERVIEW[0]
        large = [*[patch] * COLUMNS, column] * ((tokens - OVERVIEW[0] * OVERVIEW[1]) // COLUMNS)
        return [config.low_res_image_start_token_id, *small, end, config.image_start_token_id, *large, end]


def _ends(sizes: Tensor, items: range) -> tuple[int, int]:
    """Where the pieces of these items begin and end."""
    ends = [0, *sizes.cumsum(0).tolist()]
    return ends[items.start], ends[items.stop]


class TinyVideoLlama3(TinyTimestamped):
    """Tiny models of `VideoLlama3`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Every other video has a mask that leaves out tokens of its later frames."""
        made = super().make_inputs(config, modality, rows, rng)
        if modality == "image":
            return made | {"image_merge_sizes": torch.ones(sum(rows), dtype=torch.long)}
        stays = []
        for number, (t, h, w) in enumerate(made["video_grid_thw"].tolist()):
            places = torch.arange(t * h * w // 4)
            stays.append((places < h * w // 4) | (places % 3 > 0) if number % 2 else places >= 0)
        return made | {"video_merge_sizes": torch.full((sum(rows),), 2), DROPPED: torch.cat(stays)}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """With the merge sizes."""
        own, name = super().select_inputs(config, inputs, modality, row, items), f"{modality}_merge_sizes"
        return {**own, name: inputs[name][items.start : items.stop]}


class TinyLocalTiles(TinyFamily):
    """Tiny models that take the tiles of all images in one tensor, `pixel_values_local`."""

    tile_counts: ClassVar[tuple[int, ...]] = (2, 0, 3, 0)
    """Tiles of the images, in turn."""

    def image_sides(self, config: Any) -> tuple[int, int]:
        """The sides of an image and of a tile, in pixels."""
        raise NotImplementedError

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images with and without tiles."""
        side, tile = self.image_sides(config)
        counts = [self.tile_counts[i % len(self.tile_counts)] for i in range(sum(rows))]
        return {
            "pixel_values": torch.randn(sum(rows), 3, side, side, generator=rng),
            "pixel_values_local": torch.randn(sum(counts), 3, tile, tile, generator=rng),
            "num_local_patches": torch.tensor(counts),
        }

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Without `pixel_values_local` where the row's images have no tiles."""
        counts = inputs["num_local_patches"]
        ends = [0, *counts.cumsum(0).tolist()]
        tiles = inputs["pixel_values_local"][ends[items.start] : ends[items.stop]]
        own = {name: inputs[name][items.start : items.stop] for name in ("pixel_values", "num_local_patches")}
        return {**own, "pixel_values_local": tiles} if len(tiles) else own


class TinyDeepseekOcr2(TinyLocalTiles):
    """Tiny models of `DeepseekOcr2`."""

    def image_sides(self, config: Any) -> tuple[int, int]:
        """Tiles as large as the images."""
        side = int(config.vision_config.sam_config.image_size)
        return side, side


class TinyUnlimitedOcr(TinyDeepseekOcr2):
    """Tiny models of `UnlimitedOcr`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """The number of tiles in a list, and their (columns, rows): two side by side, or three one below the other."""
        made = super().make_inputs(config, modality, rows, rng)
        counts = made["num_local_patches"].tolist()
        return {**made, "num_local_patches": counts, "patches_grid": [[1, 3] if n == 3 else [n, 1] for n in counts]}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """With lists again."""
        counts = torch.tensor(inputs["num_local_patches"])
        own = super().select_inputs(config, {**inputs, "num_local_patches": counts}, modality, row, items)
        grid = inputs["patches_grid"][items.start : items.stop]
        return {**own, "num_local_patches": own["num_local_patches"].tolist(), "patches_grid": grid}


TILE = 16  # the side of a tile, in pixels


class TinyStep3p7(TinyLocalTiles):
    """Tiny models of `Step3p7`."""

    tile_counts = (2, 0, 3, 0, 1)

    def image_sides(self, config: Any) -> tuple[int, int]:
        """Tiles smaller than the images."""
        return int(config.vision_config.image_size), TILE

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Every tile between two markers (and a newline), then the image between two others."""
        whole, tile = (token_side(config, pixels) ** 2 for pixels in (config.vision_config.image_size, TILE))
        patch = [config.image_token_id]
        tiles = [310, *patch * tile, 311, 312] * ((tokens - whole) // tile)
        return [*tiles, 313, *patch * whole, 314]
