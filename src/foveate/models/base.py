"""The conventions that most vision-language models of transformers share; a family file holds only what differs."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from foveate.models.batch import PromptBatch
from foveate.models.encoders import find_raw, lacks_grids, make_arguments
from foveate.models.kept import complete_rows, keep_tokens, kept_output
from foveate.models.placeholders import match_placeholders
from foveate.models.sequence import complete_positions, count_positions, cut_sequence
from foveate.models.template import Template, default_template
from foveate.models.visual_input import Grid, Tiles, VisualInput, make_visual_input, tile_frames

MAIN_INPUTS = {"image": "pixel_values", "video": "pixel_values_videos", "audio": "input_features"}
TYPE_IDS = {"image": 1, "video": 2, "audio": 3}

Inputs = Mapping[str, Any]
Extras = Mapping[str, Tensor]
Features = Sequence[Tensor]
Grids = list[Grid | None]
Masks = list[Tensor | None]


@dataclass(frozen=True)
class Traits:
    """The facts about a model family that need no model.

    Args:
        modalities: What can be pruned, of "image", "video" and "audio".
        versions: The versions of transformers on which the laws hold.
        note: What every report on this family tells the caller, in a sentence.
        main_inputs: The main input of each modality's encoder.
        aliases: Other names of inputs, under which the processor or the stock model has them too.
        type_ids: What `mm_token_type_ids` calls each modality's placeholders.
        in_decoder: Whether methods that prune between the decoder's layers have been checked on it.
        in_sequence: Whether fewer visual tokens make the language model's own sequence shorter.
        sequential_positions: Whether only the order of the tokens matters; then kept tokens are always numbered anew.
        shared_space: Whether visual tokens and words lie in one space; else tokens are selected for diversity alone.
        raster: Whether the tokens of an image lie in a raster; else `grids` knows of none.
        placed: Whether a token belongs to a place of the image; queries that are learned do not.
        overview: Where the whole image stands among its tiles, for families that see both.
        needs_image: Whether the stock model cannot be called without an image.
        reuse: What of a KV cache serves another prompt: what stands before the first "token" that differs, or before
            the first "image", whose tokens see each other both ways; the "whole" cache alone; or "nothing".
    """

    modalities: tuple[str, ...] = ("image",)
    versions: str = ">=5.18"
    note: str = ""
    main_inputs: Mapping[str, str] = field(default_factory=MAIN_INPUTS.copy)
    aliases: Mapping[str, str] = field(default_factory=dict)
    type_ids: Mapping[str, int] = field(default_factory=TYPE_IDS.copy)
    in_decoder: bool = False
    in_sequence: bool = True
    sequential_positions: bool = False
    shared_space: bool = True
    raster: bool = True
    placed: bool = True
    overview: Literal["", "first", "last"] = ""
    needs_image: bool = False
    reuse: Literal["token", "image", "whole", "nothing"] = "token"


class Family:
    """Text and image in one sequence, by the shared conventions.

    An adapter says how one family of models turns images into tokens and numbers their positions. The first line of its
    docstring is its row in `foveate families`. The defaults hold for a model that joins text and image in one sequence:
    `base_model.get_image_features(...)` makes the features, `config.image_token_id` marks their places, and positions
    count the tokens that are not padding, or are what `base_model.get_rope_index` says.
    """

    traits: ClassVar[Traits] = Traits()

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
        return encoder(**make_arguments(encoder, self.encoder_inputs(model, inputs, modality)), return_dict=True)

    def extras(self, config: Any) -> frozenset[str]:
        """The extras of `VisualTokens` that a model of this configuration can give (`encode_with`: the encoder's)."""
        return frozenset()

    def encode_with(self, model: Any, inputs: Inputs, needs: frozenset[str]) -> tuple[Any, list[Extras]]:
        """`encode` for images, and the extras named in `needs` (some of `extras(config)`), without gradients."""
        encoded = self.encode(model, inputs)
        return encoded, [{} for _ in self.features(encoded)]

    def features(self, encoded: Any, modality: str = "image") -> list[Tensor]:
        """The tokens of every image, video or audio, (n, d) each, in the language model's space."""
        return list(encoded.pooler_output)

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """A new encoder output that holds only the kept tokens of `items`, those of one row of the batch joined.

        DeepStack features (layers x images) lose the same tokens.
        """
        levels = getattr(encoded, "deepstack_features", None)
        deep = {} if levels is None else {"deepstack_features": [keep_tokens(level, items) for level in levels]}
        return kept_output(encoded, keep_tokens(encoded.pooler_output, items), **deep)

    # -- the sequence -----------------------------------------------------------------------------------------------

    def token_id(self, config: Any, modality: str = "image") -> int:
        """The id of the placeholder that one token of this modality replaces."""
        return int(getattr(config, f"{modality}_token_id"))

    def placeholders(self, config: Any, inputs: Inputs, modality: str = "image") -> Tensor:
        """(b, L): where the placeholders of a modality stand; nowhere without an id for them."""
        ids: Tensor = inputs["input_ids"]
        is_known = getattr(config, f"{modality}_token_id", -1) is not None
        return ids == self.token_id(config, modality) if is_known else torch.zeros_like(ids, dtype=torch.bool)

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """(t, h, w) of every image's tokens in raster order; None where there is no such raster.

        From `image_grid_thw` or `video_grid_thw`, after merging, where the inputs hold them; else squares.
        """
        if not self.traits.raster:
            return [None] * len(features)
        thw = inputs.get(f"{modality}_grid_thw")
        if thw is not None:
            merge = getattr(config.vision_config, "spatial_merge_size", 1)
            return [(t, h // merge, w // merge) for t, h, w in thw.tolist()]
        sides, square = [math.isqrt(len(f)) for f in features], modality == "image"
        return [(1, s, s) if square and s * s == len(f) else None for s, f in zip(sides, features, strict=True)]

    def protected(self, model: Any, inputs: Inputs, features: Features, modality: str = "image") -> Masks:
        """(n,) for every image: which of its tokens always stay (ends of rows); None for none."""
        return [None] * len(features)

    def find_tiles(self, config: Any, inputs: Inputs, item: VisualInput) -> Tiles:
        """How an item's tokens lie over its image, tiles or frames; empty where they cannot be drawn.

        Every token that is not protected lies in one of them. Cheap: every report has them.
        """
        return () if item.grid is None else tile_frames(item.grid, item.protected)

    def items(self, model: Any, inputs: Inputs, outputs: Inputs, extras: Sequence[Extras]) -> list[VisualInput]:
        """Every image, video and audio that was encoded; `extras` are those of the images.

        Raises `InputError` where placeholders and tokens do not match.
        """
        items = []
        for modality, output in outputs.items():
            features = self.features(output, modality)
            wholes, absent = complete_rows(features, output)
            spans = match_placeholders(self.placeholders(model.config, inputs, modality), [*map(len, wholes)], modality)
            grids = self.grids(model.config, inputs, wholes, modality)
            protected = self.protected(model, inputs, features, modality)
            for n, (span, feature) in enumerate(zip(spans, features, strict=True)):
                place, marks = (span.row, span.columns, int(span.columns[0])), (protected[n], absent[n])
                own = extras[n] if modality == "image" and extras else {}
                item = replace(make_visual_input(modality, *place, feature, *marks), index=n, grid=grids[n], extras=own)
                tiles = mark_overview(item, self.find_tiles(model.config, inputs, item), self.traits.overview)
                items.append(replace(item, tiles=tiles))
        return items

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """Position ids of the unpruned sequence as `generate` would number them: (b, L).

        With M-RoPE (4, b, L): a text row, which only masks are built from, above temporal, height and width rows.
        """
        index = getattr(model.base_model, "get_rope_index", None)
        if index is None:
            return count_positions(mask)
        arguments = {**inputs, "attention_mask": mask}
        if arguments.get("mm_token_type_ids") is None:
            arguments["mm_token_type_ids"] = self.token_types(model.config, inputs)
        names = inspect.signature(index).parameters
        if lacks_grids(self, model.config, inputs, names):
            return count_positions(mask).expand(4, -1, -1)
        axes, _ = index(**{name: arguments[name] for name in names if arguments.get(name) is not None})
        return torch.cat([count_positions(mask)[None], axes.to(mask.device)])

    def token_types(self, config: Any, inputs: Inputs) -> Tensor:
        """(b, L): 0 for text, else the kind of placeholder, as processors give `mm_token_type_ids`."""
        types = torch.zeros_like(inputs["input_ids"])
        for modality in self.traits.modalities:
            types[self.placeholders(config, inputs, modality)] = self.traits.type_ids[modality]
        return types

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """Which ids frame the user's words."""
        return default_template(config, stop_ids)

    def shorten(self, model: Any, batch: PromptBatch) -> dict[str, Any]:
        """The shorter inputs: ids, mask, positions and features of the tokens that stay."""
        own = batch.inputs.get("position_ids")
        full = self.positions(model, batch.inputs, batch.mask) if own is None else complete_positions(own, batch.mask)
        encoded = {"mm_encoder_outputs"}.union(*(self.encoder_inputs(model, batch.inputs, m) for m in batch.outputs))
        rest = {name: value for name, value in batch.inputs.items() if name not in encoded}
        raw = find_raw(model, rest)  # of what is not pruned: it may have the prompt's shape by chance
        compact = batch.compact or self.traits.sequential_positions
        rest = {name: value for name, value in rest.items() if name not in raw}
        short = cut_sequence(rest, batch.layout, full, pad_id=batch.pad_id, compact=compact) | raw
        short["mm_encoder_outputs"] = {}
        for modality, output in batch.outputs.items():
            own = [item for item in batch.items if item.modality == modality]
            if modality == "audio":  # no model takes encoded audios: they go in among the embedded words
                short = _embed_audio(self, model, short, torch.cat(keep_tokens([item.embeds for item in own], own)))
            else:
                short["mm_encoder_outputs"][modality] = self.keep(output, own)
        return short

    # -- the decoder ------------------------------------------------------------------------------------------------

    def decoder(self, model: Any) -> Any:
        """The language model whose `layers` an in-decoder method puts its hooks on."""
        return model.base_model.language_model

    def whole_layers(self, config: Any) -> int:
        """After how many of the first layers the language model itself still adds DeepStack features to the image."""
        return len(getattr(config.vision_config, "deepstack_visual_indexes", ()))


def mark_overview(item: VisualInput, tiles: Tiles, overview: str) -> Tiles:
    """The tiles of an image, of which the "first" or the "last" shows the whole image; "" for none."""
    if not overview or item.modality != "image":
        return tiles
    at = 0 if overview == "first" else len(tiles) - 1
    return tuple(replace(tile, overview=n == at) for n, tile in enumerate(tiles))


def _embed_audio(family: Family, model: Any, short: dict[str, Any], audio: Tensor) -> dict[str, Any]:
    """The shorter inputs with `inputs_embeds` in place of `input_ids`: words, and the kept tokens of all audios."""
    ids = short.pop("input_ids")
    words = model.get_input_embeddings()(ids)
    places = family.placeholders(model.config, {**short, "input_ids": ids}, "audio") & (short["attention_mask"] != 0)
    embeds = words.masked_scatter(places[..., None].to(words.device), audio.to(words))
    return {"inputs_embeds": embeds, **short}  # first: generate reads the size of the batch off the first tensor
