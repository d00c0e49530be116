"""Inputs that the stock model takes are taken: other names, optional ones left out, encoded ones, shapes by chance."""

import inspect
from contextlib import contextmanager, suppress

import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import InputError
from foveate.models import lookup
from foveate.models.inputs import drop_raw
from kinds import by_kind

ALIASES = (("video_llava", "pixel_values_images"), ("fuyu", "image_patches"))
# Without it transformers counts Qwen2.5-VL's positions along the sequence; here they are those it was trained with.
BETTER = {("qwen2_5_vl", "mm_token_type_ids")}
IN_SEQUENCE = [name for name in lookup.available() if lookup.family(name).traits.in_sequence]
AUDIO = ("apertus1p5", "dots3_note", "gemma3n", "gemma4", "gemma4_unified", "inkling_mm_model", "muse_spark")
AUDIO += ("nemotron_h_omni", "qwen2_5_omni_thinker", "qwen3_omni_moe_thinker")

pytestmark = pytest.mark.filterwarnings("ignore::foveate.FoveateWarning")


def assert_like_stock(model, inputs):
    """Equal logits where everything is kept; nothing is asserted where the stock model refuses these inputs."""
    try:
        stock = model(**inputs).logits
    except Exception:
        return
    short = foveate.prune_inputs(model, inputs, keep=1.0)
    torch.testing.assert_close(model(**short).logits, stock, atol=1e-5, rtol=1e-5)
    assert foveate.prune_inputs(model, inputs, keep=0.4).report.items


@pytest.mark.parametrize("model_type", by_kind(lookup.available()))
@torch.no_grad()
def test_an_input_that_the_stock_model_can_do_without(model_type):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    model.set_attn_implementation("eager")  # without a mask SDPA attends to Llama 3.2's images as if they were a text
    inputs = make_batch(model, family, [(family.traits.modalities, 6)])
    needed = {"input_ids", *family.traits.main_inputs.values()}
    for name in [name for name in inputs if name not in needed and (model_type, name) not in BETTER]:
        assert_like_stock(model, {other: value for other, value in inputs.items() if other != name})


@pytest.mark.parametrize("model_type", by_kind(IN_SEQUENCE))
@torch.no_grad()
def test_encoded_images_without_what_the_encoder_read(model_type):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 6)])
    read = family.encoder_inputs(model, inputs)
    encoded = model.base_model.get_image_features(**read, return_dict=True)
    rest = {name: value for name, value in inputs.items() if name not in read}
    if model_type == "hunyuan_vl":  # where the rows of an image end, its grid alone tells
        with pytest.raises(InputError, match="image_grid_thw is missing"):
            foveate.prune_inputs(model, {**rest, "mm_encoder_outputs": {"image": encoded}}, keep=0.4)
        return
    assert_like_stock(model, {**rest, "mm_encoder_outputs": {"image": encoded}})


@pytest.mark.parametrize("model_type", by_kind(name for name in IN_SEQUENCE if name != "florence2"))
@torch.no_grad()
def test_encoded_images_whole_are_what_the_model_takes(model_type):
    """The unpruned arm of `foveate eval` encodes once, too."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(2, 5), (1, 3)])
    whole = foveate.prune_inputs(model, inputs, keep=1.0, encoded=foveate.encode(model, inputs))
    logits = model(**drop_raw(family, inputs), mm_encoder_outputs=whole["mm_encoder_outputs"]).logits
    torch.testing.assert_close(logits, model(**inputs).logits, atol=1e-5, rtol=1e-5)


def test_one_of_two_grids():
    family = lookup.family("qwen3_vl")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(("image", "video"), 6)])
    encoded = foveate.encode(model, inputs).outputs
    rest = {name: value for name, value in inputs.items() if name not in ("pixel_values", "pixel_values_videos")}
    del rest["video_grid_thw"]
    with pytest.raises(InputError, match="video_grid_thw is missing"):
        foveate.prune_inputs(model, {**rest, "mm_encoder_outputs": encoded}, keep=0.4)


@pytest.mark.parametrize(("model_type", "alias"), ALIASES)
@torch.no_grad()
def test_other_names_of_the_main_input(model_type, alias):
    """Video-LLaVA's and Fuyu's own processors return these."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 5)])
    renamed = {alias if name == "pixel_values" else name: value for name, value in inputs.items()}
    short, same = (foveate.prune_inputs(model, one, keep=0.3) for one in (inputs, renamed))
    assert torch.equal(model(**short).logits, model(**same).logits)
    encoded = foveate.encode(model, renamed)
    assert foveate.prune_inputs(model, inputs, keep=0.3, encoded=encoded).report.kept_count == short.report.kept_count
    settings = {"max_new_tokens": 2, "suppress_tokens": [family.token_id(model.config)]}
    with foveate.pruning(model, keep=0.3) as handle:
        outputs = [(model(**one).logits, model.generate(**one, **settings)) for one in (inputs, renamed)]
    assert handle.report.kept_count == short.report.kept_count
    assert all(torch.equal(one, other) for one, other in zip(*outputs, strict=True))


@pytest.mark.parametrize("model_type", AUDIO)
@torch.no_grad()
def test_an_audio_as_long_as_the_prompt_goes_through(model_type):
    """What an encoder reads is not cut where nothing of its modality is pruned, whatever its shape."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 6)])
    names = set(inspect.signature(model.base_model.get_audio_features).parameters) - {"kwargs"}
    audio = {name: torch.ones_like(inputs["input_ids"]) for name in names}
    short = foveate.prune_inputs(model, {**inputs, **audio}, keep=0.4, modalities=("image",))
    assert all(torch.equal(short[name], audio[name]) for name in names)


@pytest.mark.parametrize("model_type", ["minicpmv4_6", "minicpm_ocr", "llava_next_video"])
@torch.no_grad()
def test_no_id_for_a_modality_that_is_not_shown(model_type):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    model.config.video_token_id = None
    assert foveate.prune_inputs(model, make_batch(model, family, [(1, 6)]), keep=0.4).report.items


@pytest.mark.parametrize("model_type", by_kind(lookup.available()))
@torch.no_grad()
def test_special_tokens_that_the_stock_model_can_do_without(model_type):
    """Such as the marks around an image, which no forward needs."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 6)])
    for config in (model.config, model.config.get_text_config()):
        for name in [name for name in vars(config) if name.endswith("_token_id") and name != "image_token_id"]:
            with without(config, name):
                assert_like_stock(model, inputs)


@contextmanager
def without(config, name):
    """Within, the configuration has None there, unless it insists on a number."""
    value = getattr(config, name)
    with suppress(StrictDataclassFieldValidationError):
        setattr(config, name, None)
    try:
        yield
    finally:
        setattr(config, name, value)
