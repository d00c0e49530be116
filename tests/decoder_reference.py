"""A slow, obvious reference: stock layers one by one on the whole sequence, dropped tokens masked in later layers."""

from __future__ import annotations

import torch
from transformers import AutoModelForImageTextToText

from foveate.conformance.registry import to_tiny_family
from foveate.method.budget import to_budget
from foveate.pipeline.question import find_question, read_template


def deep_model(family, depth=6, attention="sdpa", seed=0):
    """The family's tiny model with more layers, so that there is something between them."""
    config = to_tiny_family(family).make_config()
    config.foveate_template = {}
    text = config.get_text_config()
    text.num_hidden_layers = depth
    if getattr(text, "layer_types", None):
        text.layer_types = ["full_attention"] * depth
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config, attn_implementation=attention).eval()
    for parameter in model.base_model.language_model.layers.parameters():
        parameter.data += torch.randn_like(parameter) * 0.05  # sharper attention than a fresh model's
    return model


def eager_twin(model, family):
    twin = deep_model(family, model.config.get_text_config().num_hidden_layers, "eager")
    twin.load_state_dict(model.state_dict())
    return twin


def images(model, family, inputs):
    """(row, places) of every image, in reading order."""
    shown = []
    sizes = iter(len(f) for f in family.features(family.encode(model, inputs)))
    for row, ids in enumerate(inputs["input_ids"]):
        places = (ids == family.token_id(model.config)).nonzero().squeeze(1)
        while len(places):
            size = next(sizes)
            shown.append((row, places[:size]))
            places = places[size:]
    return shown


def captured(model, inputs):
    """What the stock model hands to its decoder, and the rotary embedding its layers get."""
    captures = {}
    decoder = model.base_model.language_model
    hooks = [
        decoder.register_forward_pre_hook(lambda _, a, kwargs: captures.update(kwargs), with_kwargs=True),
        decoder.layers[0].register_forward_pre_hook(
            lambda _, a, kwargs: captures.update(rotary=kwargs["position_embeddings"]), with_kwargs=True
        ),
    ]
    model(**inputs, use_cache=False)
    for hook in hooks:
        hook.remove()
    return captures


def raters(model, family, method, inputs, row, places, feature, end):
    if method.reads == "last":
        return [end]
    ids, mask = inputs["input_ids"][row], inputs["attention_mask"][row]
    first = int((ids == family.token_id(model.config)).nonzero()[0])
    template = read_template(model, family)
    words = [p for p in find_question(ids.tolist(), first, template, (mask == 0).tolist()) if p > int(places[-1])]
    if not words:
        return [end]
    table, cosines = model.get_input_embeddings().weight, []
    for place in words:
        each = [torch.cosine_similarity(table[ids[place]], v, dim=0) for v in feature]
        cosines.append(float(sum(each) / len(each)))
    return [p for p, c in zip(words, cosines, strict=True) if c >= sum(cosines) / len(cosines) - 1e-6]


def slow(model, family, method, inputs, keep=None, stages=None):
    """(logits (b, L, v), the stages as {layer: [indices per image]}, stays (b, L)); `model` must be eager.

    With `stages` these are dropped, else the choice is made here with `keep`.
    """
    captures, ids = captured(model, inputs), inputs["input_ids"]
    mask, decoder = inputs["attention_mask"].bool(), model.base_model.language_model
    shown = images(model, family, inputs)
    features = family.features(family.encode(model, inputs))
    hidden, stays = captures["inputs_embeds"], mask.clone()
    drops, made = method.layers(len(decoder.layers)), {}
    left = [list(range(len(places))) for _, places in shown]
    ends = [int(m.nonzero().max()) for m in mask]
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    for number, layer in enumerate(decoder.layers):
        bias = torch.zeros(()).masked_fill(~(causal & stays[:, None, None, :]), torch.finfo(torch.float32).min)
        weights = []
        hook = layer.self_attn.register_forward_hook(lambda _, a, out, w=weights: w.append(out[1]))
        hidden = layer(hidden, attention_mask=bias, position_embeddings=captures["rotary"])
        hook.remove()
        extra = captures.get("deepstack_visual_embeds") or []
        if number < len(extra):
            hidden = hidden.clone()
            hidden[captures["visual_pos_masks"]] += extra[number]
        if number + 1 in drops:
            stage = drops.index(number + 1)
            for n, (row, places) in enumerate(shown):
                if stages is not None:
                    chosen = stages[number + 1][n].tolist()
                else:
                    rows = raters(model, family, method, inputs, row, places, features[n], ends[row])
                    score = {}
                    for i in left[n]:
                        column = weights[0][row, :, rows, places[i]]
                        score[i] = float(column.double().mean())
                    count = method.counts(len(places), to_budget(keep, len(places)), len(drops))[stage]
                    chosen = sorted(sorted(left[n], key=lambda i, s=score: (-s[i], i))[:count])
                stays[row, places] = False
                stays[row, places[chosen]] = True
                left[n] = chosen
            made[number + 1] = [list(c) for c in left]
    return model.lm_head(decoder.norm(hidden)), made, stays
