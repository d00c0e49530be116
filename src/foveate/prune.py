"""`prune_inputs`: a model's inputs, rewritten so that only the visual tokens that the question needs are left."""

from __future__ import annotations

import time
from collections import UserDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from foveate.encoded import Encoded, check_needs, run
from foveate.errors import InputError
from foveate.family.base import Family, Grid, family_of
from foveate.method import Method, resolve
from foveate.question import find_question
from foveate.rewrite import IGNORED_LABEL, rewrite
from foveate.tokens import VisualTokens, budget, check_keep

Positions = Literal["original", "compact"]


@dataclass(frozen=True, eq=False)
class Report:
    """What was kept.

    `kept` holds one ascending index tensor an image, (k,), into its visual tokens; `total` how many tokens it had;
    `grids` their (t, h, w); `seconds` is the time to choose and to rewrite, without the vision encoder; `notes` tells
    what the caller should know, in sentences.
    """

    kept: tuple[Tensor, ...]
    total: tuple[int, ...]
    grids: tuple[Grid | None, ...]
    method: str
    seconds: float
    notes: tuple[str, ...] = ()


class PrunedInputs(UserDict[str, Any]):
    """Shorter inputs for `model(**inputs)` and `model.generate(**inputs)`, with a `report`."""

    def __init__(self, data: Mapping[str, Any], report: Report) -> None:
        super().__init__(data)
        self.report = report

    def __getitem__(self, name: str) -> Any:
        """A call changes the encoder outputs it is given (beams expand them), so every unpacking gets its own."""
        value = super().__getitem__(name)
        if name != "mm_encoder_outputs" or value is None:
            return value
        return {modality: None if output is None else type(output)(**output) for modality, output in value.items()}


def prune_inputs(
    model: Any,
    inputs: Mapping[str, Any],
    *,
    keep: int | float,
    method: str | Method = "foveate",
    positions: Positions = "original",
    encoded: Encoded | None = None,
) -> PrunedInputs:
    """Rewrite a processor's output so that only the visual tokens that the question needs are left.

    `inputs` hold `input_ids` (b, L) and what the model's encoder reads, optionally `attention_mask` and `labels`; they
    are not changed. `keep` is visual tokens per image (an int) or a share of them (a float in (0, 1]). `method` is a
    name (`foveate.methods()`) or a configured object. `positions` keeps the tokens' own position ids ("original") or
    numbers them anew ("compact"). `encoded` are the same pictures as `foveate.encode` returned them: the encoder does
    not run again, and pixel_values may be left out. Rows without a picture pass through.

    Raises a `FoveateError` that names the fix if the model, the settings or the inputs cannot be used.
    """
    chosen, family = check_settings(keep, method, positions), family_of(model)
    check_needs(model, family, chosen)
    check_inputs(inputs)
    ids = inputs["input_ids"]
    places = ids == family.image_token_id(model.config)
    ready = bool((inputs.get("mm_encoder_outputs") or {}).get("image"))
    if inputs.get("pixel_values") is None and not ready and encoded is None:
        if bool(places.any()):
            raise InputError("The prompt has image placeholders but no picture came with it: pass pixel_values too.")
        return PrunedInputs(inputs, Report((), (), (), chosen.name, 0.0, ("No picture: nothing was pruned.",)))

    cache = inputs.get("past_key_values")
    if cache is not None and cache.get_seq_length() > 0:
        raise InputError(
            "past_key_values already hold a part of this prompt, unpruned or pruned for another question: "
            "pass the whole conversation without a cache."
        )
    if encoded is None:
        encoded = run(model, family, inputs, chosen.needs)
    else:
        _check_encoded(encoded, chosen, ready=ready)
    started = time.perf_counter()
    features = family.features(encoded.output)
    spans = match_pictures(places, [len(f) for f in features])
    grids = family.grids(model.config, inputs, features)
    given = inputs.get("attention_mask")
    mask = torch.ones_like(ids) if given is None else given.to(ids.device)
    if bool((places & (mask == 0)).any()):
        raise InputError("attention_mask hides image placeholders: leave them visible, keep decides which ones stay.")
    questions, notes = _questions(model, family, inputs, mask, spans, prompt_aware=chosen.prompt_aware)
    kept, mixes = [], []
    for feature, extras, grid, span in zip(features, encoded.extras, grids, spans, strict=True):
        looked_at = {name: extras[name].to(feature.device) for name in chosen.needs}
        question = questions[span.row].to(feature.device, feature.dtype)
        tokens = VisualTokens(feature.detach(), question, grid, **looked_at)
        kept.append(chosen.select(tokens, budget(keep, len(feature))))
        mixes.append(chosen.mix(tokens, kept[-1]))

    full = inputs.get("position_ids")
    if full is None:
        full = family.positions(model, inputs, mask)
    gone = {"pixel_values", "mm_encoder_outputs", *family.encoder_inputs(model, inputs)}
    rest = {name: value for name, value in inputs.items() if name not in gone}
    stays = _staying(mask, spans, kept)
    short = rewrite(rest, stays, full, pad_id=_pad_id(model), compact=positions == "compact")
    short["mm_encoder_outputs"] = {"image": family.keep(encoded.output, kept, [s.row for s in spans], mixes)}
    seconds = time.perf_counter() - started
    sizes = tuple(map(len, features))
    return PrunedInputs(short, Report(tuple(kept), sizes, tuple(grids), chosen.name, seconds, tuple(notes)))


