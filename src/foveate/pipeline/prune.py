"""`prune_inputs`: a model's inputs, rewritten so that only the visual tokens that the question needs are left."""

from __future__ import annotations

import time
from collections import UserDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method import Method, resolve
from foveate.method.budget import check_keep
from foveate.method.tokens import VisualTokens
from foveate.models import Family, family_of
from foveate.models.cache import cache_of
from foveate.models.item import NOUNS, Grid, Item, Views
from foveate.models.sequence import IGNORED_LABEL
from foveate.pipeline.encode import Encoded, check_needs, run
from foveate.pipeline.question import find_question
from foveate.pipeline.select import Per, Subject, check_per, choose

Positions = Literal["original", "compact"]


@dataclass(frozen=True, eq=False)
class Report:
    """What was kept.

    `kept` holds one ascending index tensor (k,) a picture (then clips, then sounds), into its tokens; `total` how many
    tokens it had; `grids` their (t, h, w); `modalities` what it is: "image", "video" or "audio"; `rows` the row of the
    batch it stands in. `seconds` is the time to choose and to rewrite, without the encoder; `notes` tells what the
    caller should know, in sentences.

    For `foveate.draw`: `views` say how the tokens of each lie over its picture, tiles or frames, `overview` whether the
    whole picture stands "first" or "last" among its tiles, if there are any, and `tiles_apart` whether each tile counts
    as a picture here. With `explain=True`, `relevance` holds the method's own map (n,) of each in float32, NaN for
    tokens that it did not choose from and None where it has no map, and `core` (k,) marks those of `kept` that are
    there for their relevance; the others are there for their diversity. Where all was kept nothing was chosen.
    """

    kept: tuple[Tensor, ...]
    total: tuple[int, ...]
    grids: tuple[Grid | None, ...]
    method: str
    seconds: float
    notes: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    relevance: tuple[Tensor | None, ...] = ()
    core: tuple[Tensor, ...] = ()
    views: tuple[Views, ...] = ()
    overview: Literal["", "first", "last"] = ""
    tiles_apart: bool = False


