"""The laws of decoding, of `attach` and of `remove()`; `laws` has the others and the list of all."""

import inspect
from typing import Any

import torch
from torch import Tensor

from foveate.conformance.batches import make_batch
from foveate.conformance.reference import go_on, relative_error
from foveate.conformance.registry import to_tiny_family
from foveate.hooks.attach import attach, pruning
from foveate.hooks.options import UNASSISTED, can_look_up
from foveate.models import Family
from foveate.models.cache import cache_name
from foveate.models.generation import has_own_decoder
from foveate.pipeline.prune import prune_inputs

STEPS = 4  # tokens that the decoding laws generate


def compare_cached_decoding(model: Any, family: Family) -> float:
    """Decoding with the cache gives what recomputing every step gives, in one unpadded row and in a padded batch."""
    worst = 0.0
    for rows in ([(1, 5)], [(2, 5), (1, 3)]):
        inputs = make_batch(model, family, rows)
        if len(rows) == 1:
            del inputs["attention_mask"]
        length = _prompt_ids(inputs).shape[1]
        settings = {
            "min_new_tokens": STEPS, "do_sample": False, "return_dict_in_generate": True, "output_logits": True,
            **_generation_settings(model, family),
        }  # fmt: skip
        with pruning(model, keep=0.3):
            cached, anew = (model.generate(**inputs, **settings, use_cache=use) for use in (True, False))
        tokens = [out.sequences[:, length:].T for out in (cached, anew)]
        for one, other, token, reference in zip(cached.logits, anew.logits, *tokens, strict=True):
            worst = max(worst, relative_error(one, other))
            if not torch.equal(token, reference):
                break  # a near tie in half precision: the next steps have different prompts
    return worst


def compare_own_loop(model: Any, family: Family) -> float:
    """A decoding loop of the caller's own, over `forward`, is the stock model's loop over the pruned inputs."""
    if has_own_decoder(model) or family.traits.needs_image:
        return 0.0  # no such loop over the stock model
    worst, name = 0.0, cache_name(type(model).forward)
    for rows in ([(1, 5)], [(2, 5), (1, 3)]):
        inputs, cache, reference = make_batch(model, family, rows), _make_cache(model), {name: _make_cache(model)}
        short, mask = prune_inputs(model, inputs, keep=0.3), inputs["attention_mask"]
        token = inputs["input_ids"][:, -1:]
        model(**short, **reference, use_cache=True)
        with pruning(model, keep=0.3):
            model(**inputs, **{name: cache}, use_cache=True)
            for step in range(STEPS):
                mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
                settings = {"attention_mask": mask} if step % 2 or len(rows) > 1 else {}
                own = model(input_ids=token, **{name: cache}, **settings).logits
                stock = model(**go_on(short, token, step), **reference).logits
                worst = max(worst, relative_error(own, stock))
    return worst


def run_decoding_modes(model: Any, family: Family) -> float:
    """Beams, sampling and assisted decoding run, and return the caller's own prompt (or decoder's): 0, else 1."""
    inputs = make_batch(model, family, [(1, 5)])
    modes: list[dict[str, Any]] = [{"num_beams": 3, "num_return_sequences": 2}, {"do_sample": True}]
    # Refused: by transformers where a state cannot go back, by foveate where assistance changes the stock answer.
    if not getattr(model, "_is_stateful", False) and family.model_type not in UNASSISTED:
        modes.append({"assistant_model": to_tiny_family(family).choose_assistant(model)})
        modes += [{"prompt_lookup_num_tokens": 2}] * can_look_up(model, family)
    prompt = _prompt_ids(inputs)
    length, settings = prompt.shape[1], _generation_settings(model, family)
    with pruning(model, keep=0.3):
        outputs = [model.generate(**inputs, **mode, **settings) for mode in modes]
    return float(any(bool((out[:, :length] != prompt).any()) or out.shape[1] <= length for out in outputs))


def compare_after_removal(model: Any, family: Family) -> float:
    """After `remove()` the model is as before."""
    inputs = make_batch(model, family, [(1, 4)])
    before, state = model(**inputs).logits, _read_state(model)
    handle = attach(model, keep=0.3)
    after = model(**inputs).logits
    changed = after.shape != before.shape or not torch.equal(after, before)
    handle.remove()
    return relative_error(model(**inputs).logits, before) + float(not changed or _read_state(model) != state)


def _make_cache(model: Any) -> Any:
    """An empty cache, as `generate` would make it."""
    from transformers import DynamicCache

    return DynamicCache(config=model.config.get_text_config(decoder=True))


def _generation_settings(model: Any, family: Family) -> dict[str, Any]:
    """Settings under which a random model generates no placeholders, which would have no image."""
    placeholders = [family.token_id(model.config, modality) for modality in family.traits.modalities]
    return {"max_new_tokens": STEPS, "suppress_tokens": placeholders}


def _prompt_ids(inputs: dict[str, Any]) -> Tensor:
    """What `generate` continues: the prompt, or the first tokens of a separate decoder."""
    ids: Tensor = inputs.get("decoder_input_ids", inputs["input_ids"])
    return ids


def _read_state(model: Any) -> tuple[object, ...]:
    """What a handle could leave behind."""
    hooks = (model._forward_pre_hooks, model._forward_hooks, model._forward_pre_hooks_with_kwargs)
    generate = getattr(model.generate, "__func__", model.generate)  # a bound method is a new object at every access
    return sorted(vars(model)), [dict(h) for h in hooks], inspect.signature(model.generate), generate