def check_settings(keep: int | float, method: str | Method, positions: str) -> Method:
    """The method, if these are settings that `prune_inputs` can follow. Raises a `FoveateError` otherwise."""
    check_keep(keep)
    if positions not in ("original", "compact"):
        raise InputError(f'positions={positions!r} is unknown: use "original" or "compact".')
    return resolve(method)


@dataclass(frozen=True, eq=False)
class Span:
    """Where one picture's placeholders stand: the row, and their places in it."""

    row: int
    places: Tensor


def check_inputs(inputs: Mapping[str, Any]) -> None:
    """Raise `InputError` for inputs in which the pictures or the question cannot be found."""
    if not isinstance(inputs, Mapping):
        raise InputError(f"inputs is a {type(inputs).__name__}: pass the mapping that the model's processor returns.")
    if inputs.get("inputs_embeds") is not None:
        raise InputError("inputs_embeds hide which tokens are the picture and the question: pass input_ids instead.")
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        raise InputError('input_ids must be a (batch, length) tensor: call the processor with return_tensors="pt".')
    mask = inputs.get("attention_mask")
    if mask is not None and tuple(mask.shape) != tuple(ids.shape):
        raise InputError(
            f"attention_mask has shape {tuple(mask.shape)}, input_ids {tuple(ids.shape)}: pass the processor's."
        )
    if inputs.get("pixel_values_videos") is not None:
        raise InputError("Videos are not supported yet: pass their frames as pictures, or remove the handle first.")


def _check_encoded(encoded: Encoded, method: Method, *, ready: bool) -> None:
    if ready:
        raise InputError("Give either mm_encoder_outputs or encoded, not both.")
    missing = {name for extras in encoded.extras for name in method.needs - extras.keys()}
    if missing:
        raise InputError(
            f"encoded holds no {' and '.join(sorted(missing))}, which {method.name} reads: "
            f'name it when you encode, foveate.encode(model, inputs, methods=["{method.name}"]).'
        )


def match_pictures(places: Tensor, sizes: Sequence[int]) -> list[Span]:
    """Hand each picture its placeholders, in reading order."""
    rows, columns = places.nonzero(as_tuple=True)
    if len(rows) != sum(sizes):
        raise InputError(
            f"The prompt has {len(rows)} image placeholders but the {len(sizes)} pictures make {sum(sizes)} visual "
            "tokens: let the model's own processor build both from the same pictures."
        )
    spans, start = [], 0
    for number, size in enumerate(sizes):
        row = rows[start : start + size]
        if bool((row != row[0]).any()):
            raise InputError(f"The placeholders of picture {number} lie in two rows: give the pictures in row order.")
        spans.append(Span(int(row[0]), columns[start : start + size]))
        start += size
    return spans


def _staying(mask: Tensor, spans: Sequence[Span], kept: Sequence[Tensor]) -> Tensor:
    """(b, L): true for the words and the kept visual tokens, false for padding and the dropped ones."""
    stays = mask.bool().clone()
    for span, indices in zip(spans, kept, strict=True):
        chosen = torch.zeros_like(span.places, dtype=torch.bool)
        chosen[indices.to(chosen.device)] = True
        stays[span.row, span.places] &= chosen
    return stays


def _questions(
    model: Any, family: Family, inputs: Mapping[str, Any], mask: Tensor, spans: Sequence[Span], *, prompt_aware: bool
) -> tuple[dict[int, Tensor], list[str]]:
    """The embeddings (m, d) of every row's question, and notes on rows that have none."""
    ids, labels = inputs["input_ids"], inputs.get("labels")
    template = family.template(model.config, stop_ids(model))
    table = model.get_input_embeddings()
    first = {span.row: int(span.places[0]) for span in reversed(spans)}
    ignored = mask == 0 if labels is None else (mask == 0) | (labels != IGNORED_LABEL)
    found, notes = {}, []
    for row in sorted(first):
        where = find_question(ids[row].tolist(), first[row], template, ignored[row].tolist())
        with torch.no_grad():
            found[row] = table(ids[row, torch.tensor(where, dtype=torch.long, device=ids.device)])
        if not where and prompt_aware:
            notes.append(f"Row {row} has no question: its tokens were chosen for diversity alone.")
    return found, notes


def stop_ids(model: Any) -> list[int]:
    """The ids that end generation."""
    config, settings = model.config.get_text_config(), getattr(model, "generation_config", None)
    named = [getattr(settings, "eos_token_id", None), getattr(config, "eos_token_id", None)]
    return sorted({i for ids in named if ids is not None for i in (ids if isinstance(ids, list) else [ids])})


def _pad_id(model: Any) -> int:
    """Any ordinary id will do where the mask is 0, but never a placeholder's."""
    config, settings = model.config.get_text_config(), getattr(model, "generation_config", None)
    named = [getattr(settings, "pad_token_id", None), getattr(config, "pad_token_id", None)]
    return next((i for i in named if isinstance(i, int)), 0)
