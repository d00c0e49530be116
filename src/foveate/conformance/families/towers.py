"""Images of the size that a tower expects, or of several sizes side by side."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from foveate.conformance.tiny_config import image_size
from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.fuyu import NEWLINE
from foveate.models.mistral3 import IMG_BREAK, IMG_END
from foveate.models.visual_input import Grid


class TinyAria(TinyFamily):
    """Tiny models of `Aria`."""

    item_inputs = ("pixel_mask",)
    overrides = {
        "text_config": {"model_type": "aria_text", "moe_num_experts": 4},
        "projector_patch_to_query_dict": {16: 9, 64: 12},
        "initializer_range": 0.2,  # else all queries see the same
    }

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """With padding on the right and below."""
        made = super().make_inputs(config, modality, rows, rng)
        mask = torch.ones_like(made["pixel_values"][:, 0], dtype=torch.bool)
        mask[::2, 16:] = False
        mask[1::3, :, 20:] = False
        return made | {"pixel_mask": mask}


class TinyDeepseekVLHybrid(TinyFamily):
    """Tiny models of `DeepseekVLHybrid`."""

    item_inputs = ("high_res_pixel_values",)

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """In both resolutions."""
        side = config.high_res_vision_config.image_size
        sharp = torch.randn(sum(rows), 3, side, side, generator=rng)
        return super().make_inputs(config, modality, rows, rng) | {"high_res_pixel_values": sharp}


class TinyFuyu(TinyFamily):
    """Tiny models of `Fuyu`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Squares of patches."""
        width = config.num_channels * config.patch_size**2
        return {"pixel_values": torch.randn(sum(rows), 9, width, generator=rng)}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Row by row, each with its newline, then the first token of the text."""
        _, h, w = grid or (1, 1, tokens)
        row = [*super().prompt_ids(config, modality, w, None), config.image_token_id + NEWLINE]
        return [*row * h, config.get_text_config().bos_token_id]


class TinyVideoLlava(TinyFamily):
    """Tiny models of `VideoLlava`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Frame by frame."""
        if modality == "image":
            return super().make_inputs(config, modality, rows, rng)
        side = image_size(config)
        return {"pixel_values_videos": torch.randn(sum(rows), 3, 3, side, side, generator=rng)}


MAX_TILES = 5  # the overview included


class TinyTiled(TinyFamily):
    """Tiny models of `Tiled`."""

    sizes: ClassVar[tuple[tuple[int, int], ...]] = ((40, 60), (30, 20), (64, 30), (50, 50), (20, 64))
    """(height, width) of the images in 32nds of a tile, in turn."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images padded to the same number of tiles; videos of three frames."""
        side = image_size(config)
        if modality == "video":
            return {"pixel_values_videos": torch.randn(sum(rows), 3, 3, side, side, generator=rng)}
        sizes = torch.tensor([self.sizes[i % len(self.sizes)] for i in range(sum(rows))]) * side // 32
        pixels = torch.randn(len(sizes), MAX_TILES, 3, side, side, generator=rng)
        return {"pixel_values": pixels, "image_sizes": sizes}


class TinyLlavaOnevision(TinyTiled):
    """Tiny models of `LlavaOnevision`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """With the number of images of every row that has some."""
        made = super().make_inputs(config, modality, rows, rng)
        return made if modality == "video" else made | {"batch_num_images": torch.tensor([n for n in rows if n])}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """With the number of images."""
        own = super().select_inputs(config, inputs, modality, row, items)
        return own | {"batch_num_images": torch.tensor([len(items)])}


TOKEN_SIDES = ((2, 3), (3, 3), (2, 2), (4, 2))  # (h, w) in tokens


class TinyImageSizes(TinyFamily):
    """Tiny models of `ImageSizes`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """With the sizes beside them."""
        side = self.family.side(config)
        sizes = torch.tensor([TOKEN_SIDES[i % len(TOKEN_SIDES)] for i in range(sum(rows))]) * side
        height, width = sizes.amax(0).tolist()
        pixels = torch.randn(len(sizes), 3, height, width, generator=rng)
        return {"pixel_values": pixels, "image_sizes": sizes}


