"""Which of a call's arguments are inputs of the model, and which of them are images that were not pruned."""

import functools
from types import SimpleNamespace

import pytest
import torch

import foveate
from foveate.conformance.batches import make_batch
from foveate.errors import InputError
from foveate.hooks.entry import (
    find_marked,
    guard_base,
    has_images,
    has_raw,
    list_encoded,
    name_arguments,
    read_arguments,
    split_arguments,
)
from foveate.models import lookup

FAMILY = lookup.family("llava")


@pytest.fixture
def inputs(llava):
    return make_batch(llava, FAMILY, [(1, 5)])


class Named:
    """A model whose forward names its inputs."""

    def forward(self, input_ids, pixel_values=None, *, labels=None):
        """Never called."""


class Wrapped(Named):
    """One of which a library replaced `forward`, as patches of whole classes do."""

    def forward(self, *args, **kwargs):
        """Never called."""


class Nameless:
    """A model whose forward names nothing."""

    def forward(self, *args, **kwargs):
        """Never called."""


# -- images ------------------------------------------------------------------------------------------------------------


def test_images_are_raw_encoded_or_pruned(llava, inputs):
    text = {"input_ids": inputs["input_ids"], "pixel_values": None, "mm_encoder_outputs": None}
    encoder = FAMILY.encoder_inputs(llava, inputs)
    encoded = {"mm_encoder_outputs": {"image": llava.base_model.get_image_features(**encoder, return_dict=True)}}
    pruned = foveate.prune_inputs(llava, inputs, keep=2)
    both = {"mm_encoder_outputs": {**encoded["mm_encoder_outputs"], "video": pruned["mm_encoder_outputs"]["image"]}}
    cases = {"text": text, "raw": inputs, "encoded": encoded, "pruned": pruned, "both": both}
    assert {name for name, case in cases.items() if has_raw(FAMILY, case)} == {"raw"}
    assert {name for name, case in cases.items() if has_images(FAMILY, case)} == {"raw", "encoded", "both"}
    assert has_images(FAMILY, {**pruned, "pixel_values": inputs["pixel_values"]})


def test_images_under_their_older_name_are_images():
    fuyu = lookup.family("fuyu")
    assert has_raw(fuyu, {"image_patches": torch.ones(1, 2, 3)})
    assert not has_raw(fuyu, {"image_patches": None, "input_ids": torch.ones(1, 2)})


def test_encoded_images_are_those_that_are_there():
    assert list_encoded({}) == list_encoded({"mm_encoder_outputs": None}) == []
    assert list_encoded({"mm_encoder_outputs": {"image": None, "video": 1, "audio": 2}}) == [1, 2]


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_are_those_of_the_first_class_that_has_them():
    assert name_arguments(Named()) == name_arguments(Wrapped()) == ["input_ids", "pixel_values", "labels"]
    assert name_arguments(Nameless()) == []
    assert name_arguments(object()) == []


def test_arguments_by_position_are_read_by_name():
    assert read_arguments(Named(), (1, 2), {"labels": 3}) == {"input_ids": 1, "pixel_values": 2, "labels": 3}
    assert read_arguments(Wrapped(), (1,), {"more": 2}) == {"input_ids": 1, "more": 2}
    assert read_arguments(Nameless(), (), {"input_ids": 1}) == {"input_ids": 1}
    with pytest.raises(InputError, match="forward of Nameless has no names for its inputs: pass them by name"):
        read_arguments(Nameless(), (1,), {})


def test_arguments_of_generate_are_inputs_or_settings():
    arguments = {
        "pixel_values": 1,
        "labels": 2,
        "inputs_embeds": 3,
        "past_key_values": 4,
        "cache": 5,
        "max_new_tokens": 6,
    }
    inputs, settings = split_arguments(Named(), FAMILY, arguments)
    assert inputs == {"pixel_values": 1, "labels": 2, "inputs_embeds": 3, "past_key_values": 4, "cache": 5}
    assert settings == {"max_new_tokens": 6}
    fuyu = lookup.family("fuyu")
    assert split_arguments(Named(), fuyu, {"image_patches": 1}) == ({"image_patches": 1}, {})
    assert split_arguments(Named(), FAMILY, {"image_patches": 1}) == ({}, {"image_patches": 1})


def test_the_ids_may_be_called_inputs():
    arguments = {"inputs": 1, "num_beams": 2}
    assert split_arguments(Named(), FAMILY, arguments) == ({"input_ids": 1}, {"num_beams": 2})
    assert arguments == {"inputs": 1, "num_beams": 2}  # the caller's own stay
    assert split_arguments(Named(), FAMILY, {"inputs": None, "input_ids": 1}) == ({"input_ids": 1}, {"inputs": None})


def test_without_names_every_tensor_is_an_input_but_the_negative_prompt():
    grid, negative = torch.ones(1, 3), torch.ones(1, 2)
    arguments = {"image_grid": grid, "negative_prompt_ids": negative, "input_ids": None, "num_beams": 2}
    inputs, settings = split_arguments(Nameless(), FAMILY, arguments)
    assert inputs == {"image_grid": grid, "input_ids": None}
    assert settings == {"negative_prompt_ids": negative, "num_beams": 2}
    assert split_arguments(Named(), FAMILY, {"image_grid": grid}) == ({}, {"image_grid": grid})


# -- hooks -------------------------------------------------------------------------------------------------------------


def test_a_mark_is_the_value_of_the_hook_that_has_it(llava):
    def other(module, args):
        """A hook of somebody else's."""

    def ours(module, args):
        """A hook that carries a mark."""

    ours.mark = [1]
    assert find_marked(object(), "mark") is None
    assert find_marked(llava, "mark") is None
    llava.register_forward_pre_hook(other)
    llava.register_forward_pre_hook(ours)
    assert find_marked(llava, "mark") is ours.mark
    assert find_marked(llava, "another") is None


@torch.no_grad()
def test_the_base_model_refuses_images_that_come_past_the_hooks(llava, inputs):
    state = SimpleNamespace(is_inside=False)
    (handle,) = guard_base(llava, FAMILY, lambda: state.is_inside)
    with pytest.raises(InputError, match=r"LlavaModel was called past LlavaForConditionalGeneration.*prune_inputs"):
        llava.base_model(**inputs)
    with pytest.raises(InputError, match="was called past"):  # by position
        llava.base_model(inputs["input_ids"], inputs["pixel_values"])
    llava.base_model(input_ids=inputs["input_ids"].clamp(max=200))
    llava.base_model(**foveate.prune_inputs(llava, inputs, keep=1.0))
    state.is_inside = True
    llava.base_model(**inputs)
    state.is_inside = False
    handle.remove()
    llava.base_model(**inputs)


def test_a_model_that_is_its_own_base_has_no_guard(llava):
    assert guard_base(llava.base_model, FAMILY, functools.partial(bool, 0)) == []
