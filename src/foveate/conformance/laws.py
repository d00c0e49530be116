"""The laws of pruning, as checks on a live model. The tests run them on tiny models, `foveate doctor` on a user's own.

Each law returns its largest error in logits, relative to their size (see `relative_error`). A law that cannot be run
at all raises.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from foveate.conformance.batches import (
    Row,
    describe_random_prompts,
    main_modality,
    make_batch,
    make_tiny_model,
)
from foveate.conformance.decoding import (
    compare_after_removal,
    compare_cached_decoding,
    compare_own_loop,
    run_decoding_modes,
)
from foveate.conformance.encoding import (
    compare_across,
    compare_glances,
    compare_masked,
    compare_ragged_batch,
    compare_skipped,
    compare_tile_groups,
    compare_tile_rows,
    compare_tiles,
    compare_units,
    compare_window_rows,
    compare_windows,
)
from foveate.conformance.reference import logits_at, relative_error, run_reference
from foveate.conformance.registry import to_tiny_family
from foveate.models import Family, family_of
from foveate.models.cross import CrossAttention
from foveate.models.lookup import family as registered
from foveate.models.patch_encoder import PatchEncoder
from foveate.models.tile_encoder import TileEncoder
from foveate.pipeline.prune import prune_inputs

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
HALF_TOLERANCE = 0.1


@dataclass(frozen=True)
class LawResult:
    """One law on one model.

    Attributes:
        name: The law, as in `LAWS`.
        status: "holds", "violated" (the error in logits is above the limit) or "error" (the law could not be run).
        figure: The error in logits and the limit, or the exception.
    """

    name: str
    status: Literal["holds", "violated", "error"]
    figure: str

    @property
    def passed(self) -> bool:
        """Whether the law holds."""
        return self.status == "holds"


def check(model: Any, family: Family | None = None) -> list[LawResult]:
    """Run every law on a model, as `run_laws` does, and return all results."""
    return list(run_laws(model, family))


def run_laws(model: Any, family: Family | None = None) -> Iterator[LawResult]:
    """Run every law on a model, on random images and text tokens. The model is left as it was.

    A law holds where its error is at most 1e-5 of the size of the logits in float32 (1e-9 in float64, 0.1 in half
    precision and with quantized weights). Their size is their root mean square, and at least 1: see `relative_error`.

    Args:
        model: A model of transformers.
        family: Its adapter; None to look it up by `config.model_type`.

    Yields:
        A result for each law that applies to the family, as soon as it is there.

    Raises:
        UnknownFamilyError: No adapter is registered for the model.
    """
    family = family or family_of(model)
    modes = [(module, module.training) for module in model.modules()]  # a tower may be frozen in a model that trains
    prompts = describe_random_prompts()
    own = {name: value for name, value in vars(model).items() if name in prompts}
    vars(model).update(prompts)
    model.eval()
    try:
        for name, law in select_laws(family).items():
            yield run_law(name, law, model, family)
    finally:
        for name in prompts:
            del vars(model)[name]
        vars(model).update(own)
        for module, training in modes:
            module.training = training


def check_family(model_type: str) -> list[LawResult]:
    """Run every law on a tiny random model of a registered family."""
    return check(make_tiny_model(registered(model_type)))


def run_law(name: str, law: Callable[[Any, Family], float], model: Any, family: Family) -> LawResult:
    """Run one law, which returns its largest error, under the limit for the model's data type."""
    exact = not getattr(model, "is_quantized", False)  # whose rounding depends on the other tokens of a call
    limit = TOLERANCE.get(model.dtype, HALF_TOLERANCE) if exact else HALF_TOLERANCE
    try:
        with torch.no_grad():
            error = law(model, family)
    except Exception as failure:  # the report names any failure, and the other laws still run
        return LawResult(name, "error", f"{type(failure).__name__}: {failure}")
    return LawResult(name, "holds" if error <= limit else "violated", f"max error {error:.1e} (limit {limit:.0e})")


