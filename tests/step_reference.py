"""A slow, obvious reference of VisionPulse: the formula in plain numbers, and stock layers on the whole sequence."""

from __future__ import annotations

import math
from fractions import Fraction

import torch

from decoder_reference import captured
from foveate.method.budget import to_budget


def slow_choice(logits, visual, k, least, temperature):
    """The formula for one step, index by index, on logits (heads, s) up to a constant for each head."""
    rows, columns = logits.double().tolist(), [i for i, is_visual in enumerate(visual.tolist()) if is_visual]
    if k == len(columns):
        return list(range(k))
    masses = []
    for row in rows:
        top = max(row)
        weights = [math.exp((z - top) / temperature) for z in row]
        masses.append(sum(weights[i] for i in columns) / sum(weights))
    count = int(max(masses) * len(columns))
    count = min(max(count, int(Fraction(str(least)) * k), 1), k)
    score = [sum(row[i] for row in rows) / len(rows) for i in columns]
    return sorted(sorted(range(len(columns)), key=lambda i: (-score[i], i))[:count])


def slow_steps(model, family, method, inputs, sequences, keep):
    """(logits (b, steps + 1, v) of the new tokens, the choices of each step and row) without a cache.

    `sequences` (b, L + new) begin with the prompt `inputs`. `model` must be eager: its own attention weights, of which
    the logarithm is the logits up to a constant for each head, say what every step attends to.
    """
    length = inputs["input_ids"].shape[1]
    whole = complete(inputs, sequences[:, :-1])
    captures, ids, decoder = captured(model, whole), whole["input_ids"], model.base_model.language_model
    visual = ids == family.token_id(model.config)
    sees = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril() & whole["attention_mask"].bool()[:, None]
    anchor, hidden, made = method.find_anchor(len(decoder.layers)), captures["inputs_embeds"], []
    for number, layer in enumerate(decoder.layers):
        if number == anchor:
            weights = run(layer, hidden, sees, captures["rotary"])[1]
            for step in range(length, ids.shape[1]):
                made.append([choose(method, weights[row, :, step], visual[row], keep, sees[row, step])
                             for row in range(len(ids))])  # fmt: skip
                for row, chosen in enumerate(made[-1]):
                    places = visual[row].nonzero().squeeze(1)
                    sees[row, step, places] = False
                    sees[row, step, places[chosen]] = True
        hidden = run(layer, hidden, sees, captures["rotary"])[0]
        extra = captures.get("deepstack_visual_embeds") or []
        if number < len(extra):
            hidden = hidden.clone()
            hidden[captures["visual_pos_masks"]] += extra[number]
    return model.lm_head(decoder.norm(hidden))[:, length - 1 :], made


def complete(inputs, ids):
    """The inputs of the prompt with longer `ids`."""
    new = ids[:, inputs["input_ids"].shape[1] :]
    whole = {
        **inputs,
        "input_ids": ids,
        "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(new)], 1),
    }
    if "mm_token_type_ids" in inputs:
        kinds = inputs["mm_token_type_ids"]
        whole["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(new).to(kinds)], dim=1)
    return whole


def run(layer, hidden, sees, rotary):
    """A stock layer's output and attention weights, for `sees` (b, q, s)."""
    seen = []
    hook = layer.self_attn.register_forward_hook(lambda _, args, out: seen.append(out[1]))
    bias = torch.zeros(()).masked_fill(~sees[:, None], torch.finfo(torch.float32).min)
    output = layer(hidden, attention_mask=bias, position_embeddings=rotary)
    hook.remove()
    return output, seen[0]


def choose(method, weights, visual, keep, sees):
    """The choice of one step of one row by its attention weights (heads, s)."""
    n = int(visual.sum())
    if not n:
        return []
    budget = to_budget(min(keep, n) if isinstance(keep, int) else keep, n)
    return slow_choice(weights[:, sees].double().log(), visual[sees], budget, method.least, method.temperature)
