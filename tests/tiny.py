"""Model folders small enough for a test: a family's own tiny configuration, with tokenizer, processor and weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from foveate.conformance.registry import to_tiny_family
from foveate.models import lookup
from foveate.runtime.load import quiet

WORDS = "user assistant what color is the shape how many are there answer with one word red blue circle star"
FIRST_SPECIAL = 300
LLAVA_SPECIALS = ("<s>", "</s>", "<pad>", "<image>")
QWEN_SPECIALS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
PART = "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}"
PARTS = "{% for part in message['content'] %}" + PART + "{% endfor %}"
LLAVA_CHAT = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    + PARTS.replace("IMAGE", "<image>\n")
    + " {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
QWEN_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    + PARTS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    + "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_folder(model_type: str, folder: Path) -> Path:
    """Save a random model of the family with its tokenizer and processor, and return the folder."""
    config = to_tiny_family(lookup.family(model_type)).make_config()
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(config).eval()
    model.generation_config.do_sample = False
    with quiet():
        model.save_pretrained(folder)
    if model_type == "llava":
        _save_llava(config, folder)
    else:
        _save_qwen(model_type, config, folder)
    return folder


def tiny_tokenizer(specials: tuple[str, ...], **names: object) -> transformers.PreTrainedTokenizerFast:
    """Byte-level, with the special tokens from id 300 on, as the families' tiny configurations have them."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=FIRST_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    raw.train_from_iterator([WORDS] * 4, trainer)
    raw.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    assert raw.token_to_id(specials[0]) == FIRST_SPECIAL
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, padding_side="left", model_max_length=512, **names
    )


def _save_llava(config: object, folder: Path) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    side = config.vision_config.image_size
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    processor = transformers.LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        tokenizer=tiny_tokenizer(LLAVA_SPECIALS, **names, extra_special_tokens={"image_token": "<image>"}),
        patch_size=config.vision_config.patch_size, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=LLAVA_CHAT,
    )  # fmt: skip
    processor.save_pretrained(folder)


def _save_qwen(model_type: str, config: object, folder: Path) -> None:
    """File by file, as the hub has them: the processor class cannot be made without torchvision."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    patch = config.vision_config.patch_size
    cell = patch * config.vision_config.spatial_merge_size
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=patch, size={"shortest_edge": 4 * cell**2, "longest_edge": 36 * cell**2}
    )
    settings = image_processor.to_dict() | {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": {"qwen2_5_vl": "Qwen2_5_VLProcessor", "qwen3_vl": "Qwen3VLProcessor"}[model_type],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": QWEN_CHAT}))
    tiny_tokenizer(QWEN_SPECIALS, eos_token="<|im_end|>", pad_token="<|endoftext|>").save_pretrained(folder)
