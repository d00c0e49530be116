"""Small random models as folders that both transformers and vLLM can load, and images to show them.

Their weights are large enough for an answer to depend on every token and on where it stands.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers as hf
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from foveate.apps.bench.served.folder import make_tokenizer

FAMILIES = ("llava", "llava_next", "llava_onevision", "qwen2_5_vl", "qwen3_vl")
MARKED_FAMILIES = ("glm4v", "idefics3", "internvl", "mistral3", "pixtral")
# By the class of the plug-in that a family's model is made with (`test_equal.test_families_of_a_kind`).
KINDS = {
    "PrunedPixtralModel": ("llava", "mistral3", "pixtral"),
    "PrunedRopeModel": ("llava_next", "llava_onevision"),
    "PrunedQwen": ("qwen2_5_vl", "qwen3_vl", "qwen2_vl", "glm4v"),
    "PrunedTiledModel": ("idefics3", "internvl"),
}
SPECIALS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>", "<image>", "<video>",
)  # fmt: skip
WORDS = "user assistant what is in the image a red square how many circles are there answer with one word yes no"
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}IMAGE{% elif part['type'] == 'video' %}VIDEO"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 2048, "vocab_size": 512,
}  # fmt: skip
PINPOINTS = [[56, 56], [56, 112], [112, 56], [112, 112]]


def read_kind(family: str) -> str:
    """The key of KINDS."""
    return next(kind for kind, families in KINDS.items() if family in families)


def save_model(family: str, folder: Path) -> Path:
    """Model, tokenizer and processor; returns the folder."""
    torch.manual_seed(0)
    model, processor = _make(family)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim > 1 and "visual" not in name and "vision" not in name:
                weights.mul_(3)
    model.generation_config.do_sample = False
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    if family in ("llava_next", "llava_onevision"):
        _rename_as_on_hub(folder / "model.safetensors")
    return folder


def _make(family: str) -> tuple:
    if family in MARKED_FAMILIES:
        from integrations.vllm.marked_models import make_marked

        return make_marked(family)
    tokenizer = _tokenizer(qwen=family.startswith("qwen"))
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIALS}
    ends = {"eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}
    text = {**TEXT, **ends, "bos_token_id": ids["<|endoftext|>"]}
    return (_qwen if family.startswith("qwen") else _llava)(family, text, ids, tokenizer)


def _rename_as_on_hub(file: Path) -> None:
    """Rename weights as in older checkpoints, which stock vLLM reads."""
    old, new = "vision_tower.", "vision_tower.vision_model."
    weights = {name.replace(old, new) if new not in name else name: tensor for name, tensor in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def _tokenizer(*, qwen: bool) -> hf.PreTrainedTokenizerFast:
    wrapped = "<|vision_start|>{}<|vision_end|>" if qwen else "{}"
    image, video = ("<|image_pad|>", "<|video_pad|>") if qwen else ("<image>", "<video>")
    template = CHAT.replace("IMAGE", wrapped.format(image)).replace("VIDEO", wrapped.format(video))
    tokenizer = make_tokenizer(WORDS, SPECIALS, template)
    tokenizer.image_token, tokenizer.video_token = image, video
    return tokenizer


def _llava(family: str, text: dict, ids: dict, tokenizer: hf.PreTrainedTokenizerFast) -> tuple:
    tower = {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2,
        "image_size": 56, "patch_size": 14,
    }  # fmt: skip
    placeholders = {"image_token_index": ids["<image>"]}
    common = {"tokenizer": tokenizer, "chat_template": tokenizer.chat_template}
    settings = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    size = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    if family == "llava_onevision":
        config = hf.LlavaOnevisionConfig(
            vision_config=hf.SiglipVisionConfig(**tower), text_config=hf.Qwen2Config(**text), vision_feature_layer=-1,
            image_grid_pinpoints=PINPOINTS, video_token_index=ids["<video>"], **placeholders,
        )  # fmt: skip
        images = hf.LlavaOnevisionImageProcessor(size={"height": 56, "width": 56}, image_grid_pinpoints=PINPOINTS)
        processor = hf.LlavaOnevisionProcessor(
            image_processor=images, num_image_tokens=16, vision_feature_select_strategy="full",
            video_processor=hf.LlavaOnevisionVideoProcessor(size={"height": 56, "width": 56}), **common,
        )  # fmt: skip
        return hf.LlavaOnevisionForConditionalGeneration(config), processor
    both = {"vision_config": hf.CLIPVisionConfig(**tower), "text_config": hf.LlamaConfig(**text), **placeholders}
    if family == "llava_next":
        config = hf.LlavaNextConfig(**both, image_grid_pinpoints=PINPOINTS, vision_feature_layer=-2)
        images = hf.LlavaNextImageProcessor(**size, image_grid_pinpoints=PINPOINTS)
        processor = hf.LlavaNextProcessor(image_processor=images, **settings, **common)
        return hf.LlavaNextForConditionalGeneration(config), processor
    config = hf.LlavaConfig(**both, vision_feature_layer=-2, image_seq_length=16)
    processor = hf.LlavaProcessor(image_processor=hf.CLIPImageProcessor(**size), **settings, **common)
    return hf.LlavaForConditionalGeneration(config), processor


def _qwen(family: str, text: dict, ids: dict, tokenizer: hf.PreTrainedTokenizerFast) -> tuple:
    is_qwen3 = family == "qwen3_vl"
    patch = 16 if is_qwen3 else 14
    rope = {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0}
    if is_qwen3:
        rope = {**rope, "mrope_interleaved": True, "mrope_section": [6, 5, 5]}
    tower = {
        "depth": 4, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": 128,
        "patch_size": patch,
    }  # fmt: skip
    names = ("Qwen3VL", "Qwen3VL") if is_qwen3 else ("Qwen2_5_VL", "Qwen2VL")
    if is_qwen3:
        tower |= {"deepstack_visual_indexes": [0, 1, 2], "num_position_embeddings": 256}
    elif family == "qwen2_vl":
        names = ("Qwen2VL", "Qwen2VL")
        tower = {"depth": 4, "embed_dim": 64, "hidden_size": 128, "num_heads": 2, "patch_size": patch}
    else:
        tower |= {"fullatt_block_indexes": [1, 3], "window_size": 4 * patch}
    config = getattr(hf, f"{names[0]}Config")(
        text_config={**text, "head_dim": 32, "rope_parameters": rope}, vision_config=tower,
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    cell = (2 * patch) ** 2
    size = {"shortest_edge": 4 * cell, "longest_edge": 64 * cell}
    images = hf.Qwen2VLImageProcessor(patch_size=patch, size=size)
    scale = {"image_mean": images.image_mean, "image_std": images.image_std}  # vLLM has one for images and clips
    processor = getattr(hf, f"{names[0]}Processor")(
        image_processor=images, tokenizer=tokenizer, chat_template=tokenizer.chat_template,
        video_processor=getattr(hf, f"{names[1]}VideoProcessor")(patch_size=patch, size=size, **scale),
    )  # fmt: skip
    return getattr(hf, f"{names[0]}ForConditionalGeneration")(config), processor


def make_image(seed: int, width: int = 200, height: int = 150) -> Image.Image:
    """Smooth noise."""
    noise = np.random.default_rng(seed).integers(0, 255, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def make_clip(seed: int, frames: int = 8, width: int = 90, height: int = 60) -> NDArray[np.uint8]:
    """Smooth noise that drifts: (frames, height, width, 3)."""
    whole = np.asarray(make_image(seed, width + 9 * frames, height))
    return np.stack([whole[:, 9 * n : 9 * n + width] for n in range(frames)])


def show(kinds: str, question: str) -> list[dict]:
    """One user turn that shows images ("i") and clips ("v") in this order."""
    content = [{"type": {"i": "image", "v": "video"}[kind]} for kind in kinds]
    return [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]


def chat(question: str, images: int = 1) -> list[dict]:
    """One user turn."""
    content = [{"type": "image"}] * images + [{"type": "text", "text": question}]
    return [{"role": "user", "content": content}]
