"""The laws of a family, as checks on a live model. The tests run them on tiny models, `foveate doctor` on a user's own.

Each law returns its largest error in logits, relative to their size (see `relative_error`). A law that cannot be run
at all raises.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from foveate.conformance.registry import tiny_family
from foveate.hooks.attach import attach, pruning
from foveate.models import Family, family_of
from foveate.models.batch import mark_staying
from foveate.models.capture import arguments_of
from foveate.models.inputs import find_modalities
from foveate.models.lookup import family as registered
from foveate.models.visual_input import VisualInput
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.report import PrunedInputs

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
HALF_TOLERANCE = 0.1
STEPS = 4  # tokens that the decoding laws generate


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
    """Run every law on a model, on random images and questions. The model is left as it was.

    A law holds where its error is at most 1e-5 of the size of the logits in float32 (1e-9 in float64, 0.1 in half
    precision); `relative_error` says what their size is.
    """
    family = family or family_of(model)
    modes = [(module, module.training) for module in model.modules()]  # a tower may be frozen in a model that trains
    model.eval()
    limit = TOLERANCE.get(model.dtype, HALF_TOLERANCE)
    results = []
    for name, law in laws_of(family).items():
        try:
            with torch.no_grad():
                error = law(model, family)
            status: Literal["holds", "violated"] = "holds" if error <= limit else "violated"
            results.append(LawResult(name, status, f"max error {error:.1e} (limit {limit:.0e})"))
        except Exception as error:  # the report names any failure, and the other laws still run
            results.append(LawResult(name, "error", f"{type(error).__name__}: {error}"))
    for module, training in modes:
        module.training = training
    return results


def check_family(model_type: str) -> list[LawResult]:
    """Run every law on a tiny random model of a registered family."""
    return check(tiny_model(registered(model_type)))


def tiny_model(family: Family, seed: int = 0, **changes: Any) -> Any:
    """A tiny random model of the family in evaluation mode; `changes` to its configuration as keyword arguments."""
    from transformers import AutoModelForImageTextToText

    tiny = tiny_family(family)
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(tiny.make_config(**changes)).eval()
    with torch.no_grad():
        tiny.randomize_zeros(model)
    return model


Row = tuple[int | Sequence[str], int]  # what a row shows (a number of pictures, or modalities in order), and words


def example(model: Any, family: Family, rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """A padded batch of random pictures and words: each row is (pictures, words of the question).

    Instead of a number of pictures a row may name what it shows, in order: ("image", "video").
    """
    tiny = tiny_family(family)
    config, generator = model.config, torch.Generator().manual_seed(seed)
    shown = [(_main(family),) * show if isinstance(show, int) else tuple(show) for show, _ in rows]
    inputs: dict[str, Any] = {}
    spans: dict[str, Any] = {}
    for modality in family.traits.modalities:
        counts = [show.count(modality) for show in shown]
        if not sum(counts):
            continue
        new = tiny.make_inputs(config, modality, counts, generator)
        inputs |= {name: _like(model, value) for name, value in new.items()}
        with torch.no_grad():
            features = family.features(tiny.encode_inputs(model, inputs, modality), modality)
        grids = family.grids(config, inputs, features, modality)
        sizes = [len(tokens) for tokens in features]
        spans[modality] = iter([tiny.prompt_ids(config, modality, *one) for one in zip(sizes, grids, strict=True)])
    border = min(family.template(config, []).controls_from or config.get_text_config().vocab_size, 30000)
    made = []
    for show, (_, words) in zip(shown, rows, strict=True):
        text = torch.randint(10, border, (len(show) + words + 1,), generator=generator).tolist()
        ids = [text.pop()]
        for modality in show:
            ids += [*next(spans[modality]), text.pop()]
        made.append(ids + text)
    width = max(map(len, made))
    masks = [[1] * len(ids) for ids in made]
    for name, lists in (("input_ids", made), ("attention_mask", masks)):
        pads = [[0] * (width - len(ids)) for ids in lists]
        padded = [pad + ids if tiny.pads_left else ids + pad for pad, ids in zip(pads, lists, strict=True)]
        inputs[name] = torch.tensor(padded, device=model.device)
    for name in ("mm_token_type_ids", "token_type_ids"):
        if name in inspect.signature(model.forward).parameters:
            inputs[name] = family.token_types(config, inputs)
    return {**inputs, **tiny.prompt_inputs(config, inputs)}


def keep_all(model: Any, family: Family) -> float:
    """keep=1.0 gives the untouched model's logits."""
    inputs = example(model, family, [(2, 6)])
    del inputs["attention_mask"]
    return relative_error(model(**prune_inputs(model, inputs, keep=1.0)).logits, model(**inputs).logits)


