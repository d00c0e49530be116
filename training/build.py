"""The bundled architectures, untrained, with their tokenizers and processors: built in code without a hub.

`llava`: LLaVA-1.5's; it squashes a picture to 192 x 192 pixels and so to 24 x 24 = 576 visual tokens. `qwen`:
Qwen2.5-VL's, with pictures of any size, a merger that joins 2 x 2 patches into a token of 16 x 16 pixels, and M-RoPE.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from foveate.world import questions

PATCH = 8  # pixels
SIDE = 192  # pixels; LLaVA's canvas
MERGE = 2  # Qwen's patches per token and axis
WIDTH = 256  # of the language model
PAD = "<pad>"


@dataclass(frozen=True)
class Chat:
    """How a conversation is spelled: what stands before and after the picture, after the question, after the answer."""

    before: str
    picture: str
    after: str
    reply: str
    end: str
    specials: tuple[str, ...]

    def template(self) -> str:
        """As Jinja, for one or more turns."""
        user, assistant = self.before, self.reply
        return (
            "{% for message in messages %}{% if message['role'] == 'user' %}" + repr_jinja(user) + "{% else %}"
            + repr_jinja(assistant + " ") + "{% endif %}"
            "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
            "{% for part in message['content'] %}"
            "{% if part['type'] == 'image' %}" + repr_jinja(self.picture + self.after)
            + "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
            "{% if message['role'] != 'user' %}" + repr_jinja(self.end) + "{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}" + repr_jinja(assistant) + "{% endif %}"
        )  # fmt: skip


def repr_jinja(text: str) -> str:
    """The text as a Jinja string expression (a newline at the edge of a block would be trimmed away)."""
    return "{{ " + repr(text) + " }}"


LLAVA = Chat("USER: ", "<image>", "\n", " ASSISTANT:", "</s>", ("<s>", "</s>", "<image>"))
QWEN = Chat(
    "<|im_start|>user\n", "<|vision_start|><|image_pad|><|vision_end|>", "", "<|im_end|>\n<|im_start|>assistant\n",
    "<|im_end|>",
    ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)  # fmt: skip


def build_tokenizer(chat: Chat) -> PreTrainedTokenizerFast:
    """Every word of the world is one token; any other text is spelled, byte by byte. Case and line ends are dropped."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [(f"Ġ{word}", -1.0) for word in questions.list_words()] + [(letter, -10.0) for letter in letters]
    raw = Tokenizer(models.Unigram(pieces, unk_id=None))
    raw.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(left=False, right=True)]
    )
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (PAD, *chat.specials)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=chat.end, pad_token=PAD, padding_side="left", model_max_length=2048,
        **({"bos_token": "<s>"} if "<s>" in chat.specials else {}),
        extra_special_tokens={"image_token": "<image>"} if chat is LLAVA else
        {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    )  # fmt: skip
    tokenizer.chat_template = chat.template()
    return tokenizer


def _text(tokenizer: PreTrainedTokenizerFast, rope: dict[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 640, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 8, "max_position_embeddings": 2048,
        "tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", **rope},
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip


def build_llava(tokenizer: PreTrainedTokenizerFast) -> Any:
    """Features are the vision tower's last but one layer's, as in LLaVA-1.5."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(
        hidden_size=128, intermediate_size=384, num_hidden_layers=5, num_attention_heads=4, image_size=SIDE,
        patch_size=PATCH, projection_dim=128,
    )  # fmt: skip
    # Most of each head must be able to match words with patches hundreds of places away.
    text = LlamaConfig(**_text(tokenizer, {"rope_theta": 1e6}))
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=tokenizer.encode("<image>")[0],
        vision_feature_layer=-2, vision_feature_select_strategy="default", image_seq_length=(SIDE // PATCH) ** 2,
        tie_word_embeddings=True,
    )  # fmt: skip
    config.foveate_template = _roles(tokenizer, "USER:", "ASSISTANT:")
    return LlavaForConditionalGeneration(config)


def build_qwen(tokenizer: PreTrainedTokenizerFast) -> Any:
    """Half of the vision layers look at windows of 8 x 8 patches only, as most of Qwen2.5-VL's do."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokens = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    ids: dict[str, Any] = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in tokens.items()
    }
    config = Qwen2_5_VLConfig(
        # Pictures are 11 to 14 tokens wide: the width's frequencies, the lowest third, must tell such places apart.
        text_config=_text(tokenizer, {"type": "mrope", "mrope_section": [4, 6, 6], "rope_theta": 300.0}),
        vision_config={
            "depth": 5, "hidden_size": 128, "intermediate_size": 256, "num_heads": 4, "out_hidden_size": WIDTH,
            "patch_size": PATCH, "spatial_merge_size": MERGE, "fullatt_block_indexes": [1, 3, 4],
            "window_size": 8 * PATCH,
        },
        tie_word_embeddings=True, **ids,
    )  # fmt: skip
    # The tokenizer drops the newline by which a template's role is usually told from the words.
    config.foveate_template = _roles(tokenizer, "user", "assistant")
    return Qwen2_5_VLForConditionalGeneration(config)


def _roles(tokenizer: PreTrainedTokenizerFast, *roles: str) -> dict[str, Any]:
    return {"roles": [[tokenizer(role).input_ids] for role in roles], "filler": []}


def llava_processor(tokenizer: PreTrainedTokenizerFast) -> Any:
    """Pictures are squashed to a square, never cropped, so that every patch shows a known part of the picture."""
    from transformers import LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    pictures = CLIPImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(
        image_processor=pictures, tokenizer=tokenizer, patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=LLAVA.template(),
    )  # fmt: skip


def qwen_pictures() -> Any:
    """The processor's half that sees pictures: sides are rounded to whole tokens."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        patch_size=PATCH, merge_size=MERGE, image_mean=[0.5] * 3, image_std=[0.5] * 3,
        size={"shortest_edge": (4 * PATCH) ** 2, "longest_edge": (40 * PATCH) ** 2},
    )  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """One bundled model: how it talks, and how it is made."""

    chat: Chat
    build: Callable[[PreTrainedTokenizerFast], Any]


ARCHITECTURES = {"llava": Architecture(LLAVA, build_llava), "qwen": Architecture(QWEN, build_qwen)}


def build_model(name: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """The model with random weights, set to greedy decoding."""
    model = ARCHITECTURES[name].build(tokenizer)
    settings = model.generation_config
    settings.do_sample, settings.eos_token_id, settings.pad_token_id = (
        False,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )
    return model


def build_processor(name: str, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer and the processor beside the weights in `folder`."""
    if name == "llava":
        llava_processor(tokenizer).save_pretrained(folder)
        return
    # The whole processor cannot be made without torchvision, which its video half needs: its parts, as on the hub.
    settings = qwen_pictures().to_dict()
    settings |= {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    tokenizer.save_pretrained(folder)
