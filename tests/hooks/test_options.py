"""Options of `generate` with which transformers goes wrong on prompts with images: mended, or refused."""

import pytest
import torch
from transformers import GenerationConfig

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.conformance.reference import relative_error
from foveate.conformance.registry import to_tiny_family
from foveate.errors import InputError
from foveate.hooks.options import ATTEND_BOTH_WAYS, UNASSISTED, UNSPLIT, can_look_up, check_kinds, check_options
from foveate.models import lookup
from kinds import by_kind

NAMES = lookup.available()
WHOLE = sorted(ATTEND_BOTH_WAYS | UNSPLIT)
NEW = {"max_new_tokens": 4, "min_new_tokens": 4}


def make_model(name):
    family = lookup.family(name)
    model = make_tiny_model(family)
    model.generation_config.update(do_sample=False, eos_token_id=None, pad_token_id=0)
    return model, family


def make_tempting(model, family, seed=0):
    """A prompt whose last token stands before the image too: prompt lookup drafts what follows there, the image."""
    inputs = make_batch(model, family, [(1, 9)], seed=seed)
    places = family.placeholders(model.config, inputs, family.traits.modalities[0])[0]
    first = int(places.nonzero()[0])
    inputs["input_ids"][0, -1] = inputs["input_ids"][0, max(first - 2, 0)]
    return inputs


# -- types -------------------------------------------------------------------------------------------------------------


class Streamer:
    def put(self, value):
        """Gets every token."""

    def end(self):
        """There are no more."""


class HalfAStreamer:
    def put(self, value):
        """Gets every token."""


RIGHT = {
    "stopping_criteria": [[], [print], (print, len)], "logits_processor": [[], [print], (print, len)],
    "prefix_allowed_tokens_fn": [print], "streamer": [Streamer()], "generation_config": [GenerationConfig()],
    "max_length": [0, 3], "min_length": [3], "max_new_tokens": [3], "min_new_tokens": [3], "pad_token_id": [3],
    "eos_token_id": [3, [3], (3, 4)], "suppress_tokens": [[], [3], (3, 4)], "num_beams": ["not read here"],
}  # fmt: skip
WRONG = {
    "stopping_criteria": ("a list of functions", [print, [print, 3], {print}]),
    "logits_processor": ("a list of functions", [print, [3, print], "print"]),
    "prefix_allowed_tokens_fn": ("a function", [[print], 3]),
    "streamer": ("an object with put and end", [HalfAStreamer(), print]),
    "generation_config": ("a GenerationConfig", [{"max_length": 3}, GenerationConfig.to_dict]),
    "max_length": ("an int", ["3", 3.0, True]), "min_length": ("an int", ["3", [3]]),
    "max_new_tokens": ("an int", ["3", 3.5]), "min_new_tokens": ("an int", ["3"]), "pad_token_id": ("an int", [[3]]),
    "eos_token_id": ("an int or a list of them", ["3", [3, "4"]]),
    "suppress_tokens": ("a list of ints", [3, [3, 4.5], {3}]),
}  # fmt: skip


def test_options_of_the_right_type_pass():
    check_kinds({})
    for name, values in RIGHT.items():
        check_kinds({name: None})
        for value in values:
            check_kinds({name: value})


@pytest.mark.parametrize("name", WRONG)
def test_options_of_another_type_are_refused(name):
    kind, values = WRONG[name]
    others = {other: right[0] for other, right in RIGHT.items()}
    for value in values:
        with pytest.raises(InputError, match=rf"^{name} is .*: give {kind}\.$"):
            check_kinds({**others, name: value})


# -- chunks ------------------------------------------------------------------------------------------------------------


def chunk_error(model, inputs, size):
    """How far chunks move the logits of a pruned prompt; infinite where transformers raises."""

    def generate(**options):
        short = foveate.prune_inputs(model, inputs, keep=0.6)
        return torch.stack(
            model.generate(**short, **options, **NEW, output_logits=True, return_dict_in_generate=True).logits
        )

    try:
        return relative_error(generate(prefill_chunk_size=size), generate())
    except (RuntimeError, TypeError, ValueError):
        return float("inf")