def masked(model: Any, family: Family, rows: Sequence[Row] = ((2, 5), (1, 9), (0, 4), (3, 3))) -> float:
    """Pruned = the full model with the dropped tokens masked out, positions kept.

    Where layers carry a state along the sequence, masking does not stop a token: there the stock language model is
    given the embeddings of the tokens that stay, taken from the full model's own run.
    """
    inputs = example(model, family, rows)
    short = prune_inputs(model, inputs, keep=0.4, modalities=tuple(family.traits.modalities))
    found = kept_items(model, family, inputs, short)
    stays = mark_staying(inputs["attention_mask"], found)
    if tiny_family(family).is_recurrent(model.config):
        full = spliced(model, family, inputs, short, stays)
    else:
        full = _at(model(**tiny_family(family).mask_dropped(model, inputs, found)).logits, stays)
    return relative_error(_at(model(**short).logits, short["attention_mask"].bool()), full)


def modalities(model: Any, family: Family) -> float:
    """The same with clips and sounds, alone and beside pictures."""
    others = [m for m in family.traits.modalities if m != "image"]
    rows: list[Row] = [((m,), 4) for m in others]
    if "image" in family.traits.modalities:
        rows += [(("image", *others), 5), (1, 3)]
    return masked(model, family, rows)


def several_images(model: Any, family: Family) -> float:
    """The same for one row that holds several pictures, each with its own choice."""
    return masked(model, family, [(3, 6)])


def ragged_batch(model: Any, family: Family) -> float:
    """A row of a padded batch, whose rows keep different numbers of tokens, gives what it gives alone."""
    rows = [(2, 5), (1, 11), (1, 2)]
    inputs = example(model, family, rows)
    short = prune_inputs(model, inputs, keep=0.3)
    together, worst, pictures = model(**short).logits, 0.0, 0
    for row, (count, _) in enumerate(rows):
        own = one_row(model, family, inputs, row, range(pictures, pictures + count))
        alone = prune_inputs(model, own, keep=0.3)
        pictures += count
        here = slice(row, row + 1)
        own_logits = _at(together[here], short["attention_mask"][here].bool())
        worst = max(worst, relative_error(own_logits, model(**alone).logits[0]))
    return worst


def text_only(model: Any, family: Family) -> float:
    """Rows without a picture pass through."""
    inputs = example(model, family, [(0, 6), (0, 3)])
    short = prune_inputs(model, inputs, keep=0.5)
    return relative_error(model(**short).logits, model(**inputs).logits)


def cached_decoding(model: Any, family: Family) -> float:
    """Decoding with the cache gives what recomputing every step gives, in one unpadded row and in a padded batch."""
    worst = 0.0
    for rows in ([(1, 5)], [(2, 5), (1, 3)]):
        inputs = example(model, family, rows)
        if len(rows) == 1:
            del inputs["attention_mask"]
        with pruning(model, keep=0.3):
            settings = {"min_new_tokens": STEPS, "do_sample": False, **_SCORES, **_words(model, family)}
            cached, anew = (model.generate(**inputs, **settings, use_cache=use) for use in (True, False))
        for one, other, *tokens in zip(cached.logits, anew.logits, *_new_tokens(inputs, cached, anew), strict=True):
            worst = max(worst, relative_error(one, other))
            if not torch.equal(*tokens):
                break  # a near tie in half precision: from here on the two say different things
    return worst


def decoding_modes(model: Any, family: Family) -> float:
    """Beams, sampling and assisted decoding run, and hand back the caller's own prompt (or decoder's)."""
    inputs = example(model, family, [(1, 5)])
    modes: list[dict[str, Any]] = [
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True},
        {"prompt_lookup_num_tokens": 2},
        {"assistant_model": tiny_family(family).choose_assistant(model)},
    ]
    if getattr(model, "_is_stateful", False):
        del modes[2:]  # transformers refuses assistants where a state cannot go back
    prompt = _prompt(inputs)
    length = prompt.shape[1]
    with pruning(model, keep=0.3):
        outputs = [model.generate(**inputs, **mode, **_words(model, family)) for mode in modes]
    return float(any(bool((out[:, :length] != prompt).any()) or out.shape[1] <= length for out in outputs))


def no_trace(model: Any, family: Family) -> float:
    """After `remove()` the model is as before."""
    inputs = example(model, family, [(1, 4)])
    before, state = model(**inputs).logits, _state(model)
    handle = attach(model, keep=0.3)
    after = model(**inputs).logits
    changed = after.shape != before.shape or not torch.equal(after, before)
    handle.remove()
    return relative_error(model(**inputs).logits, before) + float(not changed or _state(model) != state)


LAWS: dict[str, Callable[[Any, Family], float]] = {
    "keep=1.0 is the untouched model": keep_all,
    "pruned = full with dropped tokens masked": masked,
    "several pictures in a row": several_images,
    "clips and sounds alike": modalities,
    "ragged batch = each row alone": ragged_batch,
    "text without a picture passes through": text_only,
    "cached decoding = recomputation": cached_decoding,
    "beams, sampling, assisted decoding": decoding_modes,
    "remove() leaves no trace": no_trace,
}


def laws_of(family: Family) -> dict[str, Callable[[Any, Family], float]]:
    """The laws that say something about this family."""
    silent = {modalities} if family.traits.modalities == ("image",) else set()
    if family.traits.needs_image:
        silent.add(text_only)
    return {name: law for name, law in LAWS.items() if law not in silent}


