"""Save a published model's shape as a folder for vLLM: configuration, tokenizer and processor, without weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from foveate.apps.bench.shapes import SHAPES, Shape
from foveate.errors import InputError

WORDS = "what is in the picture a red square on blue ground how many circles are there answer with one word yes no"
SPECIALS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
LARGEST = 1024  # pixels of a square side: an engine runs the largest image when it starts
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}<|image_pad|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
KINDS = {"llava": "Llava", "qwen2_5_vl": "Qwen2_5_VL"}


def save_shape(name: str, layers: int, folder: Path, *, side: int | None = None) -> Path:
    """Write the shape's configuration with this number of decoder layers, a tokenizer of few words, and the processor.

    `side` sets the pixels of the squares that the tower reads. Raises `InputError` for a shape without a processor
    here.
    """
    shape = SHAPES[name]
    if shape.model_type not in KINDS:
        able = ", ".join(name for name, shape in SHAPES.items() if shape.model_type in KINDS)
        raise InputError(f"--engine vllm has no processor for the shape {name}: give {able}, or a model's folder.")
    tokenizer = make_tokenizer(WORDS, SPECIALS, CHAT)
    tokenizer.image_token, tokenizer.video_token = "<|image_pad|>", "<|video_pad|>"
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIALS}
    config = _make_config(shape, layers, ids, side)
    config.architectures = [f"{KINDS[shape.model_type]}ForConditionalGeneration"]
    config.save_pretrained(folder)
    _make_processor(shape, config, tokenizer).save_pretrained(folder)
    try:
        save_file({"nothing": torch.zeros(1)}, folder / "model.safetensors")  # vLLM makes its own weights
    except SafetensorError as error:
        raise InputError(f"{folder} cannot be written ({error}): make room there, or set TMPDIR.") from error
    return folder


def _make_config(shape: Shape, layers: int, ids: dict[str, int], side: int | None) -> Any:
    config = shape.make_config(layers)
    text = config.text_config
    text.bos_token_id = text.pad_token_id = ids["<|endoftext|>"]
    text.eos_token_id = ids["<|im_end|>"]
    if shape.model_type == "llava":
        config.image_token_index = config.image_token_id = ids["<|image_pad|>"]
        config.vision_config.image_size = side or config.vision_config.image_size
        return config
    for end in ("start", "end"):
        setattr(config, f"vision_{end}_token_id", ids[f"<|vision_{end}|>"])
    config.image_token_id, config.video_token_id = ids["<|image_pad|>"], ids["<|video_pad|>"]
    return config


def make_tokenizer(words: str, specials: Sequence[str], chat: str) -> Any:
    """A byte-level tokenizer with whole tokens for these words, then the special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator([words] * 4, trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    raw.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left", chat_template=chat
    )


def _make_processor(shape: Shape, config: Any, tokenizer: Any) -> Any:
    import transformers as hf

    vision = config.vision_config
    if shape.model_type == "llava":
        side = vision.image_size
        images = hf.CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        return hf.LlavaProcessor(
            image_processor=images, tokenizer=tokenizer, patch_size=vision.patch_size, chat_template=CHAT,
            vision_feature_select_strategy="default", num_additional_image_tokens=1,
        )  # fmt: skip
    return hf.Qwen2_5_VLProcessor(
        image_processor=hf.Qwen2VLImageProcessor(
            patch_size=vision.patch_size, size={"shortest_edge": 56**2, "longest_edge": LARGEST**2}
        ),
        tokenizer=tokenizer,
        video_processor=hf.Qwen2VLVideoProcessor(patch_size=vision.patch_size),
        chat_template=CHAT.replace("<|image_pad|>", "<|vision_start|><|image_pad|><|vision_end|>"),
    )  # fmt: skip