@pytest.mark.parametrize("name", by_kind(name for name in NAMES if name not in WHOLE))
@torch.no_grad()
def test_chunks_change_nothing(name):
    model, family = make_model(name)
    for rows in ([(1, 6)], [(2, 6), (1, 3)]):
        inputs = make_batch(model, family, rows)
        with foveate.pruning(model, keep=0.6):
            whole, *cut = (model.generate(**inputs, **NEW, **options) for options in (
                {}, {"prefill_chunk_size": 4}, {"prefill_chunk_size": 7}
            ))  # fmt: skip
        assert all(torch.equal(each, whole) for each in cut)
        assert max(chunk_error(model, inputs, size) for size in (4, 7)) < 1e-5


@pytest.mark.parametrize("name", [name for name in WHOLE if name in NAMES])
@torch.no_grad()
def test_chunks_are_refused_where_they_change_the_logits(name):
    """When this fails, transformers has mended it, and the family's name can go from the list."""
    model, family = make_model(name)
    batches = [make_batch(model, family, rows) for rows in ([(1, 6)], [(2, 6), (1, 3)])]
    assert max(chunk_error(model, inputs, size) for inputs in batches for size in (4, 7)) > 1e-3
    with foveate.pruning(model, keep=0.6):
        with pytest.raises(InputError, match=rf"prefill_chunk_size does not work with {name}, whose .*Leave it out"):
            model.generate(**batches[0], **NEW, prefill_chunk_size=4)
        with pytest.raises(InputError, match=r"prefill_chunk_size"):
            model.generate(**batches[0], generation_config=GenerationConfig(prefill_chunk_size=4, **NEW))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gemma3", "whose images attend in both directions: a chunk would hide a part of its image"),
        ("mllama", "whose encoded images transformers does not split"),
    ],
)
def test_the_reason_why_a_prompt_is_not_cut(llava, name, reason):
    with pytest.raises(InputError) as error:
        check_options(llava, lookup.family(name), {"prefill_chunk_size": 4})
    assert str(error.value) == f"prefill_chunk_size does not work with {name}, {reason}. Leave it out."
    for settings in ({}, {"prefill_chunk_size": None}):
        assert check_options(llava, lookup.family(name), settings) is settings
    settings = {"prefill_chunk_size": 4}
    assert check_options(llava, lookup.family("llava"), settings) is settings


# -- prompt lookup -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", by_kind(name for name in NAMES if name not in (*UNASSISTED, "molmo2")))
@torch.no_grad()
def test_prompt_lookup_drafts_no_placeholders(name):
    model, family = make_model(name)
    if getattr(model, "_is_stateful", False):
        with pytest.raises(ValueError, match=r"not supported with stateful models"):
            model.generate(**make_tempting(model, family), **NEW, prompt_lookup_num_tokens=4)
        return
    inputs, lookup_options = make_tempting(model, family), {"prompt_lookup_num_tokens": 4}
    suppressed = check_options(model, family, lookup_options)["suppress_tokens"]
    with foveate.pruning(model, keep=0.6):
        expected = model.generate(**inputs, **NEW, suppress_tokens=suppressed)
        assert torch.equal(model.generate(**inputs, **NEW, **lookup_options), expected)
        assert torch.equal(
            model.generate(**inputs, generation_config=GenerationConfig(pad_token_id=0, **NEW, **lookup_options)),
            expected,
        )


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "idefics3", "gemma3"])
@torch.no_grad()
def test_stock_prompt_lookup_drafts_placeholders(name):
    """When this fails, transformers has mended it, and `check_options` need not suppress them."""
    model, family = make_model(name)
    with pytest.raises(ValueError, match=r"[Ii]mage features and image tokens do not match"):
        model.generate(**make_tempting(model, family), **NEW, prompt_lookup_num_tokens=4)


