"""The bundled architecture, untrained: a LLaVA model, its tokenizer and its processor, built in code without a hub."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from foveate.world import questions, scenes

PATCH = 8
GRID = scenes.SIDE // PATCH  # visual tokens per side
IMAGE, PAD, BOS, EOS = "<image>", "<pad>", "<s>", "</s>"

# LLaVA-1.5's conversation: "USER: <image>\n... ASSISTANT: ...</s>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '</s>' if message['role'] == 'assistant' else ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE in which every word of the world is one token and any other text is spelled out."""
    raw = Tokenizer(models.BPE())
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,  # a ceiling: the word list runs out far earlier
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    raw.train_from_iterator([f"{w} {w}" for w in questions.words()] * 4, trainer)
    raw.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (PAD, BOS, EOS, IMAGE)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=BOS, eos_token=EOS, pad_token=PAD, padding_side="left", model_max_length=2048,
        extra_special_tokens={"image_token": IMAGE},
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Pictures are squashed to a square, never cropped, so that every patch shows a known part of the picture."""
    pictures = CLIPImageProcessorPil(
        size={"height": scenes.SIDE, "width": scenes.SIDE},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        image_processor=pictures, tokenizer=tokenizer, patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """Random weights; 256 visual tokens a picture, about 3.3 million parameters."""
    vision = CLIPVisionConfig(
        hidden_size=128, intermediate_size=384, num_hidden_layers=5, num_attention_heads=4, image_size=scenes.SIDE,
        patch_size=PATCH, projection_dim=128,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=6,
        num_key_value_heads=6, max_position_embeddings=2048, tie_word_embeddings=True,
        # Most of each head must be able to match words with patches hundreds of places away.
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=tokenizer.encode(IMAGE)[0],
        vision_feature_layer=-1, vision_feature_select_strategy="default", image_seq_length=GRID * GRID,
        tie_word_embeddings=True,
    )  # fmt: skip
    config.foveate_template = {
        "roles": [[tokenizer(f"{blank}{role}:").input_ids for blank in ("", " ")] for role in ("USER", "ASSISTANT")],
        "filler": tokenizer("\n").input_ids + tokenizer(" ").input_ids,
    }
    model = LlavaForConditionalGeneration(config)
    model.generation_config.do_sample = False
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
