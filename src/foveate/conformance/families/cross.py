"""Models that attend across to an image, with a separate decoder or a Q-Former."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_config import image_size
from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.visual_input import Grid, VisualInput


class TinyCrossAttention(TinyFamily):
    """Tiny models of `CrossAttention`."""

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """All states; the dropped ones and padding are hidden from every text token."""
        encoded = self.family.encode(model, inputs)
        gone = self.family.encoder_inputs(model, inputs)
        rest = {name: value for name, value in inputs.items() if name not in gone}
        real = torch.zeros_like(encoded.owner, dtype=torch.bool)
        for (row, columns), item in zip(encoded.places(), items, strict=True):
            real[row, columns[item.kept.to(columns.device)]] = True
        states = encoded.states * (encoded.owner >= 0)[..., None]
        return {**rest, **self.family.across(model, states, self.family.seen(inputs, encoded) & real[:, None], real)}


class TinyIdefics(TinyCrossAttention):
    """Tiny models of `Idefics`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """With blank images in rows that have fewer."""
        side = image_size(config)
        pixels = torch.randn(len(rows), max(rows), 3, side, side, generator=rng)
        for row, count in enumerate(rows):
            pixels[row, count:] = 0
        return {"pixel_values": pixels}

    def prompt_inputs(self, config: Any, inputs: Inputs) -> dict[str, Any]:
        """A text token sees the last image before it."""
        number = self.family.placeholders(config, inputs).cumsum(1) - 1
        last = number[..., None] == torch.arange(inputs["pixel_values"].shape[1], device=number.device)
        return {"image_attention_mask": last.long()}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """One marker, between two of another kind."""
        around = config.vocab_size
        return [around, around + 1, around]

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The images of a row are one entry."""
        return {"pixel_values": inputs["pixel_values"][row : row + 1]}


TILES = (2, 1, 4, 3)  # of the images, in turn


class TinyMllama(TinyCrossAttention):
    """Tiny models of `Mllama`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Rows padded to the same number of images, images to the same number of tiles."""
        vision = config.vision_config
        shape = (len(rows), max(rows), vision.max_num_tiles)
        pixels = torch.randn(*shape, 3, vision.image_size, vision.image_size, generator=rng)
        ids, tiles, number = torch.zeros(shape[:2], dtype=torch.long), torch.zeros(shape, dtype=torch.long), 0
        tiles[..., 0] = 1  # as in the processor's output, in padding too
        for row, count in enumerate(rows):
            pixels[row, count:] = 0
            for image in range(count):
                size = TILES[number % len(TILES)]
                ids[row, image] = vision.supported_aspect_ratios.index([1, size]) + 1
                tiles[row, image, :size], pixels[row, image, size:] = 1, 0
                number += 1
        return {"pixel_values": pixels, "aspect_ratio_ids": ids, "aspect_ratio_mask": tiles}

    def prompt_inputs(self, config: Any, inputs: Inputs) -> dict[str, Any]:
        """A text token sees the last image before it."""
        if "aspect_ratio_mask" not in inputs:
            return {}
        number = self.family.placeholders(config, inputs).cumsum(1) - 1
        last = number[..., None] == torch.arange(inputs["aspect_ratio_ids"].shape[1], device=number.device)
        real = inputs["aspect_ratio_mask"] * (inputs["aspect_ratio_ids"] != 0)[..., None]
        return {"cross_attention_mask": last[..., None] * real[:, None]}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """One marker."""
        return [self.family.token_id(config)]

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The images of a row are one entry."""
        names = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")
        return {name: inputs[name][row : row + 1] for name in names}

    def randomize_zeros(self, model: Any) -> None:
        """Gates start closed."""
        for name, parameter in model.named_parameters():
            if "gate" in name.rsplit(".", 1)[-1]:
                parameter.fill_(0.5)


