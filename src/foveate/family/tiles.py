"""Aya Vision, Command A Vision, InternVL and Qianfan-OCR: the encoder returns every tile of a picture as a picture."""

from __future__ import annotations

from foveate.family.base import Family


class AyaVision(Family):
    """`AyaVisionForConditionalGeneration`; the budget is a tile's, local windows count kept tokens."""

    summary = "Aya Vision; every tile counts as a picture, local windows"
    tiny = {"text_config": {"sliding_window": 512}, "vision_config": {"patch_size": 4}}


class Cohere2Vision(Family):
    """`Cohere2VisionForConditionalGeneration`; the budget is a tile's, local windows count kept tokens."""

    summary = "Command A Vision; every tile counts as a picture, local windows"
    tiny = {
        "text_config": {"sliding_window": 512}, "vision_config": {"patch_size": 4}, "alignment_intermediate_size": 48,
    }  # fmt: skip


class InternVL(Family):
    """`InternVLForConditionalGeneration`; the budget is a tile's, or that of one frame of a clip."""

    summary = "InternVL; every tile and every frame of a clip counts as a picture"
    tiny = {"vision_config": {"image_size": [32, 32], "patch_size": [4, 4]}}


class QianfanOcr(Family):
    """`QianfanOCRForConditionalGeneration`; the budget is a tile's."""

    summary = "Qianfan-OCR; every tile counts as a picture"
    tiny = {"vision_config": {"image_size": [32, 32], "patch_size": [4, 4]}}
