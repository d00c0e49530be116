"""Models that take images as flattened patches, as Qwen-VL does: what is different in each."""

from dataclasses import replace
from typing import Any

from foveate.models.base import Features, Grids, Inputs, Masks
from foveate.models.patches import Patches, Timestamped
from foveate.models.qwen_vl import Qwen3VL


class Exaone45(Patches):
    """EXAONE 4.5; 1-D RoPE in windowed layers, dynamic resolution; generate numbers kept tokens anew.

    The attention window counts kept tokens.

    Its `generate` throws position ids away and numbers the tokens that it receives: there kept tokens move together,
    whatever `positions` says. `forward` keeps them.
    """

    traits = replace(
        Patches.traits,
        note="generate of EXAONE 4.5 numbers the kept tokens anew, whatever positions says; forward does not.",
    )


class HyperCLOVAXVisionV2(Patches):
    """HyperCLOVA X SEED Think; 1-D RoPE, dynamic resolution; generate numbers kept tokens anew.

    Its `generate` throws position ids away and numbers the tokens that it receives: there kept tokens move together,
    whatever `positions` says. `forward` keeps them.
    """

    traits = replace(
        Patches.traits,
        note="generate of HyperCLOVA X numbers the kept tokens anew, whatever positions says; forward does not.",
    )


class Ernie45VL(Patches):
    """ERNIE 4.5 VL; M-RoPE, dynamic resolution, videos merge two frames, experts for text and for vision.

    `moe_mm_token_type_ids` lose the same tokens as the prompt.
    """

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """Videos have half their frames."""
        merge = config.vision_config.temporal_merge_size if modality == "video" else 1
        grids = super().grids(config, inputs, features, modality)
        return [None if grid is None else (grid[0] // merge, *grid[1:]) for grid in grids]


class PaddleOCRVL(Patches):
    """PaddleOCR-VL; M-RoPE, dynamic resolution."""

    traits = replace(Patches.traits, modalities=("image",))


class CohereCompass(Timestamped):
    """Cohere Compass; M-RoPE, windowed layers, DeepStack, a timestamp before every frame."""


class Cosmos3Edge(Timestamped):
    """Cosmos3 Edge; M-RoPE, dynamic resolution, a timestamp before every frame."""

    traits = replace(Timestamped.traits, versions=">=5.23")


class Cosmos3Omni(Qwen3VL):
    """Cosmos3 Omni's reasoner, as Qwen3-VL; M-RoPE, DeepStack, a timestamp before every frame."""

    traits = replace(Qwen3VL.traits, in_decoder=False)


class HYV4VL(Patches):
    """HY-V4-VL; M-RoPE, dynamic resolution, newline tokens stay, sparse attention with an indexer."""

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """With a column of newlines; None where the inputs do not say."""
        if inputs.get(f"{modality}_grid_thw") is None:
            return [None] * len(features)
        grids = super().grids(config, inputs, features, modality)
        return [None if grid is None else (grid[0], grid[1], grid[2] + 1) for grid in grids]

    def protected(self, model: Any, inputs: Inputs, features: Features, modality: str = "image") -> Masks:
        """Newlines, the last of each row."""
        newline = model.base_model.vision_tower.patch_merger.image_newline
        return [(feature == newline.to(feature)).all(-1) for feature in features]