def compare_keep_all(model: Any, family: Family) -> float:
    """keep=1.0 gives the untouched model's logits."""
    inputs = make_batch(model, family, [(2, 6)])
    del inputs["attention_mask"]
    return relative_error(model(**prune_inputs(model, inputs, keep=1.0)).logits, model(**inputs).logits)


def compare_modalities(model: Any, family: Family) -> float:
    """The same with videos and audios, alone and beside images."""
    others = [m for m in family.traits.modalities if m != "image"]
    rows: list[Row] = [((m,), 4) for m in others]
    if "image" in family.traits.modalities:
        rows += [(("image", *others), 5), (1, 3)]
    return compare_masked(model, family, rows)


def compare_several_images(model: Any, family: Family) -> float:
    """The same for one row that holds several images, each with its own selection."""
    return compare_masked(model, family, [(3, 6)])


def compare_image_last(model: Any, family: Family) -> float:
    """A prompt that ends in an image keeps its last token, which `generate` goes on from."""
    inputs, words = make_batch(model, family, [(1, 5)]), 4
    end = int(family.placeholders(model.config, inputs, main_modality(family))[0].nonzero()[-1]) + 1
    shape = inputs["input_ids"].shape
    sequence = {n: v for n, v in inputs.items() if isinstance(v, Tensor) and v.shape[:2] == shape}
    inputs |= {name: torch.cat([value[:, -words:], value[:, :end]], 1) for name, value in sequence.items()}
    short = prune_inputs(model, inputs, keep=0.4)
    reference = run_reference(model, family, inputs, short)
    item = short.report.items[-1]
    lost = float(int(item.kept[-1]) != item.total - 1)
    return lost + relative_error(logits_at(model(**short).logits, short["attention_mask"].bool()), reference)


def compare_text_only(model: Any, family: Family) -> float:
    """Rows without an image pass through."""
    inputs = make_batch(model, family, [(0, 6), (0, 3)])
    short = prune_inputs(model, inputs, keep=0.5)
    return relative_error(model(**short).logits, model(**inputs).logits)


LAWS: dict[str, Callable[[Any, Family], float]] = {
    "keep=1.0 is the untouched model": compare_keep_all,
    "pruned = full with dropped tokens masked": compare_masked,
    "several images in a row": compare_several_images,
    "videos and audios alike": compare_modalities,
    "an image at the end of the prompt": compare_image_last,
    "ragged batch = each row alone": compare_ragged_batch,
    "a first look in a batch = each row alone": compare_glances,
    "what words attend across to in a batch = each row alone": compare_across,
    "some tiles encoded = full with the others masked": compare_tiles,
    "some tiles encoded in a batch = each row alone": compare_tile_rows,
    "tiles encoded in groups = the untouched model": compare_tile_groups,
    "all merge units chosen = the untouched features": compare_units,
    "some windows encoded = full with these tokens": compare_windows,
    "some windows encoded in a batch = each row alone": compare_window_rows,
    "blank parts left out = full with the other tokens": compare_skipped,
    "text without an image passes through": compare_text_only,
    "cached decoding = recomputation": compare_cached_decoding,
    "own decoding loop = stock loop over pruned inputs": compare_own_loop,
    "beams, sampling, assisted decoding": run_decoding_modes,
    "remove() leaves no trace": compare_after_removal,
}


def select_laws(family: Family) -> dict[str, Callable[[Any, Family], float]]:
    """The laws that apply to this family, by name."""
    others = {compare_modalities} if family.traits.modalities == ("image",) else set()
    if family.traits.needs_image:
        others.add(compare_text_only)
    if not isinstance(family, TileEncoder) or not family.traits.placed:
        others |= {compare_tiles, compare_tile_rows}
    if not isinstance(family, TileEncoder):
        others.add(compare_tile_groups)
    if not isinstance(family, PatchEncoder):
        others |= {compare_units, compare_windows, compare_window_rows, compare_skipped}
    if not family.traits.in_sequence:
        others.add(compare_glances)
    if not isinstance(family, CrossAttention):
        others.add(compare_across)
    if not family.traits.in_sequence or not to_tiny_family(family).may_end_in_image:
        others.add(compare_image_last)
    return {name: law for name, law in LAWS.items() if law not in others}
