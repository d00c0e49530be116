"""Gemma 4: padded patches with their places beside them, pooled to rasters of any shape; timestamps before frames."""

import math
from dataclasses import replace
from typing import Any

import torch

from foveate.models.base import Features, Grids, Inputs
from foveate.models.gemma3 import Gemma
from foveate.models.patches import FramesApart
from foveate.models.visual_input import Grid


class Gemma4(FramesApart, Gemma):
    """Gemma 4; any aspect ratio, embeddings for every layer, experts, local windows; audio passes through.

    Audio stays whole; local windows count kept tokens.
    """

    traits = replace(FramesApart.traits, versions=">=5.23", modalities=("image", "video"))

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """As the places of the patches say; a video's frames are all of one shape."""
        places = inputs.get(f"{modality}_position_ids")
        if places is None:
            return [None] * len(features)
        counts = inputs["num_frames_per_video"].tolist() if modality == "video" else [1] * len(features)
        firsts = torch.tensor([0, *counts[:-1]]).cumsum(0).tolist()
        sides = (places.amax(1) + 1).tolist()  # of every image or frame, in patches: (w, h)
        grids: list[Grid | None] = []
        for feature, first, frames in zip(features, firsts, counts, strict=True):
            w, h = sides[first]
            pool = math.isqrt(frames * w * h // len(feature))
            grids.append((frames, h // pool, w // pool))
        return grids


class Gemma4Unified(Gemma4):
    """Gemma 4 without towers: patches go straight into the language model; audio passes through.

    Audio stays whole; local windows count kept tokens.
    """
