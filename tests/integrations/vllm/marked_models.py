"""Small random models whose images stand among marks: ends of rows, names of tiles, starts and ends of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as hf

from foveate.apps.bench.served.folder import make_tokenizer
from integrations.vllm.models import CHAT, TEXT, WORDS

SPECIALS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<pad>", "<video>", "[IMG]", "[IMG_BREAK]",
    "[IMG_END]", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<|image|>", "<|video|>",
    "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)),
)  # fmt: skip
TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2}


def make_marked(family: str) -> tuple[Any, Any]:
    """A model and its processor."""
    return MAKERS[family]()


def _tokenizer(image: str) -> tuple[Any, dict[str, int], dict[str, Any]]:
    """The tokenizer, whose chat template writes `image` for an image, its special ids, and a decoder's settings."""
    tokenizer = make_tokenizer(WORDS, SPECIALS, CHAT.replace("IMAGE", image).replace("VIDEO", "<video>"))
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIALS}
    ends = {"eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}
    return tokenizer, ids, {**TEXT, **ends, "bos_token_id": ids["<|endoftext|>"]}


def _internvl() -> tuple[Any, Any]:
    tokenizer, ids, text = _tokenizer("<image>")
    names = {"start_image": "<img>", "end_image": "</img>", "context_image": "<image>", "video": "<video>"}
    named = {f"{name}_token": token for name, token in names.items()}
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left",
        chat_template=tokenizer.chat_template, extra_special_tokens=named,
    )  # fmt: skip
    vision = hf.InternVLVisionConfig(**TOWER, image_size=[56, 56], patch_size=[14, 14])
    config = hf.InternVLConfig(
        vision_config=vision, text_config=hf.Qwen2Config(**text), image_token_id=ids["<image>"], image_seq_length=4,
        tie_word_embeddings=False,
    )  # fmt: skip
    size = {"height": 56, "width": 56}
    images = hf.GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=1, max_patches=6)
    processor = hf.InternVLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=hf.InternVLVideoProcessor(size=size),
        image_seq_length=4, chat_template=tokenizer.chat_template,
    )  # fmt: skip
    return hf.InternVLForConditionalGeneration(config), processor


def _pixtral_processor(tokenizer: Any, merge: int) -> Any:
    images = hf.PixtralImageProcessor(size={"longest_edge": 112}, patch_size={"height": 14, "width": 14})
    return hf.PixtralProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=14, spatial_merge_size=merge,
        chat_template=tokenizer.chat_template,
    )  # fmt: skip


def _pixtral() -> tuple[Any, Any]:
    tokenizer, ids, text = _tokenizer("[IMG]")
    config = hf.LlavaConfig(
        vision_config=hf.PixtralVisionConfig(**TOWER, image_size=112, patch_size=14), vision_feature_layer=-1,
        text_config=hf.MistralConfig(**text), image_token_index=ids["[IMG]"], vision_feature_select_strategy="full",
        tie_word_embeddings=False,
    )  # fmt: skip
    return hf.LlavaForConditionalGeneration(config), _pixtral_processor(tokenizer, 1)


def _mistral3() -> tuple[Any, Any]:
    tokenizer, ids, text = _tokenizer("[IMG]")
    config = hf.Mistral3Config(
        vision_config=hf.PixtralVisionConfig(**TOWER, image_size=112, patch_size=14), spatial_merge_size=2,
        text_config=hf.MistralConfig(**text), image_token_index=ids["[IMG]"], tie_word_embeddings=False,
    )  # fmt: skip
    return hf.Mistral3ForConditionalGeneration(config), _pixtral_processor(tokenizer, 2)


def _idefics3() -> tuple[Any, Any]:
    tokenizer, ids, text = _tokenizer("<image>")
    config = hf.Idefics3Config(
        vision_config=hf.Idefics3VisionConfig(**TOWER, image_size=56, patch_size=14), scale_factor=2,
        text_config=hf.LlamaConfig(**text), image_token_id=ids["<image>"], pad_token_id=ids["<|endoftext|>"],
    )  # fmt: skip
    images = hf.Idefics3ImageProcessor(size={"longest_edge": 168}, max_image_size={"longest_edge": 56})
    processor = hf.Idefics3Processor(
        image_processor=images, tokenizer=tokenizer, image_seq_len=4, chat_template=tokenizer.chat_template
    )
    return hf.Idefics3ForConditionalGeneration(config), processor


def _glm4v() -> tuple[Any, Any]:
    tokenizer, ids, text = _tokenizer("<|begin_of_image|><|image|><|end_of_image|>")
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "mrope_section": [2, 3, 3]}
    vision = {"depth": 3, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": 128}
    config = hf.Glm4vConfig(
        vision_config={**vision, "image_size": 56, "patch_size": 14},
        text_config={**text, "rope_parameters": rope, "head_dim": 32}, image_token_id=ids["<|image|>"],
        video_token_id=ids["<|video|>"], image_start_token_id=ids["<|begin_of_image|>"],
        image_end_token_id=ids["<|end_of_image|>"], video_start_token_id=ids["<|begin_of_video|>"],
        video_end_token_id=ids["<|end_of_video|>"],
    )  # fmt: skip
    size = {"shortest_edge": 2 * 4 * 28**2, "longest_edge": 2 * 64 * 28**2}
    processor = hf.Glm4vProcessor(
        image_processor=hf.Glm4vImageProcessor(size=size), tokenizer=tokenizer,
        video_processor=hf.Glm4vVideoProcessor(size=size), chat_template=tokenizer.chat_template,
    )  # fmt: skip
    return hf.Glm4vForConditionalGeneration(config), processor


MAKERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "glm4v": _glm4v,
    "idefics3": _idefics3,
    "internvl": _internvl,
    "mistral3": _mistral3,
    "pixtral": _pixtral,
}
