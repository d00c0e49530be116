"""What a handle reads of the options of `generate`, and what it changes in them."""

import pytest
import torch
from transformers import GenerationConfig

from foveate.errors import InputError
from foveate.hooks.generate import (
    check_loop,
    check_unassisted,
    find_assistance,
    make_mask,
    override,
    read_setting,
    shorten_limits,
)

IDS = torch.tensor([[0, 0, 5, 6], [7, 0, 8, 9]])
WHOLE = [[1, 1, 1, 1], [1, 1, 1, 1]]
PADDED = [[0, 0, 1, 1], [1, 0, 1, 1]]


@pytest.fixture
def model(llava):
    llava.generation_config = GenerationConfig()
    return llava


def test_an_option_is_the_argument_else_the_configurations_else_the_models(model):
    config = GenerationConfig(max_length=7)
    assert read_setting(model, {}, "max_length") is None
    model.generation_config.max_length = 5
    assert read_setting(model, {}, "max_length") == 5
    assert read_setting(model, {"generation_config": None, "max_length": None}, "max_length") == 5
    assert read_setting(model, {"generation_config": config}, "max_length") == 7
    assert read_setting(model, {"generation_config": config, "max_length": 9}, "max_length") == 9
    assert read_setting(model, {"generation_config": config, "max_length": 0}, "max_length") == 0
    assert read_setting(model, {"generation_config": config}, "no_such_option") is None


# -- the mask ----------------------------------------------------------------------------------------------------------


def test_padding_is_hidden(model):
    mask = make_mask(model, {"pad_token_id": 0, "eos_token_id": 9}, IDS)
    assert mask.tolist() == PADDED
    assert mask.dtype == torch.int64
    model.generation_config.update(pad_token_id=0, eos_token_id=9)
    assert make_mask(model, {}, IDS).tolist() == PADDED


@pytest.mark.parametrize(
    "settings",
    [{}, {"eos_token_id": 9}, {"pad_token_id": 0, "eos_token_id": 0}, {"pad_token_id": 0, "eos_token_id": [9, 0]}],
)
def test_padding_that_is_not_known_or_ends_generation_is_seen(model, settings):
    mask = make_mask(model, settings, IDS)
    assert mask.tolist() == WHOLE
    assert mask.dtype == torch.int64


def test_where_no_option_ends_generation_the_ids_of_the_text_model_do(model):
    model.config.text_config.eos_token_id = [9, 0]
    assert make_mask(model, {"pad_token_id": 0}, IDS).tolist() == WHOLE
    model.config.text_config.eos_token_id = 9
    assert make_mask(model, {"pad_token_id": 0}, IDS).tolist() == PADDED
    assert make_mask(model, {"pad_token_id": 0, "eos_token_id": 0}, IDS).tolist() == WHOLE


# -- assistance and loops ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp"])
def test_the_option_that_asks_for_drafts_is_named(model, name):
    assert find_assistance(model, {name: None}) is None
    assert find_assistance(model, {name: False}) is None
    assert find_assistance(model, {name: 2, "num_beams": 3}) == name
    check_unassisted(model, {name: False, "num_beams": 3})
    with pytest.raises(InputError, match=f"^{name} does not work with pruned audio"):
        check_unassisted(model, {name: 2})
    setattr(model.generation_config, name, 2)
    assert find_assistance(model, {}) == name


def test_a_loop_of_the_callers_own_is_refused():
    check_loop({})
    check_loop({"custom_generate": None})
    with pytest.raises(InputError, match="custom_generate would count the pruned prompt"):
        check_loop({"custom_generate": "mine"})


# -- limits ------------------------------------------------------------------------------------------------------------


def test_limits_of_the_whole_length_are_shorter_by_what_was_dropped(model):
    settings = {"max_length": 12, "min_length": 9, "num_beams": 2}
    shorter = {"max_length": 8, "min_length": 5, "num_beams": 2}
    assert shorten_limits(model, settings, length=10, dropped=4) == shorter
    assert settings == {"max_length": 12, "min_length": 9, "num_beams": 2}
    assert shorten_limits(model, {"min_length": 3}, length=10, dropped=4) == {"min_length": 0}
    assert shorten_limits(model, {"num_beams": 2}, length=10, dropped=4) == {"num_beams": 2}
    model.generation_config.max_length = 13
    assert shorten_limits(model, {}, length=10, dropped=4) == {"max_length": 9}


def test_limits_of_the_answer_come_before_those_of_the_whole_length(model):
    settings = {"max_length": 3, "max_new_tokens": 5, "min_length": 9, "min_new_tokens": 1}
    assert shorten_limits(model, settings, length=10, dropped=4) == settings
    mixed = {"max_length": 12, "min_length": 9, "min_new_tokens": 1}
    assert shorten_limits(model, mixed, length=10, dropped=4) == {**mixed, "max_length": 8}
    assert shorten_limits(model, {"max_length": 0, "min_length": 0}, 10, 4) == {"max_length": 0, "min_length": 0}


def test_a_prompt_has_to_be_shorter_than_max_length(model):
    for limit in (9, 10):
        with pytest.raises(InputError, match=f"max_length is {limit}, and the prompt has 10 tokens: set max_new"):
            shorten_limits(model, {"max_length": limit}, length=10, dropped=4)
    assert shorten_limits(model, {"max_length": 11}, length=10, dropped=4) == {"max_length": 7}
    assert shorten_limits(model, {"min_length": 10}, length=10, dropped=4) == {"min_length": 6}


def test_limits_in_a_configuration_are_changed_in_a_copy(model):
    config = GenerationConfig(max_length=12, num_beams=2)
    (name, changed), *others = shorten_limits(model, {"generation_config": config}, length=10, dropped=4).items()
    assert (name, others) == ("generation_config", [])
    assert (changed.max_length, changed.num_beams) == (8, 2)
    assert config.max_length == 12  # the caller's own stays


def test_other_values_of_options():
    config = GenerationConfig(num_beams=2, suppress_tokens=[1])
    settings = {"num_beams": 3, "do_sample": True}
    assert override(settings, {"num_beams": 4}) == {"num_beams": 4, "do_sample": True}
    own = {**settings, "generation_config": config}
    assert override(own, {}) == own
    assert override(own, {})["generation_config"] is config
    changed = override(own, {"num_beams": 4})
    assert changed["do_sample"] is True
    assert "num_beams" not in changed  # it would come before the configuration's
    assert changed["generation_config"].num_beams == 4
    changed["generation_config"].suppress_tokens.append(2)
    assert (config.num_beams, config.suppress_tokens) == (2, [1])
