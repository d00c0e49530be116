"""Stage *see*: the vision encoder learns what each patch shows and what the image holds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from training.attention import plain_attention
from training.labels import CLASSES, IMAGE_LABELS, PLACE
from training.precision import autocast

WEIGHTS = {"form": 1.0, "color": 1.0, "glyph": 1.5, "order": 1.0}  # of the losses


class PatchHeads(nn.Module):
    """One linear head per label of a patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.classes = nn.ModuleDict({name: nn.Linear(width, size) for name, size in CLASSES.items()})
        self.place = nn.Linear(width, PLACE)

    def forward(self, hidden: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of patches (n, width) and the figures to log. A label of -1 is not known.

        For each label the figure is the share of labelled patches that are right; `place` and `way` are errors in
        cells.
        """
        figures, losses = {}, []
        for name, weight in WEIGHTS.items():
            known = batch[name] >= 0
            logits, target = self.classes[name](hidden[known]), batch[name][known]
            each, labelled = F.cross_entropy(logits, target, reduction="none"), target > 0
            # Objects cover a tenth of the image: their patches must count as much as the background's.
            losses.append(weight * (mean_or_zero(each[labelled]) + mean_or_zero(each[~labelled])))
            figures[name] = mean_or_zero((logits.argmax(-1) == target)[labelled].float()).item()
        labelled = batch["form"] > 0
        error = (self.place(hidden[labelled]) - batch["place"][labelled]).square()
        place = error.sum(0) / max(len(error), 1)
        figures |= {"place": place[:2].mean().sqrt().item(), "way": place[2:4].mean().sqrt().item()}
        return torch.stack(losses).sum() + 2 * place.mean(), figures


class VisionPretraining(nn.Module):
    """The vision encoder with a linear head for every label of its patches and of the whole image.

    A label of -1 is not known.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower = get_tower(model)
        AttentionInterface.register("plain", plain_attention)
        self.tower.config._attn_implementation = "plain"
        width: int = self.tower.config.hidden_size
        self.heads, self.image = PatchHeads(width), nn.Linear(width, IMAGE_LABELS)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and the figures to log: those of the patches, and `picture`, the loss of images' labels."""
        with autocast(batch["pixel_values"].device.type):
            hidden, summary = _ENCODERS[self.tower.config.model_type](self.tower, batch)
        loss, figures = self.heads(hidden.float(), batch)
        known = batch["image"][:, 0] >= 0
        image = F.binary_cross_entropy_with_logits(self.image(summary.float()[known]), batch["image"][known])
        return loss + image, figures | {"picture": image.item()}


def mean_or_zero(values: Tensor) -> Tensor:
    """Return the mean, or 0 for no values."""
    return values.sum() / max(values.numel(), 1)


def get_tower(model: Any) -> Any:
    """Return the vision encoder."""
    return getattr(model.model, "vision_tower", None) or model.model.visual


def get_connector(model: Any) -> Any:
    """Return the module that turns the encoder's patches into visual tokens."""
    return getattr(model.model, "multi_modal_projector", None) or model.model.visual.merger


def _encode_clip(clip: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the patches (all, width) of the layer that LLaVA reads, and [CLS] (b, width)."""
    out = clip(batch["pixel_values"], output_hidden_states=True)
    return out.hidden_states[-2][:, 1:].flatten(0, 1), out.pooler_output


def _encode_qwen(visual: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the patches (all, width), not in the order of windows, and each image's mean (b, width)."""
    from transformers.vision_utils import get_vision_window_index

    grids, config = batch["image_grid_thw"], visual.config
    hidden = visual(batch["pixel_values"], grid_thw=grids).last_hidden_state
    order, _ = get_vision_window_index(
        grids,
        spatial_merge_size=config.spatial_merge_size,
        window_size=config.window_size,
        patch_size=config.patch_size,
        kwargs={},
    )
    blocks = hidden.unflatten(0, (-1, config.spatial_merge_size**2))
    hidden = blocks[torch.argsort(order)].flatten(0, 1)
    return hidden, torch.stack([part.mean(0) for part in hidden.split(grids.prod(-1).tolist())])


_ENCODERS = {"clip_vision_model": _encode_clip, "qwen2_5_vl_vision": _encode_qwen, "qwen2_5_vl": _encode_qwen}
