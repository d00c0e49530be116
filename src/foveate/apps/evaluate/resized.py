"""The arm that prunes nothing and makes images smaller."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.nn import functional as F

from foveate.apps.evaluate.arms import ArmInputs, EvalArm
from foveate.apps.evaluate.batches import EvalBatch, cut_placeholders
from foveate.apps.evaluate.examples import EvalExample
from foveate.errors import ModelError
from foveate.method.budget import to_budget
from foveate.models import family_of
from foveate.runtime.loaded import LoadedModel

TRIAL_SIZE = (1600, 1200)  # large enough for tiles where a processor cuts images into them
TRIAL_TOKENS = 4


@dataclass(frozen=True)
class ResizedEvalArm(EvalArm):
    """A smaller image, so that the encoder itself yields about k tokens: pruning must do better.

    Where the processor takes any size, the image is scaled before it. For a tower of one size, the pixels are scaled to
    whole patches and the position embeddings are interpolated.
    """

    optional = True

    @torch.no_grad()
    def check(self, loaded: LoadedModel) -> None:
        """Try it on one large image: processors and towers do not tell which sizes they take."""
        trial = EvalExample("trial", "trial", "?", (), lambda: Image.new("RGB", TRIAL_SIZE))
        batch = EvalBatch(loaded, [trial], [])
        try:
            inputs, counts = _shrink(batch, [TRIAL_TOKENS])
            loaded.model(**inputs)
        except Exception as error:  # they refuse in many ways
            raise ModelError(f"{loaded.model.config.model_type!r} models do not take smaller images.") from error
        if counts != batch.count_tokens(inputs) or counts >= batch.sizes:
            raise ModelError(f"{loaded.model.config.model_type!r} models cut smaller images into as many tokens.")

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """The inputs for smaller images."""
        inputs, counts = _shrink(batch, [to_budget(self.budget, size) for size in batch.sizes])
        return inputs, [None] * len(counts), counts


def _shrink(batch: EvalBatch, limits: Sequence[int]) -> tuple[Any, list[int]]:
    """The inputs for smaller images of at most about `limits` tokens, and the number of tokens of each."""
    if "image_grid_thw" not in batch.inputs:
        return _interpolate(batch, max(1, round(math.sqrt(min(limits)))))
    vision = batch.loaded.model.config.vision_config
    unit = vision.patch_size * vision.spatial_merge_size
    small = []
    for image, k in zip(batch.images, limits, strict=True):
        columns, rows = fit_cells(image.width / image.height, k)
        small.append(image.resize((columns * unit, rows * unit), Image.Resampling.BICUBIC))
    inputs = batch.process(small)
    return inputs, batch.count_tokens(inputs)


def _interpolate(batch: EvalBatch, side: int) -> tuple[dict[str, Any], list[int]]:
    """The inputs with pixels of `side` x `side` patches, for a tower that interpolates its position embeddings."""
    model, pixels = batch.loaded.model, batch.inputs["pixel_values"]
    size = side * model.config.vision_config.patch_size
    small = F.interpolate(pixels.float(), size=(size, size), mode="bicubic", antialias=True).to(model.dtype)
    encoded = model.base_model.get_image_features(pixel_values=small, interpolate_pos_encoding=True, return_dict=True)
    counts = [len(tokens) for tokens in family_of(model).features(encoded)]
    if counts != [side * side] * len(batch.examples):
        raise ModelError(f"{model.config.model_type!r} models make several tiles or fewer tokens of an image.")
    output = type(encoded)(pooler_output=encoded.pooler_output)
    return {**cut_placeholders(batch, counts), "mm_encoder_outputs": {"image": output}}, counts


def fit_cells(aspect: float, k: int) -> tuple[int, int]:
    """Columns and rows of at most `k` cells, as many as fit, of about this aspect (width / height)."""
    fits = [(columns, max(1, min(round(columns / aspect), k // columns))) for columns in range(1, k + 1)]
    return max(fits, key=lambda c: (c[0] * c[1] - k * abs(math.log(c[0] / c[1] / aspect)), c))
