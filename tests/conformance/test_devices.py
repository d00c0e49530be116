"""Pruning under accelerate's hooks, which move inputs and weights between devices, changes no answer."""

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from accelerate.hooks import AlignDevicesHook, add_hook_to_module

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.models import lookup
from kinds import by_kind

pytestmark = pytest.mark.filterwarnings("ignore:.*generation_config.*:Warning")

# One of each kind: features in a list and in one tensor, tiles, no tower, DeepStack, an encoder and a decoder, a state
# along the sequence. Of these the stock model runs with all weights offloaded, too.
KINDS = ("llava", "internvl", "idefics2", "fuyu", "mistral3", "qwen3_vl", "qwen3_5", "florence2")


def generate(model, family, inputs, **settings):
    """Answers after `prune_inputs` and under `attach`, also where a first look runs through the model's layers."""
    placeholders = [family.token_id(model.config, modality) for modality in family.traits.modalities]
    settings |= {"max_new_tokens": 3, "do_sample": False, "suppress_tokens": placeholders}
    with torch.no_grad():
        answers = []
        for method in ["foveate", "glance"] if family.traits.in_sequence else ["foveate"]:
            short = foveate.prune_inputs(model, inputs, keep=0.3, method=method)
            answers.append(model.generate(**short, **settings))
            with foveate.pruning(model, keep=0.3, method=method):
                answers.append(model.generate(**inputs, **settings))
    return answers


def assert_same(before, after):
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("model_type", by_kind(lookup.available()))
def test_the_hook_of_a_device_map_changes_no_answer(model_type):
    """What `device_map` over several devices puts on the whole model sends every input to a device."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(2, 5), (1, 3)])
    before = generate(model, family, inputs, num_beams=2)
    add_hook_to_module(model, AlignDevicesHook(execution_device="cpu", io_same_device=True))
    assert_same(before, generate(model, family, inputs, num_beams=2))


def offload_to_cpu(model, folder):
    cpu_offload(model, execution_device="cpu")


def offload_to_disk(model, folder):
    disk_offload(model, str(folder), execution_device="cpu")


def split_between_cpu_and_disk(model, folder):
    names = [f"model.{name}" for name, _ in model.model.named_children()]
    names += [name for name, _ in model.named_children() if name != "model"]
    places = {name: "disk" if n % 2 else "cpu" for n, name in enumerate(names)}
    dispatch_model(model, places, main_device="cpu", offload_dir=str(folder), force_hooks=True)


@pytest.mark.parametrize("offload", [offload_to_cpu, offload_to_disk, split_between_cpu_and_disk])
@pytest.mark.parametrize("model_type", KINDS)
def test_offloaded_weights_change_no_answer(model_type, offload, tmp_path):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(2, 5), (1, 3)])
    before = generate(model, family, inputs)
    offload(model, tmp_path)
    assert_same(before, generate(model, family, inputs))