def first_words(inputs: Inputs, start: int) -> torch.Tensor:
    """(b, 3) ids that a separate decoder begins with."""
    ids = torch.arange(10, 13, device=inputs["input_ids"].device).repeat(len(inputs["input_ids"]), 1)
    ids[:, 0] = start
    return ids


class TinyEncoderDecoder(TinyFamily):
    """Tiny models of `EncoderDecoder`."""

    def prompt_inputs(self, config: Any, inputs: Inputs) -> dict[str, Any]:
        """The first tokens of the decoder."""
        return {"decoder_input_ids": first_words(inputs, self.family.begin(config))}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """With the decoder's tokens of the row."""
        own = inputs["decoder_input_ids"][row : row + 1]
        return {**super().select_inputs(config, inputs, modality, row, items), "decoder_input_ids": own}


class TinyFlorence2(TinyEncoderDecoder):
    """Tiny models of `Florence2`."""

    pads_left = False

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """Without positions, which the model does not take."""
        made = super().mask_dropped(model, inputs, items)
        return {name: value for name, value in made.items() if name != "position_ids"}

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images of 2 x 2 tokens."""
        return {"pixel_values": torch.randn(sum(rows), 3, 64, 64, generator=rng)}


class TinyBlip2(TinyFamily):
    """Tiny models of `Blip2`."""

    def prompt_inputs(self, config: Any, inputs: Inputs) -> dict[str, Any]:
        """The first tokens of the decoder, where the language model has one (T5)."""
        if config.use_decoder_only_language_model:
            return {}
        return {"decoder_input_ids": first_words(inputs, config.text_config.decoder_start_token_id)}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """With the decoder's tokens of the row."""
        own = {n: inputs[n][row : row + 1] for n in ("decoder_input_ids",) if n in inputs}
        return {**super().select_inputs(config, inputs, modality, row, items), **own}

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """All patches; the dropped ones are hidden from the queries."""
        states = self.family.encode(model, inputs, self.family.traits.modalities[0]).last_hidden_state
        real = torch.zeros(states.shape[0], states.shape[1], states.shape[2] - 1, dtype=torch.long)
        for own, item in zip(real.flatten(1), items, strict=True):
            own[item.kept] = 1
        real = torch.cat([torch.ones_like(real[..., :1]), real], dim=-1).to(states.device)
        full: dict[str, Any] = self.family.queried(model, inputs, states.flatten(0, 1), real.flatten(0, 1), 0)
        return full

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """One placeholder for each query."""
        return [self.family.token_id(config, modality)] * config.num_query_tokens

    def choose_assistant(self, model: Any) -> Any:
        """The language model: `generate` of the whole model needs an image."""
        return model.language_model

    def randomize_zeros(self, model: Any) -> None:
        """Queries are all alike at first."""
        model.query_tokens.normal_()


class TinyInstructBlip(TinyBlip2):
    """Tiny models of `InstructBlip`."""

    item_inputs = ("qformer_input_ids", "qformer_attention_mask")

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """An instruction of another length for each image."""
        side = image_size(config)
        pixels = torch.randn(sum(rows), 3, side, side, generator=rng)
        ids = torch.randint(10, 300, (sum(rows), 5), generator=rng)
        mask = torch.tensor([[1, 1, 1, 1 - n % 2, 1 - n % 2] for n in range(sum(rows))])
        return {"pixel_values": pixels, "qformer_input_ids": ids, "qformer_attention_mask": mask}


class TinyInstructBlipVideo(TinyInstructBlip):
    """Tiny models of `InstructBlipVideo`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """One placeholder for each query of each frame."""
        frames = 1 if grid is None else grid[0]
        return super().prompt_ids(config, modality, tokens, grid) * frames

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Videos of three frames."""
        made = super().make_inputs(config, modality, [3 * count for count in rows], rng)
        count = sum(rows)
        return {
            "pixel_values": made["pixel_values"].unflatten(0, (count, 3)),
            **{name: made[name][:count] for name in ("qformer_input_ids", "qformer_attention_mask")},
        }
