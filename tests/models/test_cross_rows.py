"""What words attend to across the image is what the stock eager attention gives, added up over the words."""

import copy

import pytest
import torch

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import ModelError
from foveate.models import lookup
from foveate.models.cross import CrossAttention
from foveate.models.cross_rows import BLOCK

pytestmark = pytest.mark.usefixtures("no_grad")

FAMILIES = [name for name in lookup.available() if isinstance(lookup.family(name), CrossAttention)]
ROWS = [(2, 5), (1, 9), (0, 4), (3, BLOCK)]


@pytest.fixture(params=FAMILIES)
def family(request):
    return lookup.family(request.param)


def read(model, family, inputs, prompt):
    """The attention to every image, as `prune_inputs` reads it."""
    encoded = family.encode(model, inputs)
    whole = dict(foveate.prune_inputs(model, inputs, keep=1.0))
    return family.read_words(model, inputs, encoded, whole, prompt)


def read_stock(model, family, inputs):
    """(b, heads, L, n): the weights of the stock layer in the stock call from pixels."""
    eager, outputs = copy.deepcopy(model), []
    eager.set_attn_implementation("eager")
    hook = family.first_cross_attention(eager).register_forward_hook(lambda _, __, output: outputs.append(output[1]))
    eager(**inputs)
    hook.remove()
    return outputs[0]


def show_images(family, inputs):
    """(b, images, L): which words see an image, by the processor's own mask, and how many states stand for each."""
    mask = inputs.get("cross_attention_mask")
    seen = inputs["image_attention_mask"] if mask is None else mask.amax(3)
    return (seen.bool() & inputs["attention_mask"].bool()[..., None]).transpose(1, 2)


def test_the_means_are_those_of_the_stock_eager_attention(family):
    model = make_tiny_model(family)
    inputs = make_batch(model, family, ROWS)
    prompt = inputs["attention_mask"].bool()
    stock, seen = read_stock(model, family, inputs), show_images(family, inputs)
    states = stock.shape[-1] // seen.shape[1]  # of one image, padding tiles included
    means = iter(read(model, family, inputs, prompt))
    for row, (count, _) in enumerate(ROWS):
        for image in range(count):
            words = seen[row, image].nonzero().squeeze(1).tolist()
            assert words
            own = stock[row, :, :, image * states : (image + 1) * states]  # (heads, L, states)
            expected = sum(own[:, word] for word in words) / len(words)
            mean = next(means)
            assert mean.dtype == torch.float32
            torch.testing.assert_close(mean, expected.T[: len(mean)], atol=1e-6, rtol=0)
            torch.testing.assert_close(mean.sum(0), torch.ones(mean.shape[1]))  # each word sees one image
    assert next(means, None) is None


def test_words_outside_of_the_prompt_do_not_count(family):
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 9)])
    prompt = inputs["attention_mask"].bool()
    (whole,) = read(model, family, inputs, prompt)
    (part,) = read(model, family, inputs, prompt & (torch.arange(prompt.shape[1]) < prompt.shape[1] - 3))
    shorter = {name: value[:, :-3] for name, value in inputs.items() if value.shape[:2] == prompt.shape}
    (alone,) = read(model, family, {**inputs, **shorter}, prompt[:, :-3])
    torch.testing.assert_close(part, alone)
    assert not torch.allclose(part, whole)
    (none,) = read(model, family, inputs, torch.zeros_like(prompt))
    assert not none.any()


def test_nothing_on_the_model_changes(family):
    model = make_tiny_model(family)
    inputs = make_batch(model, family, ROWS)
    config, before = copy.deepcopy(model.config.to_dict()), model(**inputs).logits
    read(model, family, inputs, inputs["attention_mask"].bool())
    assert not family.first_cross_attention(model)._forward_pre_hooks
    assert model.config.to_dict() == config
    assert torch.equal(model(**inputs).logits, before)


def test_no_layer_behind_the_first_runs(family):
    model = make_tiny_model(family)
    inputs = make_batch(model, family, ROWS)
    encoded, whole = family.encode(model, inputs), dict(foveate.prune_inputs(model, inputs, keep=1.0))
    ran = []
    model.get_output_embeddings().register_forward_hook(lambda *_: ran.append("head"))
    family.first_cross_attention(model).o_proj.register_forward_hook(lambda *_: ran.append("layer"))
    family.read_words(model, inputs, encoded, whole, inputs["attention_mask"].bool())
    assert ran == []


def test_a_layer_that_is_not_called_as_a_module_is_refused(family, monkeypatch):
    """As torch.compile does where it had compiled the layer before the hook came."""
    model = make_tiny_model(family)
    inputs = make_batch(model, family, ROWS)
    layer = type(family.first_cross_attention(model))
    monkeypatch.setattr(layer, "__call__", layer.forward)
    with pytest.raises(ModelError, match=r"torch.compiler.reset\(\)"):
        read(model, family, inputs, inputs["attention_mask"].bool())
