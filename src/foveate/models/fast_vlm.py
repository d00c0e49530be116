"""FastVLM: the last map of a convolutional tower, row by row."""

from __future__ import annotations

from foveate.models.base import Family


class FastVlm(Family):
    """`FastVlmForConditionalGeneration`."""

    summary = "FastVLM; convolutional tower"
    tiny = {
        "vision_config": {  # the real tower is timm's
            "model_type": "convnext", "hidden_size": 32, "hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2,
            "image_size": 32, "patch_size": 4,
        },
    }  # fmt: skip
