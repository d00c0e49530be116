"""The bundled architectures with random weights, their tokenizers and processors, built without downloads.

`llava` is LLaVA-1.5's: an image is resized to 192 x 192 pixels and makes 24 x 24 = 576 visual tokens. `qwen` is
Qwen2.5-VL's: images of any size, a merger that joins 2 x 2 patches into a token of 16 x 16 pixels, and M-RoPE.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from foveate.world.questions import list_words

PATCH = 8  # pixels
SIDE = 192  # pixels of LLaVA's square images
MERGE = 2  # Qwen's patches per token and axis
WIDTH = 256  # of the language model
PAD = "<pad>"


@dataclass(frozen=True)
class ChatFormat:
    """The text of a conversation: before and after the image, after the question (`reply`), after the answer.

    `video` takes the image's place for a video; without it the template knows none.
    `opening` comes before the first message, `lead` before an answer.
    """

    before: str
    image: str
    after: str
    reply: str
    end: str
    specials: tuple[str, ...]
    video: str = ""
    opening: str = ""
    lead: str = " "

    def template(self) -> str:
        """Return the chat template in Jinja, for one or more turns."""
        image, end, reply = to_jinja(self.image + self.after), to_jinja(self.end), to_jinja(self.reply)
        video = "{% elif part['type'] == 'video' %}" + to_jinja(self.video + self.after) if self.video else ""
        parts = (
            to_jinja(self.opening) if self.opening else "",
            "{% for message in messages %}{% if message['role'] == 'user' %}" + to_jinja(self.before),
            "{% else %}" + to_jinja(self.reply + self.lead) + "{% endif %}",
            "{% if message['content'] is string %}{{ message['content'] }}{% else %}",
            "{% for part in message['content'] %}{% if part['type'] == 'image' %}" + image + video,
            "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}",
            "{% if message['role'] != 'user' %}" + end + "{% endif %}{% endfor %}",
            "{% if add_generation_prompt %}" + reply + "{% endif %}",
        )
        return "".join(parts)


def to_jinja(text: str) -> str:
    """Write text as a Jinja string expression; Jinja would trim a plain newline at the edge of a block."""
    return "{{ " + repr(text) + " }}"


LLAVA = ChatFormat("USER: ", "<image>", "\n", " ASSISTANT:", "</s>", ("<s>", "</s>", "<image>"))
QWEN = ChatFormat(
    "<|im_start|>user\n",
    "<|vision_start|><|image_pad|><|vision_end|>",
    "",
    "<|im_end|>\n<|im_start|>assistant\n",
    "<|im_end|>",
    ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)


def build_tokenizer(chat: ChatFormat) -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token per word of the world; other text is one token per byte.

    Case is ignored, and line breaks count as spaces.
    """
    byte_characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [(f"Ġ{word}", -1.0) for word in list_words()] + [(c, -10.0) for c in byte_characters]
    raw = Tokenizer(models.Unigram(pieces, unk_id=None))
    raw.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(left=False, right=True)]
    )
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (PAD, *chat.specials)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=chat.end,
        pad_token=PAD,
        padding_side="left",
        model_max_length=2048,
        **({"bos_token": "<s>"} if "<s>" in chat.specials else {}),
        extra_special_tokens={"image_token": "<image>"}
        if chat is LLAVA
        else {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    )
    tokenizer.chat_template = chat.template()
    return tokenizer


def _make_text_settings(tokenizer: PreTrainedTokenizerFast, rope: dict[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 640,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", **rope},
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def build_llava(tokenizer: PreTrainedTokenizerFast) -> Any:
    """Build LLaVA's architecture; features come from the vision encoder's last layer but one, as in LLaVA-1.5."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=128,
    )
    # A large base: most of each head's width must match words with patches hundreds of positions away.
    text = LlamaConfig(**_make_text_settings(tokenizer, {"rope_theta": 1e6}))
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.encode("<image>")[0],
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=(SIDE // PATCH) ** 2,
        tie_word_embeddings=True,
    )
    config.foveate_template = _make_template(tokenizer, "USER:", "ASSISTANT:")
    return LlavaForConditionalGeneration(config)


def build_qwen(tokenizer: PreTrainedTokenizerFast) -> Any:
    """Build Qwen2.5-VL's architecture; two of five vision layers attend within windows of 8 x 8 patches only."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokens = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    ids: dict[str, Any] = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in tokens.items()
    }
    config = Qwen2_5_VLConfig(
        # Images are 11 to 14 tokens wide: the frequencies of the width, the lowest third, must separate such columns.
        text_config=_make_text_settings(tokenizer, {"type": "mrope", "mrope_section": [4, 6, 6], "rope_theta": 300.0}),
        vision_config={
            "depth": 5,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "out_hidden_size": WIDTH,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "fullatt_block_indexes": [1, 3, 4],
            "window_size": 8 * PATCH,
        },
        tie_word_embeddings=True,
        **ids,
    )
    # The tokenizer drops the newline that usually separates a role from the text, so the roles are listed here.
    config.foveate_template = _make_template(tokenizer, "user", "assistant")
    return Qwen2_5_VLForConditionalGeneration(config)


def _make_template(tokenizer: PreTrainedTokenizerFast, *roles: str) -> dict[str, Any]:
    return {"roles": [[tokenizer(role).input_ids] for role in roles], "filler": []}


def build_llava_processor(tokenizer: PreTrainedTokenizerFast) -> Any:
    """Build a processor that resizes images to a square without cropping: every patch shows a known part of it."""
    from transformers import LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    image_processor = CLIPImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA.template(),
    )


def make_qwen_image_processor() -> Any:
    """Make the image processor, which rounds an image's sides to whole tokens."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=MERGE,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": (4 * PATCH) ** 2, "longest_edge": (40 * PATCH) ** 2},
    )


@dataclass(frozen=True)
class Architecture:
    """One bundled model: its chat format and the function that builds it."""

    chat: ChatFormat
    build: Callable[[PreTrainedTokenizerFast], Any]


ARCHITECTURES = {"llava": Architecture(LLAVA, build_llava), "qwen": Architecture(QWEN, build_qwen)}


def build_model(name: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Build the model with random weights, set to greedy decoding."""
    model = ARCHITECTURES[name].build(tokenizer)
    settings = model.generation_config
    settings.do_sample = False
    settings.eos_token_id, settings.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return model


def save_processor(name: str, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save tokenizer and processor in `folder`, beside the weights."""
    if name == "llava":
        build_llava_processor(tokenizer).save_pretrained(folder)
        return
    # The video part of Qwen's processor needs torchvision, so the files are written without the processor itself.
    settings = make_qwen_image_processor().to_dict()
    settings |= {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    tokenizer.save_pretrained(folder)
