"""Model folders of families that cut images into tiles: random weights, real processors, a tiny tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.smolvlm import processing_smolvlm

from foveate.runtime.load import quiet
from tiny import FIRST_SPECIAL, tiny_tokenizer

VOCABULARY = 400
SIDE = 32  # of a tile, in pixels
SEED = 0
BASIC = ("<pad>", "<bos>", "<eos>")
PAD, BOS, EOS = range(FIRST_SPECIAL, FIRST_SPECIAL + len(BASIC))
NAMES = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
PART = "{% if part['type'] == 'image' %}IMAGE{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
CHAT = (
    "{% for message in messages %}<bos>{{ message['role'] }}: {% for part in message['content'] %}"
    + PART
    + "{% endfor %}<eos>\n{% endfor %}{% if add_generation_prompt %}<bos>assistant: {% endif %}"
)
TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096,
    "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE,
    "patch_size": 4,
}  # fmt: skip
IDEFICS_MARKERS = (
    "<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)  # fmt: skip
AYA_MARKERS = (
    "<|IMG_PATCH|>",
    "<|START_OF_IMG|>",
    "<|END_OF_IMG|>",
    "TILE_GLOBAL",
    *(f"TILE_{n}" for n in range(1, 9)),
)
INTERNVL_MARKERS = ("<IMG_CONTEXT>", "<img>", "</img>", "<video>")
BOX_MARKERS = ("<image>", "<start>", "<end>")
MINICPM_MARKERS = (
    "<image_pad>", "<video_pad>", "<image>", "</image>", "<slice>", "</slice>", "<image_id>", "</image_id>",
)  # fmt: skip
OVIS_MARKERS = ("<IMG_ATOM>", "<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>", "<image>")


def tiled_folder(name: str, folder: Path) -> Path:
    """Save a random model of the family with its tokenizer and real processor for `foveate.runtime.load.load`.

    `name` is a key of `TILED` or `MORE_TILED`. Tiles have sides of 32 pixels and 16 tokens (LLaVA-NeXT: 64). Returns
    the folder.
    """
    config, save_processor = {**TILED, **MORE_TILED}[name]()
    torch.manual_seed(SEED)
    model = transformers.AutoModelForImageTextToText.from_config(config).eval()
    model.generation_config.update(do_sample=False, pad_token_id=PAD, eos_token_id=EOS)
    with quiet():
        model.save_pretrained(folder)
        save_processor(folder)
    return folder


Recipe = tuple[Any, Callable[[Path], object]]  # a configuration, and what saves the processor


def _id(specials: tuple[str, ...], token: str) -> int:
    return FIRST_SPECIAL + (BASIC + specials).index(token)


def _tokenizer(specials: tuple[str, ...], **more: str) -> Any:
    tokenizer = tiny_tokenizer(BASIC + specials, **NAMES, extra_special_tokens=more)
    tokenizer.model_max_length = TEXT["max_position_embeddings"]
    return tokenizer


def _chat(image: str) -> str:
    return CHAT.replace("IMAGE", image)


def _save_parts(folder: Path, images: Any, tokenizer: Any, chat: str, kind: str, **settings: object) -> None:
    """File by file, as older checkpoints have them: these processors cannot be made without torchvision."""
    own = images.to_dict() | {
        "image_processor_type": type(images).__name__.removesuffix("Pil"),
        "processor_class": kind,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(own))
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": kind, **settings}))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": chat}))
    tokenizer.save_pretrained(folder)


def _idefics3() -> Recipe:
    from transformers import Idefics3ImageProcessorPil

    config = transformers.Idefics3Config(
        text_config={"model_type": "llama", **TEXT}, vision_config=VISION, scale_factor=2, pad_token_id=PAD,
        image_token_id=_id(IDEFICS_MARKERS, "<image>"),
    )  # fmt: skip
    images = Idefics3ImageProcessorPil(size={"longest_edge": 3 * SIDE}, max_image_size={"longest_edge": SIDE})
    processor = transformers.Idefics3Processor(
        images, _tokenizer(IDEFICS_MARKERS), image_seq_len=16, chat_template=_chat("<image>")
    )
    return config, processor.save_pretrained


def _smolvlm() -> Recipe:
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    processing_smolvlm.num2words = str  # its processor insists on a package that spells the frames' number in videos
    config = transformers.SmolVLMConfig(
        text_config={"model_type": "llama", **TEXT}, vision_config=VISION, scale_factor=2, pad_token_id=PAD,
        image_token_id=_id(IDEFICS_MARKERS, "<image>"),
    )  # fmt: skip
    images = SmolVLMImageProcessorPil(size={"longest_edge": 3 * SIDE}, max_image_size={"longest_edge": SIDE})
    tokenizer = _tokenizer(IDEFICS_MARKERS)
    return config, lambda folder: _save_parts(
        folder, images, tokenizer, _chat("<image>"), "SmolVLMProcessor", image_seq_len=16
    )


def _aya_vision() -> Recipe:
    from transformers import GotOcr2ImageProcessorPil

    config = transformers.AyaVisionConfig(
        text_config={"model_type": "cohere2", "layer_types": ["sliding_attention", "full_attention"], **TEXT},
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **VISION},
        image_token_index=_id(AYA_MARKERS, "<|IMG_PATCH|>"), pad_token_id=PAD,
    )  # fmt: skip
    images = GotOcr2ImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, crop_to_patches=True, min_patches=1, max_patches=6
    )
    processor = transformers.AyaVisionProcessor(
        images,
        _tokenizer(AYA_MARKERS),
        patch_size=4,
        img_size=SIDE,
        downsample_factor=2,
        chat_template=_chat("<image>"),
    )
    return config, processor.save_pretrained


def _internvl() -> Recipe:
    from transformers import GotOcr2ImageProcessorPil

    config = transformers.InternVLConfig(
        text_config={"model_type": "qwen2", **TEXT},
        vision_config={**VISION, "image_size": [SIDE, SIDE], "patch_size": [4, 4]},
        image_token_id=_id(INTERNVL_MARKERS, "<IMG_CONTEXT>"), image_seq_length=16,
    )  # fmt: skip
    images = GotOcr2ImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, crop_to_patches=True, min_patches=1, max_patches=6
    )
    tokenizer = _tokenizer(
        INTERNVL_MARKERS, context_image_token="<IMG_CONTEXT>", start_image_token="<img>", end_image_token="</img>",
        video_token="<video>",
    )  # fmt: skip
    return config, lambda folder: _save_parts(
        folder, images, tokenizer, _chat("<IMG_CONTEXT>"), "InternVLProcessor", image_seq_length=16
    )


def _llava_next() -> Recipe:
    from transformers import LlavaNextImageProcessorPil

    pinpoints = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = transformers.LlavaNextConfig(
        text_config={"model_type": "llama", **TEXT},
        vision_config={"model_type": "clip_vision_model", **VISION, "num_hidden_layers": 3, "projection_dim": 32},
        image_token_index=_id(("<image>",), "<image>"), image_grid_pinpoints=pinpoints,
    )  # fmt: skip
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=pinpoints
    )
    processor = transformers.LlavaNextProcessor(
        images, _tokenizer(("<image>",), image_token="<image>"), patch_size=4, num_additional_image_tokens=1,
        vision_feature_select_strategy="default", chat_template=_chat("<image>"),
    )  # fmt: skip
    return config, processor.save_pretrained


def _ovis2() -> Recipe:
    from transformers import Ovis2ImageProcessorPil

    indicators = [_id(OVIS_MARKERS, token) for token in OVIS_MARKERS[1:6]]
    config = transformers.Ovis2Config(
        text_config={"model_type": "qwen2", **TEXT}, vision_config={**VISION, "vocab_size": 48, "hidden_stride": 2},
        image_token_id=_id(OVIS_MARKERS, "<IMG_ATOM>"), visual_indicator_token_ids=indicators, vocab_size=VOCABULARY,
        hidden_size=TEXT["hidden_size"],
    )  # fmt: skip
    images = Ovis2ImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, crop_to_patches=True, max_patches=6, use_covering_area_grid=False
    )
    processor = transformers.Ovis2Processor(
        images, _tokenizer(OVIS_MARKERS), image_seq_length=16, chat_template=_chat("<image>")
    )
    return config, processor.save_pretrained


def _idefics2() -> Recipe:
    from transformers import Idefics2ImageProcessorPil

    config = transformers.Idefics2Config(
        text_config={"model_type": "mistral", "sliding_window": None, **TEXT},
        vision_config={**VISION, "image_size": 4 * SIDE, "patch_size": 8},
        perceiver_config={
            "hidden_size": 64, "resampler_n_latents": 8, "resampler_depth": 1, "resampler_n_heads": 4,
            "resampler_head_dim": 16, "num_key_value_heads": 2,
        },
        image_token_id=_id(IDEFICS_MARKERS, "<image>"),
    )  # fmt: skip
    images = Idefics2ImageProcessorPil(
        size={"shortest_edge": 2 * SIDE, "longest_edge": 4 * SIDE}, do_image_splitting=True
    )
    processor = transformers.Idefics2Processor(
        images, _tokenizer(IDEFICS_MARKERS), image_seq_len=8, chat_template=_chat("<image>")
    )
    return config, processor.save_pretrained


def _granite_docling() -> Recipe:
    from transformers import GraniteDoclingImageProcessorPil

    config = transformers.GraniteDoclingConfig(
        text_config={"model_type": "granite", **TEXT, "num_hidden_layers": 3},
        vision_config={**VISION, "out_hidden_size": 64, "scale_factor": 2, "deepstack_visual_indexes": [0, 1]},
        image_token_id=_id(IDEFICS_MARKERS, "<image>"),
    )  # fmt: skip
    images = GraniteDoclingImageProcessorPil(size={"height": SIDE, "width": SIDE}, max_patches=6)
    processor = transformers.GraniteDoclingProcessor(
        images, _tokenizer(IDEFICS_MARKERS), image_seq_len=16, chat_template=_chat("<image>")
    )
    return config, processor.save_pretrained


def _got_ocr2() -> Recipe:
    from transformers import GotOcr2ImageProcessorPil

    specials = ("<imgpad>", "<img>", "</img>")
    config = transformers.GotOcr2Config(
        text_config={"model_type": "qwen2", **TEXT}, image_token_id=_id(specials, "<imgpad>"),
        vision_config={
            "image_size": 2 * SIDE, "patch_size": 4, "output_channels": 8, "window_size": 3, "global_attn_indexes": [1],
            "hidden_size": 32, "mlp_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        },
    )  # fmt: skip
    images = GotOcr2ImageProcessorPil(size={"height": 2 * SIDE, "width": 2 * SIDE}, crop_to_patches=True, max_patches=6)
    processor = transformers.GotOcr2Processor(images, _tokenizer(specials), chat_template=_chat("<img><imgpad></img>"))
    return config, processor.save_pretrained


def _gemma3() -> Recipe:
    from transformers import Gemma3ImageProcessorPil

    config = transformers.Gemma3Config(
        text_config={**TEXT, "layer_types": ["sliding_attention", "full_attention"]},
        vision_config={"model_type": "siglip_vision_model", **VISION}, mm_tokens_per_image=16,
        image_token_id=_id(BOX_MARKERS, "<image>"), boi_token_id=_id(BOX_MARKERS, "<start>"),
        eoi_token_id=_id(BOX_MARKERS, "<end>"), eos_token_id=EOS,
    )  # fmt: skip
    images = Gemma3ImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, do_pan_and_scan=True, pan_and_scan_min_crop_size=8,
        pan_and_scan_max_num_crops=4, pan_and_scan_min_ratio_to_activate=1.2,
    )  # fmt: skip
    tokenizer = _tokenizer(BOX_MARKERS, image_token="<image>", boi_token="<start>", eoi_token="<end>")
    processor = transformers.Gemma3Processor(images, tokenizer, chat_template=_chat("<start>"), image_seq_length=16)
    return config, processor.save_pretrained


def _minicpm() -> Recipe:
    from transformers import MiniCPMV4_6ImageProcessorPil

    config = transformers.MiniCPMV4_6Config(
        text_config={
            **TEXT, "head_dim": 32, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
            "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16, "rope_parameters": {
                "rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2],
                "partial_rotary_factor": 0.5, "rope_theta": 10000.0,
            },
        },
        vision_config={**VISION, "image_size": 2 * SIDE}, insert_layer_id=0,
        image_token_id=_id(MINICPM_MARKERS, "<image_pad>"), video_token_id=_id(MINICPM_MARKERS, "<video_pad>"),
    )  # fmt: skip
    images = MiniCPMV4_6ImageProcessorPil(scale_resolution=SIDE, patch_size=4, max_slice_nums=4)
    names = ("image_token", "video_token", "image_start_token", "image_end_token", "slice_start_token")
    names = (*names, "slice_end_token", "image_id_start_token", "image_id_end_token")
    tokenizer = _tokenizer(MINICPM_MARKERS, **dict(zip(names, MINICPM_MARKERS, strict=True)))
    return config, lambda folder: _save_parts(folder, images, tokenizer, _chat("<image_pad>"), "MiniCPMV4_6Processor")


CALLS: dict[str, dict[str, object]] = {
    "gemma3": {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 8},
    "got_ocr2": {"crop_to_patches": True, "max_patches": 6, "num_image_tokens": 16},
}
"""Arguments with which a family's processor cuts images into tiles, beside text and images."""

TILED: dict[str, Callable[[], Recipe]] = {
    "aya_vision": _aya_vision, "idefics3": _idefics3, "internvl": _internvl, "llava_next": _llava_next,
    "ovis2": _ovis2, "smolvlm": _smolvlm,
}  # fmt: skip
MORE_TILED: dict[str, Callable[[], Recipe]] = {
    "gemma3": _gemma3, "got_ocr2": _got_ocr2, "granite_docling": _granite_docling, "idefics2": _idefics2,
    "minicpmv4_6": _minicpm,
}  # fmt: skip