class TinyLlava(TinyImageSizes):
    """Tiny models of `Llava`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images of any size with Pixtral's tower, else squares."""
        if config.vision_config.model_type != "pixtral":
            return TinyFamily.make_inputs(self, config, modality, rows, rng)
        side = config.vision_config.patch_size
        sizes = torch.tensor([TOKEN_SIDES[i % len(TOKEN_SIDES)] for i in range(sum(rows))]) * side
        height, width = sizes.amax(0).tolist()
        return {"pixel_values": torch.randn(len(sizes), 3, height, width, generator=rng), "image_sizes": sizes}


class TinyMistral3(TinyImageSizes):
    """Tiny models of `Mistral3`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Row by row, each with a token that ends it."""
        if grid is None:
            return super().prompt_ids(config, modality, tokens, grid)
        row = [*super().prompt_ids(config, modality, grid[2], None), IMG_BREAK]
        return [*(row * grid[1])[:-1], IMG_END]


SHAPES = ((4, 6), (6, 6), (4, 4), (8, 4))  # (h, w) of the images in patches


class TinyNemotronHOmni(TinyFamily):
    """Tiny models of `NemotronHOmni`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images of different sizes."""
        sizes = torch.tensor([SHAPES[i % len(SHAPES)] for i in range(sum(rows))])
        width = 3 * config.vision_config.patch_size**2
        return {"pixel_values": torch.randn(int(sizes.prod(-1).sum()), width, generator=rng), "image_grid_hw": sizes}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The patches of the row's images."""
        sizes = inputs["image_grid_hw"]
        ends = [0, *sizes.prod(-1).cumsum(0).tolist()]
        pixels = inputs["pixel_values"][ends[items.start] : ends[items.stop]]
        return {"pixel_values": pixels, "image_grid_hw": sizes[items.start : items.stop]}


IMAGE_SIZES = ((32, 24), (16, 32), (32, 32))  # (height, width) of the images, in pixels of Emu3
STEPS = (9, 5)  # tokens of the audios


class TinyChameleon(TinyFamily):
    """Tiny models of `Chameleon`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images of the size that the quantizer expects."""
        side = config.vq_config.resolution
        return {"pixel_values": torch.randn(sum(rows), 3, side, side, generator=rng)}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Markers at both ends."""
        ids = [self.family.token_id(config, modality)] * tokens
        return [config.vocabulary_map["<racm3:break>"], *ids, config.vocabulary_map["<eoss>"]]


class TinyEmu3(TinyFamily):
    """Tiny models of `Emu3`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Markers at both ends, and the size in text tokens."""
        return [31, 20, 19, 21, *super().prompt_ids(config, modality, tokens, grid), 32]

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images of different sizes, padded to the largest."""
        sizes = torch.tensor([IMAGE_SIZES[i % len(IMAGE_SIZES)] for i in range(sum(rows))])
        side = int(sizes.max())
        return {"pixel_values": torch.randn(len(sizes), 3, side, side, generator=rng), "image_sizes": sizes}


class TinyApertus(TinyFamily):
    """Tiny models of `Apertus`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images of different sizes, or audios of different lengths, padded to the largest."""
        if modality == "audio":
            lengths = torch.tensor([STEPS[i % len(STEPS)] for i in range(sum(rows))]) * config.audio_config.hop_length
            mask = torch.arange(int(lengths.max())) < lengths[:, None]
            return {"input_values": torch.randn(mask.shape, generator=rng)[:, None], "padding_mask": mask.long()}
        unit = config.vision_config.spatial_scale_factor
        sizes = torch.tensor([IMAGE_SIZES[i % len(IMAGE_SIZES)] for i in range(sum(rows))]) // 8 * unit
        side = int(sizes.max())
        return {"pixel_values": torch.randn(len(sizes), 3, side, side, generator=rng), "image_sizes": sizes}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Markers at both ends; an image's size in text tokens, and a separator between its rows."""
        ids = [self.family.token_id(config, modality)] * tokens
        if modality == "audio":
            return [33, *ids, 34]
        width = tokens if grid is None else grid[2]
        rows = [n for start in range(0, tokens, width) for n in (35, *ids[start : start + width])]
        return [31, 20, 19, 21, 36, *rows[1:], 32]