@torch.no_grad()
def test_placeholders_outside_the_vocabulary():
    """Molmo2's: transformers looks their ids up in logits that have none."""
    model, family = make_model("molmo2")
    inputs = make_tempting(model, family)
    with pytest.raises(IndexError):
        model.generate(**inputs, **NEW, prompt_lookup_num_tokens=4)
    with (
        foveate.pruning(model, keep=0.6),
        pytest.raises(InputError, match=r"molmo2, whose placeholders are not"),
    ):
        model.generate(**inputs, **NEW, prompt_lookup_num_tokens=4)


def test_other_options_are_left_alone(llava):
    family, settings = lookup.family("llava"), {"max_new_tokens": 3, "suppress_tokens": [7]}
    assert check_options(llava, family, settings) is settings
    changed = check_options(llava, family, {**settings, "prompt_lookup_num_tokens": 2})
    assert changed["suppress_tokens"] == [7, llava.config.image_token_id]
    config = GenerationConfig(prompt_lookup_num_tokens=2, suppress_tokens=[7])
    changed = check_options(llava, family, {"generation_config": config})["generation_config"]
    assert changed.suppress_tokens == [7, llava.config.image_token_id]
    assert config.suppress_tokens == [7]  # the caller's own stays


def test_placeholders_of_all_modalities_are_suppressed():
    family = lookup.family("qwen2_5_vl")
    model = make_tiny_model(family)
    image, video = model.config.image_token_id, model.config.video_token_id
    lookup_options = {"prompt_lookup_num_tokens": 2}
    assert check_options(model, family, lookup_options) == {**lookup_options, "suppress_tokens": sorted([image, video])}
    vars(model.config)["image_token_id"] = None  # as a model has it that lacks one
    assert check_options(model, family, lookup_options) == {**lookup_options, "suppress_tokens": [video]}


def test_prompts_whose_ids_are_in_the_vocabulary_can_be_looked_up(llava):
    family = lookup.family("llava")
    llava.config.text_config.vocab_size = llava.config.image_token_id + 1
    assert can_look_up(llava, family)
    llava.config.text_config.vocab_size = llava.config.image_token_id
    assert not can_look_up(llava, family)
    with pytest.raises(InputError, match="prompt_lookup_num_tokens does not work with llava, whose placeholders"):
        check_options(llava, family, {"prompt_lookup_num_tokens": 2})


# -- assisted decoding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(UNASSISTED))
@torch.no_grad()
def test_assistance_is_refused_where_it_changes_the_answer(name):
    """When this fails at the first assertion, transformers has mended it, and the name can go from the list."""
    model, family = make_model(name)
    tokens, changed = {"max_new_tokens": 8, "min_new_tokens": 8}, False
    for seed in range(4):
        inputs = make_batch(model, family, [(1, 9)], seed=seed)
        inputs["input_ids"][0, -1] = inputs["input_ids"][0, -5]
        assistant = to_tiny_family(family).choose_assistant(model)
        plain = model.generate(**inputs, **tokens)
        changed |= not torch.equal(model.generate(**inputs, **tokens, assistant_model=assistant), plain)
    assert changed
    for option in ({"assistant_model": assistant}, {"prompt_lookup_num_tokens": 2}):
        with foveate.pruning(model, keep=0.6), pytest.raises(InputError, match=rf"does not work with {name}"):
            model.generate(**inputs, **NEW, **option)


def test_assistance_is_refused_by_name(llava):
    family = lookup.family("paligemma")
    for option in ("assistant_model", "prompt_lookup_num_tokens"):
        with pytest.raises(InputError, match=rf"^{option} does not work with paligemma, for which .*: leave it out\.$"):
            check_options(llava, family, {option: 2})
    settings = {"assistant_model": llava}
    assert check_options(llava, lookup.family("llava"), settings) is settings
    assert check_options(llava, family, {"assistant_model": None}) == {"assistant_model": None}