def _words(model: Any, family: Family) -> dict[str, Any]:
    """Settings under which a random model does not say placeholders, for which there would be no picture."""
    placeholders = [family.token_id(model.config, modality) for modality in family.traits.modalities]
    return {"max_new_tokens": STEPS, "suppress_tokens": placeholders}


_SCORES = {"return_dict_in_generate": True, "output_logits": True}


def kept_items(model: Any, family: Family, inputs: dict[str, Any], short: PrunedInputs) -> list[VisualInput]:
    """What these inputs show, encoded again, with what a report says was kept."""
    outputs = {m: family.encode(model, inputs, m) for m in find_modalities(family, inputs)}
    items = family.items(model, inputs, outputs, ())
    return [replace(item, kept=own.kept) for item, own in zip(items, short.report.items, strict=True)]


def staying(model: Any, family: Family, inputs: dict[str, Any], short: PrunedInputs) -> Tensor:
    """(b, L): the tokens of the full sequence that a report says were kept."""
    return mark_staying(inputs["attention_mask"], kept_items(model, family, inputs, short))


def one_row(model: Any, family: Family, inputs: dict[str, Any], row: int, pictures: range) -> dict[str, Any]:
    """Row `row` of a batch by itself, without its padding."""
    real = inputs["attention_mask"][row].bool()
    shape = inputs["attention_mask"].shape
    tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    alone = {name: value[row : row + 1, real] for name, value in tensors.items() if value.shape[:2] == shape}
    return {**alone, **tiny_family(family).select_inputs(model.config, inputs, _main(family), row, pictures)}


def spliced(model: Any, family: Family, inputs: dict[str, Any], short: PrunedInputs, stays: Tensor) -> Tensor:
    """Logits (tokens that stay, vocabulary) of the stock model fed with their embeddings, row by row."""
    decoder = family.decoder(model)
    with arguments_of(decoder) as seen:
        model(**inputs)
    whole = seen[0]["inputs_embeds"]
    own = ("inputs_embeds", "attention_mask", "position_ids", "visual_pos_masks")
    more = {k: v for k, v in seen[0].items() if isinstance(v, Tensor) and v.shape[:2] == stays.shape and k not in own}
    head = model.get_output_embeddings() or model.language_model.get_output_embeddings()
    logits = []
    for row, positions in enumerate(short["position_ids"].unbind(-2)):
        real = short["attention_mask"][row].bool()
        alone = positions[..., real].unsqueeze(-2)
        given = {name: value[row, stays[row]][None] for name, value in more.items()}
        hidden = decoder(inputs_embeds=whole[row, stays[row]][None], position_ids=alone, **given).last_hidden_state
        logits.append(head(hidden)[0])
    return torch.cat(logits)


def _like(model: Any, value: Any) -> Any:
    """A tensor on the model's device, floats of its type; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    return value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)


def _main(family: Family) -> str:
    """What stands for a picture: a clip in a family that has clips alone."""
    return "image" if "image" in family.traits.modalities else family.traits.modalities[0]


def relative_error(logits: Tensor, reference: Tensor) -> float:
    """The largest difference, divided by the size of the reference's logits where that is above 1.

    Rounding errors grow with the numbers that are rounded, so the limit must too. With logits of size 1 or less the
    difference is taken as it is. Logits of another shape are infinitely wrong, and so is NaN.
    """
    if logits.shape != reference.shape:
        return float("inf")
    error = (logits.float() - reference.float()).abs().nan_to_num(nan=float("inf")).max()
    return float(error) / max(1.0, logit_size(reference))


def logit_size(logits: Tensor) -> float:
    """Root mean square of the logits, without those that a model puts at its lowest number to rule ids out."""
    values = logits[logits.abs() < torch.finfo(logits.dtype).max / 2]
    return float(values.double().square().mean().sqrt()) if len(values) else 0.0


def _new_tokens(inputs: dict[str, Any], *outputs: Any) -> list[Any]:
    length = _prompt(inputs).shape[1]
    return [out.sequences[:, length:].T for out in outputs]


def _prompt(inputs: dict[str, Any]) -> Tensor:
    """What `generate` goes on from: the words, or what a decoder of its own begins with."""
    ids: Tensor = inputs.get("decoder_input_ids", inputs["input_ids"])
    return ids


def _at(logits: Tensor, places: Tensor) -> Tensor:
    """The logits at these places (b, L) of the prompt; all of them where a decoder of its own writes the answer."""
    return logits[places] if logits.shape[:2] == places.shape else logits


def _state(model: Any) -> tuple[object, ...]:
    """What a handle could leave behind."""
    hooks = (model._forward_pre_hooks, model._forward_hooks, model._forward_pre_hooks_with_kwargs)
    generate = getattr(model.generate, "__func__", model.generate)  # a bound method is a new object at every look
    return sorted(vars(model)), [dict(h) for h in hooks], inspect.signature(model.generate), generate
