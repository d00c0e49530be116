"""The rows of attention that are read are those of the stock eager attention, in every family."""

import copy

import pytest
import torch

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import ModelError
from foveate.models import lookup
from foveate.models.attention_rows import find_attentions, read_attention
from foveate.models.sequence import find_last_columns

FAMILIES = [name for name in lookup.available() if lookup.family(name).traits.in_sequence]


def make_prompt(model, family):
    """Two rows of different lengths, and the column of the last token of each."""
    with torch.no_grad():
        short = dict(foveate.prune_inputs(model, make_batch(model, family, [(2, 6), (1, 3)]), keep=0.5))
    return short, find_last_columns(short["attention_mask"])


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_rows_are_the_eager_attention(model_type):
    family = lookup.family(model_type)
    model, eager = make_tiny_model(family), make_tiny_model(family)
    eager.set_attn_implementation("eager")
    inputs, columns = make_prompt(model, family)
    with torch.no_grad():
        everything = eager(**inputs, use_cache=False, output_attentions=True).attentions
    layers = find_attentions(model)
    assert len(layers) >= 1
    # A hybrid model returns the attention of its attention layers alone, or None for its other layers.
    stock = [layer for layer in everything if layer is not None]
    assert len(stock) == len(layers)
    for layer, expected in zip(layers, stock, strict=True):
        rows = read_attention(model, inputs, layer, columns)
        assert rows.dtype == torch.float32
        assert not rows.requires_grad
        torch.testing.assert_close(rows, expected[torch.arange(2), :, columns].float(), atol=1e-5, rtol=0)


def test_nothing_on_the_model_changes(model, family):
    inputs, columns = make_prompt(model, family)
    config, state = copy.deepcopy(model.config.to_dict()), set(vars(model))
    before = model(**inputs).logits
    for layer in find_attentions(model):
        read_attention(model, inputs, layer, columns)
        assert not layer._forward_pre_hooks
        assert layer.config is model.config.get_text_config()
    assert model.config.to_dict() == config
    assert set(vars(model)) == state
    assert torch.equal(model(**inputs).logits, before)


def test_a_failing_call_leaves_no_hook(model, family):
    inputs, columns = make_prompt(model, family)
    layer = find_attentions(model)[-1]
    with pytest.raises(IndexError):
        read_attention(model, inputs, layer, columns + 1000)
    assert not layer._forward_pre_hooks


def test_layers_that_do_not_call_the_attention_as_a_module_are_refused(llava, monkeypatch):
    """As torch.compile does where it had compiled a layer before the hook came."""
    inputs, columns = make_prompt(llava, lookup.family("llava"))
    layer = find_attentions(llava)[0]
    monkeypatch.setattr(type(layer), "__call__", type(layer).forward)
    with pytest.raises(ModelError, match=r"torch.compiler.reset\(\)"):
        read_attention(llava, inputs, layer, columns)
