"""Copies, pickles and saved files of a model that is being pruned are plain models."""

import copy
import io
import pickle

import pytest
import torch

import foveate
from decoder_reference import deep_model
from foveate.conformance.batches import make_batch

METHODS = ("foveate", "fastv")
OURS = ("generate", "__reduce_ex__")


def save_and_load(model):
    file = io.BytesIO()
    torch.save(model, file)
    assert b"foveate." not in file.getvalue()  # no module of ours is needed to load it
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": save_and_load,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", list(WAYS))
def test_a_copy_is_a_plain_model(model, family, way, method):
    model = deep_model(family)
    inputs = make_batch(deep_model(family), family, [(1, 6)])
    handle = foveate.attach(model, keep=0.3, method=method)
    # Before any call: the stock model cannot be pickled after one, as transformers leaves a local function on it.
    twin = WAYS[way](model)
    with torch.no_grad():
        pruned = model.generate(**inputs, max_new_tokens=4)
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(twin(**inputs).logits, torch.zeros_like(twin(**inputs).logits))
        assert twin(**inputs).logits.shape[1] == inputs["input_ids"].shape[1]
        assert torch.equal(model.generate(**inputs, max_new_tokens=4), pruned)
        handle.remove()
    for module in twin.modules():
        assert not module._forward_pre_hooks
        assert not any(name in vars(module) for name in OURS)
    assert list(vars(twin)) == list(vars(model))


@pytest.mark.parametrize("method", METHODS)
def test_a_copy_has_handles_of_its_own(family, method):
    model = deep_model(family)
    inputs = make_batch(model, family, [(1, 6)])
    first = foveate.attach(model, keep=0.3, method=method)
    twin = copy.deepcopy(model)
    second = foveate.attach(twin, keep=0.5, method=method)
    with torch.no_grad():
        model(**inputs)
        twin(**inputs)
        assert first.report.kept_count < second.report.kept_count
        first.remove()
        twin.generate(**inputs, max_new_tokens=2)
    assert second.report.kept_count == sum(len(item.kept) for item in second.report.items)
    second.remove()
    assert not twin._forward_pre_hooks


def test_somebody_elses_hooks_and_generate_are_copied(llava):
    calls = []
    llava.register_forward_pre_hook(lambda module, args: calls.append(module))
    llava.generate = print
    with foveate.pruning(llava, keep=2):
        twin = copy.deepcopy(llava)
    assert twin.generate is print
    assert len(twin._forward_pre_hooks) == 1
    assert len(llava._forward_pre_hooks) == 1


def test_saving_writes_the_plain_model(llava, family, tmp_path):
    with foveate.pruning(llava, keep=2):
        llava.save_pretrained(tmp_path / "attached")
    llava.save_pretrained(tmp_path / "plain")
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        assert (tmp_path / "attached" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
