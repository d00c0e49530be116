"""The conventions that most vision-language models of transformers share; a family file holds only what differs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from foveate.models.batch import PromptBatch, mark_staying
from foveate.models.kept import keep_tokens, kept_output
from foveate.models.placeholders import match_placeholders
from foveate.models.sequence import count_positions, cut_sequence
from foveate.models.template import Template, default_template
from foveate.models.visual_input import Grid, Tiles, VisualInput, make_visual_input, tile_frames

Inputs = Mapping[str, Any]
Extras = Mapping[str, Tensor]


class Family:
    """How one family of models turns pictures into tokens and numbers their positions.

    The defaults hold for a model that joins text and image in one sequence: `base_model.get_image_features(...)` makes
    the features, `config.image_token_id` marks their places, and positions count the tokens that are not padding, or
    are what `base_model.get_rope_index` says.
    """

    summary: ClassVar[str] = "text and image in one sequence, by the shared conventions"
    """One line: the models this covers and what is special about them."""

    modalities: ClassVar[tuple[str, ...]] = ("image",)
    """What can be pruned, of "image", "video" and "audio"."""

    raw: ClassVar[Mapping[str, str]] = {
        "image": "pixel_values",
        "video": "pixel_values_videos",
        "audio": "input_features",
    }
    """The main input of each modality's encoder."""

    kinds: ClassVar[Mapping[str, int]] = {"image": 1, "video": 2, "audio": 3}
    """What `mm_token_type_ids` calls each modality's placeholders."""

    in_decoder: ClassVar[bool] = False
    """Whether methods that prune between the decoder's layers have been checked on it."""

    counted: ClassVar[bool] = False
    """Whether only the order of the tokens matters, so that kept tokens are always numbered anew."""

    note: ClassVar[str] = ""
    """What every report on this family tells the caller, in a sentence."""

    in_sequence: ClassVar[bool] = True
    """Whether fewer visual tokens make the language model's own sequence shorter."""

    raster: ClassVar[bool] = True
    """Whether the tokens of a picture lie in a raster; else `grids` knows of none."""

    overview: ClassVar[Literal["", "first", "last"]] = ""
    """Where the whole picture stands among its tiles, for families that see both."""

    tiles_apart: ClassVar[bool] = False
    """Whether every tile (or frame) is an item of its own, so that several items may be one picture (or clip)."""

    compares: ClassVar[bool] = True
    """Whether tokens and words lie in one space; else the choice is for diversity alone."""

    needs_picture: ClassVar[bool] = False
    """Whether the stock model cannot be called without a picture."""

    versions: ClassVar[str] = ">=5.18"
    """The versions of transformers on which the laws hold; elsewhere the stock model, or its seam, is not right."""

    def __init__(self, model_type: str) -> None:
        self.model_type = model_type

    # -- encoding ---------------------------------------------------------------------------------------------------

    def encoder_inputs(self, model: Any, inputs: Inputs, modality: str = "image") -> dict[str, Any]:
        """The inputs that only this modality's encoder reads; the shortened inputs go without them."""
        names = inspect.signature(getattr(model.base_model, f"get_{modality}_features")).parameters
        return {name: inputs[name] for name in names if inputs.get(name) is not None}

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """Run the stock tower and projector (or take the features that the caller already has)."""
        ready = (inputs.get("mm_encoder_outputs") or {}).get(modality)
        if ready is not None:
            return ready
        encoder = getattr(model.base_model, f"get_{modality}_features")
        return encoder(**self.encoder_inputs(model, inputs, modality), return_dict=True)

    def extras(self, config: Any) -> frozenset[str]:
        """The extras of `VisualTokens` that a model of this configuration can give (`encode_with` gives them)."""
        return frozenset()

    def encode_with(self, model: Any, inputs: Inputs, needs: frozenset[str]) -> tuple[Any, list[Extras]]:
        """`encode` for pictures, and the extras named in `needs` (some of `extras(config)`), without gradients."""
        encoded = self.encode(model, inputs)
        return encoded, [{} for _ in self.features(encoded)]

    def features(self, encoded: Any, modality: str = "image") -> list[Tensor]:
        """The tokens of every picture, clip or sound, (n, d) each, in the language model's space."""
        return list(encoded.pooler_output)

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """A new encoder output that holds only the kept tokens of `items`, those of one row of the batch joined.

        DeepStack features (layers x images) lose the same tokens.
        """
        fields: dict[str, Any] = {"pooler_output": keep_tokens(encoded.pooler_output, items)}
        if getattr(encoded, "deepstack_features", None) is not None:
            fields["deepstack_features"] = [keep_tokens(level, items) for level in encoded.deepstack_features]
        return kept_output(encoded, **fields)

    # -- the sequence -----------------------------------------------------------------------------------------------

    def token_id(self, config: Any, modality: str = "image") -> int:
        """The id of the placeholder that one token of this modality replaces."""
        return int(getattr(config, f"{modality}_token_id"))

    def placeholders(self, config: Any, inputs: Inputs, modality: str = "image") -> Tensor:
        """(b, L): where the placeholders of a modality stand."""
        places: Tensor = inputs["input_ids"] == self.token_id(config, modality)
        return places

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """(t, h, w) of every picture's tokens in raster order; None where there is no such raster.

        From `image_grid_thw` or `video_grid_thw`, after merging, where these are given; else squares.
        """
        if not self.raster:
            return [None] * len(features)
        thw = inputs.get(f"{modality}_grid_thw")
        if thw is not None:
            merge = getattr(config.vision_config, "spatial_merge_size", 1)
            return [(t, h // merge, w // merge) for t, h, w in thw.tolist()]
        sides = [math.isqrt(len(f)) for f in features]
        square = modality == "image"
        return [(1, s, s) if square and s * s == len(f) else None for s, f in zip(sides, features, strict=True)]

    def protected(
        self, model: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Tensor | None]:
        """(n,) for every picture: which of its tokens always stay (ends of rows); None for none."""
        return [None] * len(features)

    def find_tiles(self, config: Any, inputs: Inputs, item: VisualInput) -> Tiles:
        """How an item's tokens lie over its image, tiles or frames; empty where they cannot be drawn.

        Every token that is not protected lies in one of them. Cheap: every report has them.
        """
        return () if item.grid is None else tile_frames(item.grid, item.protected)

    def items(
        self, model: Any, inputs: Inputs, outputs: Mapping[str, Any], extras: Sequence[Extras]
    ) -> list[VisualInput]:
        """Every image, video and audio that was encoded; `extras` are those of the images.

        Raises `InputError` where placeholders and tokens do not match.
        """
        items = []
        for modality, output in outputs.items():
            features = self.features(output, modality)
            places = self.placeholders(model.config, inputs, modality)
            spans = match_placeholders(places, [len(f) for f in features], modality)
            grids = self.grids(model.config, inputs, features, modality)
            protected = self.protected(model, inputs, features, modality)
            for n, (span, feature) in enumerate(zip(spans, features, strict=True)):
                item = make_visual_input(modality, span.row, span.columns, int(span.columns[0]), feature)
                own = extras[n] if modality == "image" and extras else {}
                item = replace(item, index=n, grid=grids[n], protected=protected[n], extras=own)
                items.append(
                    replace(item, tiles=self._mark_overview(item, self.find_tiles(model.config, inputs, item)))
                )
        return items

    def _mark_overview(self, item: VisualInput, tiles: Tiles) -> Tiles:
        if not self.overview or item.modality != "image":
            return tiles
        at = 0 if self.overview == "first" else len(tiles) - 1
        return tuple(replace(tile, overview=n == at) for n, tile in enumerate(tiles))

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """Position ids of the unpruned sequence as `generate` would number them: (b, L).

        With M-RoPE (4, b, L): a text row, which only masks are built from, above temporal, height and width rows.
        """
        index = getattr(model.base_model, "get_rope_index", None)
        if index is None:
            return count_positions(mask)
        given = {**inputs, "attention_mask": mask}
        if given.get("mm_token_type_ids") is None:
            given["mm_token_type_ids"] = self.token_types(model.config, inputs)
        names = inspect.signature(index).parameters
        axes, _ = index(**{name: given[name] for name in names if given.get(name) is not None})
        return torch.cat([count_positions(mask)[None], axes.to(mask.device)])

    def token_types(self, config: Any, inputs: Inputs) -> Tensor:
        """(b, L): 0 for text, else the kind of placeholder, as processors give `mm_token_type_ids`."""
        types = torch.zeros_like(inputs["input_ids"])
        for modality in self.modalities:
            types[self.placeholders(config, inputs, modality)] = self.kinds[modality]
        return types

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """Which ids frame the user's words."""
        return default_template(config, stop_ids)

    def shorten(self, model: Any, batch: PromptBatch) -> dict[str, Any]:
        """The shorter inputs: ids, mask, positions and features of the tokens that stay."""
        full = batch.inputs.get("position_ids")
        if full is None:
            full = self.positions(model, batch.inputs, batch.mask)
        encoded = {"mm_encoder_outputs"}.union(*(self.encoder_inputs(model, batch.inputs, m) for m in batch.outputs))
        rest = {name: value for name, value in batch.inputs.items() if name not in encoded}
        stays, compact = mark_staying(batch.mask, batch.items), batch.compact or self.counted
        short = cut_sequence(rest, stays, full, pad_id=batch.pad_id, compact=compact)
        short["mm_encoder_outputs"] = {}
        for modality, output in batch.outputs.items():
            own = [item for item in batch.items if item.modality == modality]
            if modality == "audio":  # no model takes encoded audios: they go in among the embedded words
                short = self.embed(model, short, torch.cat(keep_tokens([item.embeds for item in own], own)))
            else:
                short["mm_encoder_outputs"][modality] = self.keep(output, own)
        return short

    def embed(self, model: Any, short: dict[str, Any], sounds: Tensor) -> dict[str, Any]:
        """The shorter inputs with `inputs_embeds` in place of `input_ids`: words, and the kept tokens of all sounds."""
        ids = short.pop("input_ids")
        words = model.get_input_embeddings()(ids)
        places = self.placeholders(model.config, {**short, "input_ids": ids}, "audio") & (short["attention_mask"] != 0)
        embeds = words.masked_scatter(places[..., None], sounds.to(words))
        return {"inputs_embeds": embeds, **short}  # first: generate reads the size of the batch off the first tensor

    # -- the decoder ------------------------------------------------------------------------------------------------

    def decoder(self, model: Any) -> Any:
        """The language model whose `layers` an in-decoder method puts its hooks on."""
        return model.base_model.language_model

    def whole_layers(self, config: Any) -> int:
        """After how many of the first layers the language model itself still adds to the picture's places."""
        return 0
