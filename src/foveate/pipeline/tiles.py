"""Step 1 where `encode` is below 1: the overviews, then the tiles that the question needs; `windows` for patches."""

import math
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from foveate.errors import InputError, ModelError
from foveate.method.budget import to_fraction
from foveate.method.tiles import choose_salient_tiles, choose_tiles, find_region
from foveate.models import Family
from foveate.models.inputs import find_modalities
from foveate.models.patch_encoder import PatchEncoder
from foveate.models.tile_encoder import TiledImage, TileEncoder, TileFeatures
from foveate.models.tile_groups import TileGroups
from foveate.models.visual_input import Tile, VisualInput
from foveate.models.wrappers import gather_shards
from foveate.pipeline.encode import NAN, Encoded, EncodedPart, check_reads_parts, encode_missing
from foveate.pipeline.glance import glance
from foveate.pipeline.inputs import explain_refusal
from foveate.pipeline.locate import locate_items
from foveate.pipeline.select import read_tokens
from foveate.pipeline.settings import PruneSettings
from foveate.pipeline.windows import encode_windows

AUTO = 'encode="auto" leaves out tiles of images beside an overview, and there are none here: all was encoded.'
ONE_TILE = "An image of one tile was encoded whole: there is nothing of it to leave out."
WHOLE = "Videos and audios were encoded whole: encode leaves out parts of images."
UNBOUNDED = "Videos were encoded at once: max_encoder_memory bounds the tiles of images."


def check_encode(family: Family, settings: PruneSettings) -> None:
    """Raise a `FoveateError` where `encode` leaves parts out and the family, the method or the settings do not."""
    share, kind = settings.encode, family.model_type
    if settings.max_encoder_memory is not None and not isinstance(family, TileEncoder | PatchEncoder):
        raise ModelError(
            f"max_encoder_memory is for towers that take tiles or patches, and that of {kind} models takes whole "
            "images: leave it out."
        )
    if share == 1 or (share == "auto" and not _has_tiles(family)):
        return
    if not family.traits.placed:
        raise ModelError(
            f"encode={share} chooses tiles by the tokens of an overview, and nothing tells where those of {kind} "
            "models lie: leave encode out."
        )
    if not isinstance(family, TileEncoder | PatchEncoder):
        raise ModelError(
            f"encode={share} encodes a part of an image, and foveate encodes images of {kind} models whole: leave "
            "encode out."
        )
    check_reads_parts(settings, f"encode={share}")
    if "image" not in settings.modalities:
        raise InputError(f'encode={share} leaves out parts of images: add "image" to modalities, or leave encode out.')


def _has_tiles(family: Family) -> bool:
    return isinstance(family, TileEncoder) and family.traits.placed


def encode_part(
    model: Any, family: Family, inputs: Mapping[str, Any], settings: PruneSettings, encoded: Encoded | None
) -> EncodedPart:
    """Encode what `inputs` show, and of the images only what `settings.encode` and the question allow."""
    is_encoded = encoded is not None or bool(inputs.get("mm_encoder_outputs"))
    if settings.encode == "auto" and not _has_tiles(family):
        part = encode_part(model, family, inputs, replace(settings, encode=1.0), encoded)
        return replace(part, notes=(AUTO, *part.notes))
    if settings.encode == 1 and (settings.max_encoder_memory is None or is_encoded):
        return EncodedPart(encoded)
    shown = find_modalities(family, inputs)
    if is_encoded:
        raise InputError("The images came encoded, so no part can be left out: pass pixel_values, or leave encode out.")
    notes: tuple[str, ...] = (WHOLE,) if settings.encode != 1 and set(shown) - {"image"} else ()
    if settings.max_encoder_memory is not None and "video" in shown and isinstance(family, TileEncoder):
        notes = (*notes, UNBOUNDED)
    part = EncodedPart(None)
    if "image" in shown and isinstance(family, TileEncoder):
        part = encode_tiles(model, family, inputs, settings)
    elif isinstance(family, PatchEncoder):
        part = encode_windows(model, family, inputs, settings, shown)
    return replace(part, notes=(*notes, *part.notes))


