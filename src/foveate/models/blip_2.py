"""BLIP-2 and InstructBLIP: a Q-Former's queries attend across to the patches; the prompt holds what becomes of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from foveate.errors import InputError
from foveate.models.base import Extras, Family, Features, Grids, Inputs
from foveate.models.batch import PromptBatch
from foveate.models.kept import keep_values
from foveate.models.placeholders import match_placeholders
from foveate.models.visual_input import VisualInput, make_visual_input, tile_frames


class Blip2(Family):
    """BLIP-2; what the Q-Former attends to, chosen for diversity alone.

    The prompt keeps its length; the class token of an image always stays.

    The model's own `generate` takes no encoded images, but embedded words. So what becomes of the queries goes in
    among the words, their ids become padding's, and a blank image of one patch stands for the rest.
    """

    traits = replace(Family.traits, in_sequence=False, shared_space=False, needs_image=True)

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The stock tower alone: its output (images, frames, 1 + patches, d), images being of one frame."""
        from transformers.modeling_outputs import BaseModelOutput

        pixels = inputs.get(self.traits.main_inputs[modality])
        if pixels is None:
            raise InputError("What the Q-Former made of an image cannot be pruned: pass pixel_values instead.")
        frames = pixels.shape[1] if pixels.ndim == 5 else 1
        interpolate = bool(inputs.get("interpolate_pos_encoding"))
        states = model.vision_model(pixels.flatten(0, -4), interpolate_pos_encoding=interpolate).last_hidden_state
        return BaseModelOutput(last_hidden_state=states.unflatten(0, (-1, frames)))

    def features(self, encoded: Any, modality: str = "image") -> list[Tensor]:
        """The patches of all frames."""
        return list(encoded.last_hidden_state[:, :, 1:].flatten(1, 2))

    def items(self, model: Any, inputs: Inputs, outputs: Inputs, extras: Sequence[Extras]) -> list[VisualInput]:
        """An image stands where its queries do."""
        ((modality, encoded),) = outputs.items()
        features = self.features(encoded, modality)
        size = encoded.last_hidden_state.shape[1] * model.config.num_query_tokens
        spans = match_placeholders(self.placeholders(model.config, inputs, modality), [size] * len(features), modality)
        grids = self.grids(model.config, inputs, features, modality)
        items = []
        for n, (span, feature, grid) in enumerate(zip(spans, features, grids, strict=True)):
            item = make_visual_input(modality, span.row, span.columns[:0], int(span.columns[0]), feature)
            tiles = () if grid is None else tile_frames(grid)
            items.append(replace(item, index=n, grid=grid, tiles=tiles))
        return items

    def shorten(self, model: Any, batch: PromptBatch) -> dict[str, Any]:
        """Fewer patches before the Q-Former; where frames keep different numbers, they are padded."""
        ((_, encoded),) = batch.outputs.items()
        count, frames = encoded.last_hidden_state.shape[1], []
        for whole, item in zip(encoded.last_hidden_state, batch.items, strict=True):
            values = keep_values(item.embeds, item)
            frame = item.kept.to(values.device) // (item.total // count)
            frames += [torch.cat([whole[n, :1], values[frame == n]]) for n in range(count)]
        real = pad_sequence([torch.ones_like(one[:, 0]) for one in frames], batch_first=True).long()
        states = pad_sequence(frames, batch_first=True)
        return self.queried(model, {**batch.inputs, "attention_mask": batch.mask}, states, real, batch.pad_id)

    def queried(self, model: Any, inputs: Inputs, states: Tensor, real: Tensor, pad_id: int) -> dict[str, Any]:
        """The prompt with what queries make of states (frames, n, d), of which only `real` (frames, n) ones count."""
        config, modality = model.config, self.traits.modalities[0]
        queries = model.query_tokens.expand(len(states), -1, -1)
        out = model.qformer(
            query_embeds=queries, encoder_hidden_states=states, encoder_attention_mask=real,
            **self.instruction(model, inputs, queries),
        ).last_hidden_state[:, : queries.shape[1]]  # fmt: skip
        ids, places = inputs["input_ids"], self.placeholders(config, inputs, modality)
        words = model.get_input_embeddings()(ids)
        made = model.language_projection(out.to(states.dtype)).to(words)
        gone = {"mm_encoder_outputs", *self.encoder_inputs(model, inputs, modality)}
        return {
            **{name: value for name, value in inputs.items() if name not in gone},
            **self.blank(config, words),
            "input_ids": ids.masked_fill(places, pad_id),
            "inputs_embeds": words.masked_scatter(places[..., None].to(words.device), made),
        }

    def instruction(self, model: Any, inputs: Inputs, queries: Tensor) -> dict[str, Tensor]:
        """What the Q-Former reads beside its queries."""
        return {}

    def blank(self, config: Any, like: Tensor) -> dict[str, Any]:
        """An image that no placeholder asks for."""
        side = config.vision_config.patch_size
        return {"pixel_values": like.new_zeros(1, 3, side, side), "interpolate_pos_encoding": True}


class InstructBlip(Blip2):
    """InstructBLIP; what the Q-Former attends to, chosen for diversity alone."""

    def instruction(self, model: Any, inputs: Inputs, queries: Tensor) -> dict[str, Tensor]:
        """The same words for every frame."""
        ids = inputs["qformer_input_ids"]
        mask = inputs.get("qformer_attention_mask")
        mask = torch.ones_like(ids) if mask is None else mask
        whole = torch.cat([mask.new_ones(len(ids), queries.shape[1]), mask], dim=1)
        frames = len(queries) // len(ids)
        return {
            "input_ids": ids.repeat_interleave(frames, dim=0),
            "attention_mask": whole.repeat_interleave(frames, dim=0),
        }

    def blank(self, config: Any, like: Tensor) -> dict[str, Any]:
        """And a word for it."""
        return {**super().blank(config, like), "qformer_input_ids": torch.zeros(1, 1).long().to(like.device)}


class InstructBlipVideo(InstructBlip):
    """InstructBLIP on videos; what the Q-Former attends to, chosen for diversity alone."""

    traits = replace(InstructBlip.traits, modalities=("video",), main_inputs={"video": "pixel_values"})

    def token_id(self, config: Any, modality: str = "image") -> int:
        """Under the name that this configuration has for it."""
        return int(config.video_token_index)

    def blank(self, config: Any, like: Tensor) -> dict[str, Any]:
        """Of one frame."""
        made = super().blank(config, like)
        return {**made, "pixel_values": made["pixel_values"][:, None]}

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """Frames are squares."""
        vision = config.vision_config
        side = vision.image_size // vision.patch_size
        return [(len(f) // side**2, side, side) if len(f) % side**2 == 0 else None for f in features]