class PrunedInputs(UserDict[str, Any]):
    """Shorter inputs for `model(**inputs)` and `model.generate(**inputs)`, with a `report`."""

    def __init__(self, data: Mapping[str, Any], report: Report) -> None:
        super().__init__(data)
        self.report = report

    def __getitem__(self, name: str) -> Any:
        """A call changes the encoder outputs it is given (beams expand them), so every unpacking gets its own."""
        value = super().__getitem__(name)
        if name == "encoder_outputs" and value is not None:
            return type(value)(**value)
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
    per: Per = "image",
    modalities: Sequence[str] = ("image", "video"),
    encoded: Encoded | None = None,
    explain: bool = False,
) -> PrunedInputs:
    """Rewrite a processor's output so that only the visual tokens that the question needs are left.

    `inputs` hold `input_ids` (b, L) and what the model's encoders read, optionally `attention_mask` and `labels`; they
    are not changed. `keep` is a number of visual tokens (an int) or a share of them (a float in (0, 1]): of each
    picture or clip (`per="image"`), of each frame of a clip ("frame"), or of all that a row of the batch shows
    ("prompt", shared out by size and relevance). `method` is a name (`foveate.methods()`) or a configured object.
    `positions` keeps the tokens' own position ids ("original") or numbers them anew ("compact"). `modalities` are what
    is pruned, of "image", "video" and "audio"; the others stay whole. `encoded` are the same pictures and clips as
    `foveate.encode` returned them: the encoder does not run again, and pixel_values may be left out. `explain` adds to
    the report why tokens were kept, for another pass or two over them. Rows without a picture pass through. Of a clip,
    tokens that repeat an earlier frame are never chosen , unless everything is kept. A loss can be
    taken on the result; where none is, call this under `torch.no_grad()`, or all that the encoder keeps for gradients
    lives as long as the result.

    Where sounds are pruned the result holds `inputs_embeds` instead of `input_ids`: `generate` then returns new tokens
    alone, and must not be given an assistant, for which transformers cuts the prompt out of the mask.

    Raises a `FoveateError` that names the fix if the model, the settings or the inputs cannot be used.
    """
    chosen, family = check_settings(keep, method, positions, per, modalities), family_of(model)
    check_needs(model, family, chosen)
    check_inputs(inputs)
    present = [m for m in family.present(inputs) if m != "audio" or m in modalities]
    if encoded is not None:
        _check_encoded(encoded, chosen, ready=bool(inputs.get("mm_encoder_outputs")))
        present = list(encoded.outputs) + [m for m in present if m not in encoded.outputs]
    _check_placeholders(model, family, inputs, present)
    if not present:
        return PrunedInputs(inputs, Report((), (), (), chosen.name, 0.0, ("No picture: nothing was pruned.",)))
    _check_cache(cache_of(inputs))
    missing = [m for m in present if encoded is None or m not in encoded.outputs]
    if missing or encoded is None:
        needs = chosen.needs if encoded is None or "image" in missing else frozenset[str]()
        fresh, known = run(model, family, inputs, missing, needs), encoded or Encoded({})
        encoded = Encoded({**known.outputs, **fresh.outputs}, fresh.extras or known.extras)

    started = time.perf_counter()
    items = family.items(model, inputs, encoded.outputs, encoded.extras)
    if per == "frame" and any(item.modality == "video" and item.grid is None for item in items):
        raise InputError(f'The frames of {family.model_type!r} clips cannot be told apart: use per="image".')
    mask = _mask(inputs, items)
    questions, notes = _questions(model, family, inputs, mask, items, prompt_aware=chosen.prompt_aware)
    subjects = []
    for item in items:
        extras = {name: item.extras[name].to(item.embeds.device) for name in chosen.needs}
        embeds, question = item.embeds.detach(), questions[item.row]
        asked = question.to(embeds.device, embeds.dtype) if family.compares else embeds[:0]
        tokens = VisualTokens(embeds, asked, item.grid, **extras)
        subjects.append(Subject(item.row, tokens, item.fixed, whole=item.modality not in modalities))
    if not family.compares and chosen.prompt_aware and any(map(len, questions.values())):
        notes.append("This model's tokens have no space in common with words: they were chosen for diversity alone.")
    if family.note:
        notes.append(family.note)
    choices = choose(subjects, chosen, keep, per, explain=explain)
    kept = [choice.kept for choice in choices]
    short = family.shorten(
        model, inputs, encoded.outputs, items, kept, [choice.mix for choice in choices],
        mask=mask, pad_id=_pad_id(model), compact=positions == "compact",
    )  # fmt: skip
    seconds = time.perf_counter() - started
    report = Report(
        tuple(kept), tuple(len(item.embeds) for item in items), tuple(item.grid for item in items), chosen.name,
        seconds, tuple(notes), tuple(item.modality for item in items), tuple(item.row for item in items),
        relevance=tuple(choice.relevance for choice in choices) if explain else (),
        core=tuple(choice.core for choice in choices if choice.core is not None),
        views=tuple(family.views(model.config, inputs, item) for item in items),
        overview=family.overview, tiles_apart=family.tiles_apart,
    )  # fmt: skip
    return PrunedInputs(short, report)


def check_settings(
    keep: int | float, method: str | Method, positions: str, per: str = "image", modalities: Sequence[str] = ("image",)
) -> Method:
    """The method, if these are settings that `prune_inputs` can follow. Raises a `FoveateError` otherwise."""
    check_keep(keep)
    if positions not in ("original", "compact"):
        raise InputError(f'positions={positions!r} is unknown: use "original" or "compact".')
    check_per(per)
    check_modalities(modalities)
    return resolve(method)


def check_modalities(modalities: Sequence[str]) -> None:
    """Raise `InputError` unless these are modalities, in something that can be looked through more than once."""
    named = isinstance(modalities, Collection) and not isinstance(modalities, str)
    if not named or any(m not in tuple(NOUNS) for m in modalities):
        raise InputError(f"modalities={modalities!r}: give some of {', '.join(map(repr, NOUNS))}, in a tuple.")


