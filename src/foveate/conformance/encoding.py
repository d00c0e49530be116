"""The laws on what is encoded, and that a batch gives what its rows give alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from foveate.conformance.batches import Row, make_batch, take_row
from foveate.conformance.reference import logits_at, relative_error, run_reference
from foveate.models import Family
from foveate.models.inputs import drop_raw
from foveate.models.live_memory import LiveMemory
from foveate.models.patch_encoder import read_levels, write_levels
from foveate.pipeline.parts import encode_parts
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.settings import check_settings

SHARE = 0.7  # of an image, for laws that leave a part of it out
WIDE = [(5, 5), (1, 9), (0, 4)]  # the fifth image is large enough for windows
VACUOUS = float("inf")


def compare_masked(
    model: Any, family: Family, rows: Sequence[Row] = ((2, 5), (1, 9), (0, 4), (3, 3)), encode: float = 1.0
) -> float:
    """Pruned = the full model with the dropped tokens masked, positions kept (`run_reference`)."""
    inputs = make_batch(model, family, rows)
    short = prune_inputs(model, inputs, keep=0.4, modalities=tuple(family.traits.modalities), encode=encode)
    reference = run_reference(model, family, inputs, short)
    return relative_error(logits_at(model(**short).logits, short["attention_mask"].bool()), reference)


def compare_ragged_batch(model: Any, family: Family) -> float:
    """A row of a padded batch, whose rows keep different numbers of tokens, gives what it gives alone."""
    return _compare_rows(model, family, "foveate")


def compare_glances(model: Any, family: Family) -> float:
    """The same where a first look through the model's own layers chooses the tokens."""
    return _compare_rows(model, family, "glance")


def compare_across(model: Any, family: Family) -> float:
    """The same where words attend across to the image, and what they attend to chooses the tokens."""
    return _compare_rows(model, family, "trimmed_llama")


def compare_tiles(model: Any, family: Family) -> float:
    """With some tiles encoded: the full model with all tokens of the others masked, beside those that are dropped."""
    return compare_masked(model, family, [(3, 5), (1, 9), (0, 4)], encode=SHARE)


def compare_tile_rows(model: Any, family: Family) -> float:
    """A row of a batch, of whose images some tiles are encoded, gives what it gives alone."""
    return _compare_rows(model, family, "foveate", encode=SHARE)


def compare_tile_groups(model: Any, family: Any) -> float:
    """All tiles through the tower in groups of two, or of one where it is larger, are the untouched model."""
    inputs = make_batch(model, family, [(3, 5), (1, 9)])
    sizes = family.measure_tiles(model, inputs, family.split_images(model, inputs))
    with LiveMemory() as live:
        family.encode_tiles(model, inputs, [sizes.index(max(sizes))])
    short = prune_inputs(model, inputs, keep=1.0, max_encoder_memory=2 * live.peak)
    whole, real = model(**inputs).logits, inputs["attention_mask"].bool()
    return relative_error(logits_at(model(**short).logits, short["attention_mask"].bool()), logits_at(whole, real))


def compare_units(model: Any, family: Any) -> float:
    """All merge units through the tower, at the places that are computed for them, are the untouched features."""
    inputs, worst = make_batch(model, family, [(5, 5), (1, 4)]), 0.0
    whole = read_levels(family.encode(model, inputs))
    chosen = [torch.ones(len(tokens), dtype=torch.bool) for tokens in whole[0]]
    for level, part in zip(whole, read_levels(family.encode_units(model, inputs, "image", chosen)), strict=True):
        worst = max(worst, float((torch.cat(list(level)) - torch.cat(list(part))).abs().max()))
    return worst


def compare_windows(model: Any, family: Any) -> float:
    """With some windows encoded: the full model with these tokens in their places, and the dropped ones masked."""
    return _compare_part(model, family, make_batch(model, family, WIDE), encode=SHARE)


def compare_skipped(model: Any, family: Any) -> float:
    """The same where merge units that repeat a neighbour are left out of the encoder: here half of each image."""
    inputs = make_batch(model, family, WIDE)
    name, first = family.traits.main_inputs["image"], 0
    pixels = inputs[name].clone()
    for count in family.read_grids(inputs, "image").prod(-1).tolist():
        pixels[first : first + count // 2] = 0.5
        first += count
    return _compare_part(model, family, {**inputs, name: pixels}, skip=0)


def _compare_part(model: Any, family: Any, inputs: Mapping[str, Any], **settings: Any) -> float:
    """The reference has the features of what was encoded in their places; a setting that leaves nothing out fails."""
    short = prune_inputs(model, inputs, keep=0.4, **settings)
    encoded = encode_parts(model, family, inputs, check_settings(0.4, "foveate", **settings), None).encoded
    if encoded is None or all(item.absent is None for item in short.report.items):
        return VACUOUS
    image = encoded.outputs["image"]
    write_levels(image, [[tokens.nan_to_num() for tokens in level] for level in read_levels(image)])
    ready = {**drop_raw(family, inputs), "mm_encoder_outputs": {"image": image}}
    reference = run_reference(model, family, ready, short)
    return relative_error(logits_at(model(**short).logits, short["attention_mask"].bool()), reference)


def compare_window_rows(model: Any, family: Family) -> float:
    """A row of a batch, of whose images some windows are encoded, gives what it gives alone."""
    return _compare_rows(model, family, "foveate", [(5, 5), (1, 11), (1, 2)], encode=SHARE)


def _compare_rows(
    model: Any, family: Family, method: str, rows: Sequence[Row] = ((2, 5), (1, 11), (1, 2)), **settings: Any
) -> float:
    inputs = make_batch(model, family, rows)
    short = prune_inputs(model, inputs, keep=0.3, method=method, **settings)
    together, worst, first = model(**short).logits, 0.0, 0
    for row, (show, _) in enumerate(rows):
        count = show if isinstance(show, int) else len(show)
        own = take_row(model, family, inputs, row, range(first, first + count))
        alone = prune_inputs(model, own, keep=0.3, method=method, **settings)
        first += count
        here = slice(row, row + 1)
        own_logits = logits_at(together[here], short["attention_mask"][here].bool()).flatten(0, -2)
        worst = max(worst, relative_error(own_logits, model(**alone).logits[0]))
    return worst
