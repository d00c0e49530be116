"""HunYuan-VL: images of any size, learned tokens at each end and after every row, RoPE with an image's number."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.models.base import Features, Inputs, Masks
from foveate.models.batch import PromptBatch
from foveate.models.patches import Patches
from foveate.models.sequence import count_positions
from foveate.models.template import Template
from foveate.models.visual_input import Tiles, VisualInput, tile_rows


class HunYuanVL(Patches):
    """HunYuan-VL; four-axis RoPE, dynamic resolution, tokens at the ends of rows and images stay.

    In a batch the stock model numbers the images of all rows in one go; here each row counts its own, as alone.
    """

    # the ends stand between the rows
    traits = replace(Patches.traits, versions=">=5.21", raster=False, modalities=("image",))

    def protected(self, model: Any, inputs: Inputs, features: Features, modality: str = "image") -> Masks:
        """The first and the last token, and the end of every row."""
        if inputs.get("image_grid_thw") is None:
            raise InputError("image_grid_thw is missing, which tells where the rows of an image end: pass it too.")
        masks: list[Tensor | None] = []
        widths = inputs["image_grid_thw"][:, 2] // model.config.vision_config.spatial_merge_size
        for feature, width in zip(features, widths.tolist(), strict=True):
            ends = torch.arange(len(feature)) % (width + 1) == 0
            ends[-1] = True
            masks.append(ends)
        return masks

    def find_tiles(self, config: Any, inputs: Inputs, item: VisualInput) -> Tiles:
        """The rows between the ends."""
        return tile_rows(item.protected)

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """Row by row, under a row that counts tokens."""
        places = self.placeholders(model.config, inputs).int()
        counts = (places.diff(dim=-1, prepend=torch.zeros_like(places[:, :1])) == 1).sum(-1)
        ends = [0, *counts.cumsum(0).tolist()]
        rows = []
        for row in range(len(places)):
            own = {"input_ids": inputs["input_ids"][row : row + 1]}
            if ends[row] < ends[row + 1]:
                own["image_grid_thw"] = inputs["image_grid_thw"][ends[row] : ends[row + 1]]
            rows.append(super().positions(model, own, mask[row : row + 1]))
        return torch.cat(rows, dim=1)

    def shorten(self, model: Any, batch: PromptBatch) -> dict[str, Any]:
        """The model itself takes the axes without a row that counts tokens."""
        axes = batch.inputs.get("position_ids")
        if axes is not None and axes.ndim == 3:
            axes = axes.to(batch.mask.device).expand(-1, len(batch.mask), -1)
            axes = torch.cat([count_positions(batch.mask)[None], axes])
            batch = replace(batch, inputs={**batch.inputs, "position_ids": axes})
        short = super().shorten(model, batch)
        if short["position_ids"].ndim == 3:
            short["position_ids"] = short["position_ids"][1:]
        return short

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """The marks have other names than elsewhere."""
        plain, marks = super().template(config, stop_ids), {config.im_start_id, config.im_end_id}
        return replace(plain, controls=plain.controls | marks, structure=plain.structure | marks)