def check_inputs(inputs: Mapping[str, Any]) -> None:
    """Raise `InputError` for inputs in which the pictures or the question cannot be found."""
    if not isinstance(inputs, Mapping):
        raise InputError(f"inputs is a {type(inputs).__name__}: pass the mapping that the model's processor returns.")
    if inputs.get("inputs_embeds") is not None:
        raise InputError("inputs_embeds hide which tokens are the picture and the question: pass input_ids instead.")
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        raise InputError('input_ids must be a (batch, length) tensor: call the processor with return_tensors="pt".')
    mask, labels = inputs.get("attention_mask"), inputs.get("labels")
    for name, given in (("attention_mask", mask), ("labels", labels)):
        if given is not None and not isinstance(given, Tensor):
            raise InputError(f"{name} is a {type(given).__name__}: pass a tensor, one number for every token.")
    if mask is not None and tuple(mask.shape) != tuple(ids.shape):
        raise InputError(
            f"attention_mask has shape {tuple(mask.shape)}, input_ids {tuple(ids.shape)}: pass the processor's."
        )


def _check_encoded(encoded: Encoded, method: Method, *, ready: bool) -> None:
    if not isinstance(encoded, Encoded):
        raise InputError(f"encoded is a {type(encoded).__name__}: pass what foveate.encode returned.")
    if ready:
        raise InputError("Give either mm_encoder_outputs or encoded, not both.")
    missing = {name for extras in encoded.extras for name in method.needs - extras.keys()}
    if missing:
        raise InputError(
            f"encoded holds no {' and '.join(sorted(missing))}, which {method.name} reads: "
            f'name it when you encode, foveate.encode(model, inputs, methods=["{method.name}"]).'
        )


def _check_placeholders(model: Any, family: Family, inputs: Mapping[str, Any], present: Sequence[str]) -> None:
    """Raise `InputError` for placeholders of pictures or clips that did not come."""
    for modality in family.modalities:
        if modality in present or modality == "audio":
            continue
        if bool(family.placeholders(model.config, inputs, modality).any()):
            raise InputError(
                f"The prompt has {modality} placeholders but no {NOUNS[modality]} came with it: "
                f"pass {family.raw[modality]} too."
            )


def _check_cache(cache: Any) -> None:
    if cache is not None and cache.get_seq_length() > 0:
        raise InputError(
            "The cache (past_key_values) already holds a part of this prompt, unpruned or pruned for another question: "
            "pass the whole conversation without a cache."
        )


def _mask(inputs: Mapping[str, Any], items: Sequence[Item]) -> Tensor:
    ids, given = inputs["input_ids"], inputs.get("attention_mask")
    mask: Tensor = torch.ones_like(ids) if given is None else given.to(ids.device)
    if any(bool((mask[item.row, item.places] == 0).any()) for item in items):
        raise InputError("attention_mask hides image placeholders: leave them visible, keep decides which ones stay.")
    return mask


def _questions(
    model: Any, family: Family, inputs: Mapping[str, Any], mask: Tensor, items: Sequence[Item], *, prompt_aware: bool
) -> tuple[dict[int, Tensor], list[str]]:
    """The embeddings (m, d) of every row's question, and notes on rows that have none."""
    ids, labels = inputs["input_ids"], inputs.get("labels")
    template = family.template(model.config, stop_ids(model))
    table = model.get_input_embeddings()
    first: dict[int, int] = {}
    for item in items:
        first[item.row] = min(item.first, first.get(item.row, item.first))
    ignored = mask == 0
    # Those of a decoder of its own say nothing about the prompt, whatever their length.
    if labels is not None and not answers_apart(model) and labels.shape == mask.shape:
        ignored |= labels.to(mask.device) != IGNORED_LABEL
    for item in items:
        if len(item.places):  # what stands between a picture's own tokens is its structure: ends of rows, timestamps
            ignored[item.row, item.places[0] : item.places[-1]] = True
    found, notes = {}, []
    for row in sorted(first):
        where = find_question(ids[row].tolist(), first[row], template, ignored[row].tolist())
        with torch.no_grad():
            found[row] = table(ids[row, torch.tensor(where, dtype=torch.long, device=ids.device)])
        if not where and prompt_aware:
            notes.append(f"Row {row} has no question: its tokens were chosen for diversity alone.")
    return found, notes


def answers_apart(model: Any) -> bool:
    """Whether a decoder that does not read the prompt writes the answer."""
    configs = (model.config, model.config.get_text_config())
    return any(getattr(config, "is_encoder_decoder", False) for config in configs)


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
