"""The bundled model that sees large images in tiles: Aya Vision's architecture around the weights of `bundled`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from training.build import LLAVA, WIDTH, ChatFormat, build_tokenizer
from training.whole import add_tokens

TILE = 336  # pixels of a tile's sides
TILE_PATCH = 14  # pixels
GRID = TILE // TILE_PATCH  # patches along a tile's sides
MAX_TILES = 36  # beside the overview
LONGEST = 32768  # tokens of a prompt
THETA = 1e9  # of the rotations: over prompts 25 times as long they turn as little as those of `bundled` (1e6)
START, END, SPOT, OVERVIEW = "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "TILE_GLOBAL"


def build_tiled_tokenizer() -> PreTrainedTokenizerFast:
    """Build `bundled`'s tokenizer with Aya Vision's marks of images and tiles behind its own ids."""
    tokenizer = build_tokenizer(LLAVA)
    add_tokens(tokenizer, list_marks())
    tokenizer.model_max_length = LONGEST
    return tokenizer


def list_marks(*more: str) -> list[str]:
    """List Aya Vision's marks of images and tiles, and `more`."""
    return [START, END, SPOT, OVERVIEW, *(f"TILE_{number}" for number in range(1, MAX_TILES + 1)), *more]


def build_tiled_processor(tokenizer: Any, chat: ChatFormat = LLAVA, factor: int = 1, max_tiles: int = MAX_TILES) -> Any:
    """Build the processor, which cuts an image into up to `max_tiles` tiles; `factor` patches a token on each axis."""
    from transformers import AyaVisionProcessor
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    image_processor = GotOcr2ImageProcessorPil(
        size={"height": TILE, "width": TILE},
        crop_to_patches=True,
        min_patches=1,
        max_patches=max_tiles,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return AyaVisionProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=TILE_PATCH,
        img_size=TILE,
        downsample_factor=factor,
        chat_template=chat.template(),
    )


def build_tiled(tokenizer: PreTrainedTokenizerFast, bundled: Any) -> Any:
    """Build the model with the vision encoder and the language model of `bundled`.

    A patch of 14 pixels is seen as `bundled` sees one of 8. The connector has another form and learns what the other's
    gives: see `match_connector`.
    """
    from transformers import AyaVisionConfig, AyaVisionForConditionalGeneration, CLIPVisionConfig, LlamaConfig

    own = bundled.config
    larger = {"image_size": TILE, "patch_size": TILE_PATCH, "dtype": None}
    vision = CLIPVisionConfig.from_dict(own.vision_config.to_dict() | larger)
    longer = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": LONGEST,
        "rope_parameters": {"rope_type": "default", "rope_theta": THETA},
        "dtype": None,  # the whole model's
    }
    text = LlamaConfig.from_dict(own.text_config.to_dict() | longer)
    width: dict[str, Any] = {"alignment_intermediate_size": 2 * WIDTH}  # no field, and read by the model
    config = AyaVisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer(SPOT).input_ids[0],
        vision_feature_layer=own.vision_feature_layer,
        vision_feature_select_strategy="default",
        downsample_factor=1,
        tie_word_embeddings=True,
        **width,
    )
    config.foveate_template = own.foveate_template
    model = AyaVisionForConditionalGeneration(config)
    weights = {name: value for name, value in bundled.state_dict().items() if "multi_modal_projector" not in name}
    for name, value in model.state_dict().items():
        if name.endswith("patch_embedding.weight"):
            weights[name] = enlarge_kernel(weights[name].float(), TILE_PATCH)
        elif name in weights and weights[name].shape != value.shape:  # the embeddings: new marks start near zero
            weights[name] = torch.cat([weights[name].to(value), value[len(weights[name]) :]])
    model.load_state_dict(weights, strict=False)
    settings = model.generation_config
    settings.do_sample = False
    settings.eos_token_id, settings.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return model


def enlarge_kernel(kernel: Tensor, size: int) -> Tensor:
    """Turn (out, in, k, k) into (out, in, size, size), which gives on an image what `kernel` gives on a scaled one.

    The image is scaled by averages over areas.
    """
    old = kernel.shape[-1]
    edges = torch.arange(old + 1) * size / old
    pixels = torch.arange(size)
    overlap = torch.minimum(edges[1:, None], pixels + 1.0) - torch.maximum(edges[:-1, None], pixels + 0.0)
    shares = overlap.clamp(min=0) * old / size
    return torch.einsum("oiab,ax,by->oixy", kernel, shares, shares)


def match_connector(model: Any, bundled: Any, features: Tensor, steps: int, rate: float = 3e-3) -> float:
    """Fit the connector to what `bundled`'s gives for `features` (n, width); return the share of variance it misses."""
    with torch.no_grad():
        target = bundled.model.multi_modal_projector(features)
    connector = model.model.multi_modal_projector.requires_grad_(True)
    optimizer = torch.optim.AdamW(connector.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    side = GRID**2
    for _ in range(steps):
        part = torch.randint(len(features) - side, ()).item()
        rows = slice(int(part), int(part) + side)
        loss = (connector(features[None, rows]).flatten(0, -2) - target[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        rest = torch.cat([connector(part[None]).flatten(0, -2) for part in features.split(side) if len(part) == side])
    wanted = target[: len(rest)]
    return float((rest - wanted).square().mean() / (wanted - wanted.mean(0)).square().mean())


def save_tiled(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    """Save the model in half precision, with tokenizer and processor."""
    model.config.text_config._attn_implementation = model.config.vision_config._attn_implementation = "sdpa"
    model.half().save_pretrained(folder)
    build_tiled_processor(tokenizer).save_pretrained(folder)
    return folder