def encode_tiles(model: Any, family: TileEncoder, inputs: Mapping[str, Any], settings: PruneSettings) -> EncodedPart:
    """Encode the overviews, then the tiles that `settings.encode` and the question allow.

    Of an image of n tiles, its overview counted, at most `encode` x n are encoded, the overview always among them;
    with "auto" as many as `choose_salient_tiles` says. Where memory is bounded, tiles go through the tower in groups.
    """
    ready: TileFeatures = {}
    with explain_refusal(model):
        images = family.split_images(model, inputs)
        memory = settings.max_encoder_memory
        groups = TileGroups(memory, () if memory is None else family.measure_tiles(model, inputs, images))
    encode_group = partial(_encode_tiles, model, family, inputs, images, ready, groups)
    if settings.encode == 1:
        return EncodedPart(Encoded({"image": encode_group(range(images[-1].entries.stop))}))
    first = encode_group([image.overview for image in images])
    encoded = encode_missing(model, family, inputs, settings, Encoded({"image": first}))
    started = time.perf_counter()
    chosen, looked = _choose_tiles(model, family, inputs, encoded, images, settings)
    seconds = time.perf_counter() - started
    if chosen:
        encoded = Encoded({**encoded.outputs, "image": encode_group(chosen)})
    notes = (ONE_TILE,) if any(not image.others for image in images) else ()
    return EncodedPart(encoded, {"image": _mark_encoded(images, ready)}, notes, seconds, looked)


def _encode_tiles(
    model: Any, family: TileEncoder, inputs: Mapping[str, Any], images: Sequence[TiledImage], ready: TileFeatures,
    groups: TileGroups, tiles: Sequence[int],
) -> Any:  # fmt: skip
    """The encoder's output for the tiles that are `ready` and for these, which are `ready` afterwards."""
    gather_shards(model)
    encoded: Any = None
    with explain_refusal(model):
        for group, (output, tokens) in groups.run(tiles, partial(family.encode_tiles, model, inputs)):
            if bool(torch.stack([levels[0].detach().isnan().any() for levels in tokens]).any()):
                raise InputError(NAN)
            ready.update(zip(group, tokens, strict=True))
            encoded = output if encoded is None else encoded
            del output, tokens  # not to be held while the next group is encoded
        return family.join_ready(model, inputs, encoded, images, ready)


def _choose_tiles(
    model: Any, family: TileEncoder, inputs: Mapping[str, Any], encoded: Encoded, images: Sequence[TiledImage],
    settings: PruneSettings,
) -> tuple[list[int], float]:  # fmt: skip
    """The numbers of the tiles to encode beside the overviews, and what a first look at these took."""
    method, chosen, looked = settings.method, list[int](), 0.0
    is_auto, share = settings.encode == "auto", to_fraction(settings.encode_share)
    counts = [math.floor(share * len(image.entries)) - 1 for image in images]
    marks = _mark_encoded(images, {image.overview for image in images})
    items, mask, questions, _ = locate_items(model, family, inputs, encoded, {"image": marks})
    if max(counts) < 1:
        return chosen, looked
    if "attention" in method.needs:
        before = time.perf_counter()
        items = glance(model, family, inputs, encoded, items, mask, questions, replace(settings, keep=1))  # not whole
        looked = time.perf_counter() - before
    for item in items:
        if item.modality == "image" and images[item.index].others and counts[item.index] > 0:
            image = images[item.index]
            tile = _find_overview(family, item, image)
            places = torch.tensor(tile.tokens(), device=item.embeds.device)
            rows = item.find_rows(places)
            tokens = read_tokens(item, questions, method).subset(rows, (1, tile.rows, tile.columns))
            regions = [find_region(box, tile.rows, tile.columns) for box in image.boxes]
            own = (
                choose_salient_tiles(method, tokens, regions)
                if is_auto
                else choose_tiles(method, tokens, regions, counts[item.index])
            )
            chosen += [image.others[n] for n in own]
    return chosen, looked


def _mark_encoded(images: Sequence[TiledImage], numbers: Container[int]) -> list[dict[str, Any]]:
    """For every image what its record says where the tiles of these numbers were encoded."""
    marks = [tuple(number in numbers for number in image.entries) for image in images]
    return [{"encoded": own, "encoded_share": sum(own) / len(own)} for own in marks]


def _find_overview(family: TileEncoder, item: VisualInput, image: TiledImage) -> Tile:
    """How the tokens of an image's overview lie over it."""
    if not item.tiles:
        raise InputError(f"Nothing tells how the tokens of this {family.model_type} image lie: leave encode out.")
    return item.tiles[image.overview - image.entries.start]
