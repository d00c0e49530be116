"""Some tiles encoded: which they are, that only they go through the tower, and what is refused."""

import threading
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.conformance.families.tiled import show_overview
from foveate.conformance.reference import logits_at, relative_error, run_reference
from foveate.errors import FoveateError, InputError, ModelError
from foveate.method import Method
from foveate.method.selection import select_top_k
from foveate.models import lookup
from foveate.models.live_memory import LiveMemory
from foveate.models.llava_next import LlavaNext, place_tiles
from foveate.models.tile_encoder import TileEncoder, lay_out_tiles, narrow_tower
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.settings import check_settings
from foveate.pipeline.tiles import AUTO, ONE_TILE, UNBOUNDED, check_encode
from tests.policies import make_policy

pytestmark = pytest.mark.filterwarnings("ignore:.*generation_config.*:Warning")
FAMILIES = [name for name in lookup.available() if isinstance(lookup.family(name), TileEncoder)]
PLACED = [name for name in FAMILIES if lookup.family(name).traits.placed]
ROWS = [(3, 5), (1, 9), (0, 4)]


@dataclass(frozen=True)
class At(Method):
    """Prefers some cells of the overview, all alike."""

    cells: tuple[int, ...] = ()
    name = "at"
    paper = "test"
    summary = "some cells"
    prompt_aware = True

    def _select(self, tokens, k, selected):
        return select_top_k(tokens.embeds[:, 0].float(), k, selected)

    def _relevance_map(self, tokens):
        return torch.isin(torch.arange(len(tokens.embeds)), torch.tensor(self.cells)).float()


def make(model_type, rows=ROWS):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    return model, family, make_batch(model, family, rows)


def count_encoded(model, call):
    """How many tiles go through the first convolution of the model while `call` runs, call by call."""
    counts = []
    first = next(module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Conv3d)))
    handle = first.register_forward_pre_hook(lambda _, args: counts.append(len(args[0])))
    try:
        result = call()
    finally:
        handle.remove()
    return counts, result


def test_which_families_have_tiles():
    assert {"llava_next", "llava_onevision", "granite4_vision", "internvl", "idefics3", "aya_vision"} < set(PLACED)
    assert {"cohere2_vision", "ovis2", "granite_docling", "lfm2_vl", "perception_lm", "step3p7", "gemma3"} < set(PLACED)
    assert {"aria", "idefics2"} <= set(FAMILIES) - set(PLACED)


@pytest.mark.parametrize("model_type", ["granite4_vision", "granite_docling", "idefics3", "llava_next", "minicpmv4_6"])
@torch.no_grad()
def test_the_law_with_a_first_look(model_type):
    model, family, inputs = make(model_type)
    short = prune_inputs(model, inputs, keep=0.4, method="glance", encode=0.6)
    reference = run_reference(model, family, inputs, short)
    assert relative_error(logits_at(model(**short).logits, short["attention_mask"].bool()), reference) < 1e-5
    assert any(False in item.encoded for item in short.report.items)
    assert 0 < short.report.glance_seconds < short.report.seconds


@pytest.mark.filterwarnings("ignore:keep=10000 keeps all:foveate.FoveateWarning")
@pytest.mark.parametrize("settings", [{"keep": 1.0}, {"keep": 3}, {"keep": 0.4, "per": "prompt"}, {"keep": 10_000}])
@pytest.mark.parametrize("model_type", ["internvl", "llava_onevision"])
@torch.no_grad()
def test_the_law_at_other_budgets(model_type, settings):
    model, family, inputs = make(model_type)
    short = prune_inputs(model, inputs, encode=0.6, **settings)
    reference = run_reference(model, family, inputs, short)
    assert relative_error(logits_at(model(**short).logits, short["attention_mask"].bool()), reference) < 1e-5
    for item in short.report.items:
        if item.absent is not None:
            assert not item.absent[item.kept].any()
            assert settings["keep"] != 1.0 or len(item.kept) == item.total - int(item.absent.sum())


@pytest.mark.parametrize("model_type", PLACED)
@torch.no_grad()
def test_what_is_encoded_is_what_the_whole_call_gives(model_type):
    model, family, inputs = make(model_type)
    check_features(model, family, inputs)


@torch.no_grad()
def test_the_same_where_joined_tiles_are_interpolated():
    model, family, inputs = make("llava_onevision")
    scaled = {**inputs, "vision_aspect_ratio": "anyres_max_1"}
    sizes = [sum(map(len, family.features(family.encode(model, each)))) for each in (inputs, scaled)]
    assert sizes[0] > sizes[1]
    check_features(model, family, scaled)


def check_features(model, family, inputs):
    """Of overviews and one more tile of each image: the rows that they have among all."""
    images = family.split_images(model, inputs)
    last = [image.others[-1] for image in images if image.others]  # none where T5Gemma 2 has no crops
    tiles = [*(image.overview for image in images), *last]
    encoded, tokens = family.encode_tiles(model, inputs, tiles)
    output = family.join_ready(model, inputs, encoded, images, dict(zip(tiles, tokens, strict=True)))
    whole = family.features(family.encode(model, inputs))
    for image, some, absent, every in zip(images, family.features(output), output.absent, whole, strict=True):
        assert (absent is not None) == (len(image.others) > 1)
        present = every if absent is None else every[~absent]
        assert len(some) == len(present) <= len(every) == len(every if absent is None else absent)
        assert torch.allclose(some, present, atol=1e-5)
        assert some.untyped_storage().nbytes() == some.nbytes  # nothing is held for the other tiles


@pytest.mark.parametrize("model_type", ["aya_vision", "internvl", "llava_next"])
@torch.no_grad()
def test_only_chosen_tiles_go_through_the_tower(model_type):
    model, family, inputs = make(model_type)
    images = family.split_images(model, inputs)
    counts, short = count_encoded(model, lambda: prune_inputs(model, inputs, keep=0.4, encode=0.6))
    marks = [item.encoded for item in short.report.items]
    assert [len(own) for own in marks] == [len(image.entries) for image in images]
    assert [sum(own) for own in marks] == [max(1, 3 * len(own) // 5) for own in marks]
    assert counts == [len(images), sum(map(sum, marks)) - len(images)]
    assert all(own[image.overview - image.entries.start] for own, image in zip(marks, images, strict=True))
    item = short.report.items[2]
    assert item.encoded_share == sum(item.encoded) / len(item.encoded) < 1
    assert item.kept.max() < item.total == len(item.absent)


@pytest.mark.parametrize("model_type", ["internvl", "llava_next"])
@torch.no_grad()
def test_all_tiles_are_one_call_and_todays_features(model_type):
    model, _, inputs = make(model_type)
    counts, short = count_encoded(model, lambda: prune_inputs(model, inputs, keep=0.4, encode=1.0))
    assert len(counts) == 1
    assert short.report.items[2].encoded == ()
    assert short.report.items[2].encoded_share == 1.0
    plain = prune_inputs(model, inputs, keep=0.4)
    for mine, other in zip(short["mm_encoder_outputs"]["image"].pooler_output,
                           plain["mm_encoder_outputs"]["image"].pooler_output, strict=True):  # fmt: skip
        assert torch.equal(mine, other)


def measure_tile(model, family, inputs):
    """The bytes that the largest tile takes in the encoder."""
    sizes = family.measure_tiles(model, inputs, family.split_images(model, inputs))
    with LiveMemory() as live:
        family.encode_tiles(model, inputs, [sizes.index(max(sizes))])
    return live.peak


@pytest.mark.parametrize("share", [0.6, 1.0])
@pytest.mark.parametrize("model_type", ["aya_vision", "granite4_vision", "internvl", "llava_next", "perception_lm"])
@torch.no_grad()
def test_memory_is_bounded_by_groups_of_tiles(model_type, share):
    model, family, inputs = make(model_type)
    memory = 2 * measure_tile(model, family, inputs)
    counts, plain = count_encoded(model, lambda: prune_inputs(model, inputs, keep=0.4, encode=share))
    grouped, short = count_encoded(
        model, lambda: prune_inputs(model, inputs, keep=0.4, encode=share, max_encoder_memory=memory)
    )
    assert grouped[0] == 1  # which tells what a tile takes
    assert max(grouped) == 2 < max(counts)
    assert sum(grouped) == sum(counts)
    assert all(item.absent is None for item in short.report.items) == (share == 1)
    assert torch.allclose(model(**short).logits, model(**plain).logits, atol=1e-5)


@torch.no_grad()
def test_memory_that_is_too_little_for_a_tile_or_not_for_what_is_shown():
    model, family, inputs = make("internvl")
    memory = measure_tile(model, family, inputs)
    with pytest.raises(InputError, match=f"^max_encoder_memory={memory - 1} is too little for one tile, which takes "):
        prune_inputs(model, inputs, keep=0.4, max_encoder_memory=memory - 1)
    encoded = foveate.encode(model, inputs)
    again = prune_inputs(model, inputs, keep=0.4, max_encoder_memory=1, encoded=encoded)
    assert torch.equal(model(**again).logits, model(**prune_inputs(model, inputs, keep=0.4)).logits)
    model, family, inputs = make("llava_onevision", [(("image", "video"), 4)])
    with_video = prune_inputs(model, inputs, keep=0.4, max_encoder_memory=10**9)
    assert UNBOUNDED in with_video.report.notes


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.39, 1), (0.4, 2), (0.6, 3), (0.8, 4), (0.99, 4)])
@torch.no_grad()
def test_the_share_is_read_as_typed(share, count):
    model, _, inputs = make("internvl", [(3, 4)])
    assert sum(prune_inputs(model, inputs, keep=0.4, encode=share).report.items[2].encoded) == count


@pytest.mark.parametrize(("cell", "tile"), [(0, 0), (3, 1), (12, 2), (15, 3)])
@torch.no_grad()
def test_the_tile_under_the_most_relevant_token_is_encoded(cell, tile):
    model, family, inputs = make("internvl", [(3, 4)])
    show_overview(inputs["pixel_values"][4:8], inputs["pixel_values"][8], (2, 2))
    assert family.split_images(model, inputs)[2].boxes == lay_out_tiles(2, 2)
    side = int(prune_inputs(model, inputs, keep=1.0).report.items[2].tiles[4].rows)
    cell = (cell // 4) * (side - 1) // 3 * side + (cell % 4) * (side - 1) // 3
    item = prune_inputs(model, inputs, keep=0.4, encode=0.4, method=At((cell,))).report.items[2]
    assert item.encoded == (*(n == tile for n in range(4)), True)


@pytest.mark.parametrize("tiles", [(0,), (1, 2), (0, 1, 2, 3)])
@torch.no_grad()
def test_auto_encodes_the_tiles_that_the_question_needs(tiles):
    model, family, inputs = make("internvl", [(3, 4)])
    show_overview(inputs["pixel_values"][4:8], inputs["pixel_values"][8], (2, 2))
    side = int(prune_inputs(model, inputs, keep=1.0).report.items[2].tiles[4].rows)
    corners = [0, side - 1, side * (side - 1), side * side - 1]
    counts, short = count_encoded(
        model,
        lambda: prune_inputs(model, inputs, keep=0.4, encode="auto", method=At(tuple(corners[n] for n in tiles))),
    )
    item = short.report.items[2]
    assert item.encoded == (*(n in tiles for n in range(4)), True)
    assert sum(counts) == sum(sum(each.encoded) for each in short.report.items)
    reference = run_reference(model, family, inputs, short)
    assert relative_error(logits_at(model(**short).logits, short["attention_mask"].bool()), reference) < 1e-5


@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl", "aria"])
@torch.no_grad()
def test_auto_encodes_all_where_there_are_no_tiles_to_choose(model_type):
    model, _, inputs = make(model_type)
    short, plain = (prune_inputs(model, inputs, keep=0.4, encode=encode) for encode in ("auto", 1.0))
    assert AUTO in short.report.notes
    torch.testing.assert_close(model(**short).logits, model(**plain).logits, atol=0, rtol=0)


def test_auto_is_refused_where_a_share_is():
    family = lookup.family("llava_next")
    with pytest.raises(ModelError, match="of which encode=auto leaves parts out"):
        check_encode(family, check_settings(0.4, "visionzip", encode="auto"))
    with pytest.raises(InputError, match="encode='auto' is not for a policy"):
        check_settings("auto", "foveate", encode="auto")
    with pytest.raises(InputError, match="each choose what is encoded"):
        check_settings(0.4, "foveate", encode="auto", skip="blank")
    with pytest.raises(FoveateError, match="encode='auto'"):
        foveate.attach(make("llava")[0], keep=0.4, encode="auto", method="fastv")


def test_where_padded_tiles_lie():
    assert place_tiles((100, 100), (2, 2)) == lay_out_tiles(2, 2)
    assert place_tiles((100, 200), (2, 2)) == lay_out_tiles(2, 2)  # a half of every tile is padding
    top, middle, bottom = place_tiles((100, 100), (3, 1))
    assert (top[0], top[2], middle[0], middle[2], bottom[0], bottom[2]) == (0, 0, 0, 1, 1, 1)  # only the middle one


@pytest.mark.parametrize("model_type", ["granite_docling", "internvl", "llava_next"])
def test_gradients_reach_the_tower(model_type):
    model, _, inputs = make(model_type)
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, -2:] = inputs["input_ids"][:, -2:]
    short = prune_inputs(model, {**inputs, "labels": labels}, keep=0.4, encode=0.6)
    model(**short).loss.backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    assert bool(first.weight.grad.any())


@torch.no_grad()
def test_other_threads_see_the_whole_tower_and_no_hook_stays():
    model, family, inputs = make("llava_next")
    whole, core = family.features(family.encode(model, inputs)), model.base_model
    results = []
    count = family.split_images(model, inputs)[-1].entries.stop
    with narrow_tower(core.vision_tower, [core.multi_modal_projector], [0], count):
        with torch.no_grad():
            thread = threading.Thread(target=lambda: results.append(encode(model, family, inputs)))
        thread.start()
        thread.join()
        family.encode(model, inputs)
    assert all(torch.equal(one, other) for one, other in zip(results[0], whole, strict=True))
    with pytest.raises(FoveateError):
        prune_inputs(model, {**inputs, "pixel_values": inputs["pixel_values"][:, :1]}, keep=0.4, encode=0.6)
    hooks = (core.vision_tower._forward_pre_hooks, core.multi_modal_projector._forward_hooks)
    assert not any(hooks)


@torch.no_grad()
def encode(model, family, inputs):
    return family.features(family.encode(model, inputs))


@torch.no_grad()
def test_generate_under_pruning_encodes_some_tiles():
    model, _, inputs = make("internvl")
    with foveate.pruning(model, keep=0.4, encode=0.6) as handle:
        out = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    short = prune_inputs(model, inputs, keep=0.4, encode=0.6)
    assert [item.encoded for item in handle.report.items] == [item.encoded for item in short.report.items]
    alone = model.generate(**short, max_new_tokens=3, do_sample=False)
    assert torch.equal(out[:, -3:], alone[:, -3:])


@torch.no_grad()
def test_notes_and_prompts_without_images():
    model, _, inputs = make("internvl", [(2, 4)])
    assert ONE_TILE in prune_inputs(model, inputs, keep=0.4, encode=0.6).report.notes
    model, _, inputs = make("internvl", [(0, 4)])
    assert not prune_inputs(model, inputs, keep=0.4, encode=0.6).report.items


@torch.no_grad()
def test_methods_without_the_question_choose_too():
    model, family, inputs = make("internvl")
    for method in ("divprune", "random", "grid", "cdpruner"):
        short = prune_inputs(model, inputs, keep=0.4, encode=0.6, method=method)
        reference = run_reference(model, family, inputs, short)
        assert relative_error(logits_at(model(**short).logits, short["attention_mask"].bool()), reference) < 1e-5
        assert sum(short.report.items[2].encoded) == 3


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan"), float("inf"), "most", None, True, [0.5], 2])
def test_shares_that_are_none(share):
    model, _, inputs = make("internvl")
    with pytest.raises(InputError, match=r"^encode=.* use a float in \(0, 1\], or \"auto\"\.$"):
        prune_inputs(model, inputs, keep=0.4, encode=share)
    with pytest.raises(InputError, match=r"^encode="):
        foveate.attach(model, keep=0.4, encode=share)
    with pytest.raises(InputError, match=r"^encode="):
        foveate.attach(make("llava")[0], keep=0.4, encode=share, method="fastv")


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("llava", "images of llava models whole"),
        ("paligemma", "whole"),
        ("unlimited_ocr", "images of unlimited_ocr models whole"),
        ("molmo2", "whole"),
        ("deepseek_ocr2", "nothing tells where"),
        ("idefics2", "nothing tells where"),
        ("aria", "nothing tells where"),
    ],
)
def test_families_that_encode_images_whole(model_type, words):
    model, _, inputs = make(model_type)
    with pytest.raises(ModelError, match=f"encode=0.5 .*{words}.*leave encode out"):
        prune_inputs(model, inputs, keep=0.4, encode=0.5)
    with pytest.raises(ModelError, match=words):
        foveate.attach(model, keep=0.4, encode=0.5)


TOWER_METHODS = [row.name for row in foveate.methods() if "cls_attention" in row.needs]


class ReadsTower(LlavaNext):
    """An adapter of another package that says what its tower attends to."""

    def extras(self, config):
        return frozenset({"cls_attention", "encoder", "keys"})


@pytest.mark.parametrize("method", TOWER_METHODS)
def test_methods_that_read_the_tower_of_the_whole_image(method):
    words = f"^{method} reads .* of the whole image, of which encode=0.5 leaves parts out: use another method"
    with pytest.raises(ModelError, match=words):
        check_encode(ReadsTower("llava_next"), check_settings(0.4, method, encode=0.5))
    check_encode(ReadsTower("llava_next"), check_settings(0.4, method))
    model, _, inputs = make("llava_next", [(1, 4)])
    counts, _ = count_encoded(model, lambda: refuse(prune_inputs, model, inputs, keep=0.4, encode=0.5, method=method))
    assert counts == []
    refuse(foveate.attach, model, keep=0.4, encode=0.5, method=method)


def test_some_methods_read_the_tower():
    assert {"visionzip", "prumerge", "vispruner", "holov", "scope", "score"} <= set(TOWER_METHODS)


def refuse(call, *args, **settings):
    with pytest.raises(ModelError, match=f"^{settings['method']} .*: use "):
        call(*args, **settings)


@pytest.mark.parametrize("keep", ["policy", "auto"])
def test_a_policy_is_for_whole_images(keep):
    model, _, inputs = make("llava_next", [(1, 5)])
    policy = make_policy(model) if keep == "policy" else keep
    words = r"^encode=0\.5 is not for a policy, which was calibrated on whole images: leave encode out"
    with pytest.raises(InputError, match=words):
        prune_inputs(model, inputs, keep=policy, encode=0.5)
    with pytest.raises(InputError, match=words):
        foveate.attach(model, keep=policy, encode=0.5)
    with pytest.raises(InputError, match=words), foveate.pruning(model, keep=policy, encode=0.5):
        pass
    if keep == "policy":
        items = prune_inputs(model, inputs, keep=policy, encode=1.0).report.items
        assert all(item.keep is not None and item.encoded == () for item in items)


def test_calls_in_which_no_tile_can_be_left_out():
    model, _, inputs = make("internvl")
    encoded = foveate.encode(model, inputs)
    for more in ({"encoded": encoded}, {"inputs": {**inputs, "pixel_values": None} | ready(model, inputs)}):
        call = {"inputs": inputs, **more}
        with pytest.raises(InputError, match="came encoded"):
            prune_inputs(model, call.pop("inputs"), keep=0.4, encode=0.5, **call)
    with pytest.raises(InputError, match="modalities"):
        prune_inputs(model, inputs, keep=0.4, encode=0.5, modalities=())
    with pytest.raises(InputError, match=r"encode=0\.5 is not for fastv"):
        foveate.attach(make("llava")[0], keep=0.4, encode=0.5, method="fastv")
    nan = inputs["pixel_values"].clone().fill_(torch.nan)
    with pytest.raises(InputError, match="returned NaN"):
        prune_inputs(model, {**inputs, "pixel_values": nan}, keep=0.4, encode=0.5)
    with pytest.raises(InputError, match="12 tiles"):
        prune_inputs(model, {**inputs, "pixel_values": inputs["pixel_values"][:-1]}, keep=0.4, encode=0.5)


def ready(model, inputs):
    return {"mm_encoder_outputs": {"image": model.base_model.get_image_features(inputs["pixel_values"])}}


def test_a_prompt_that_ends_in_a_tile():
    model, family, inputs = make("perception_lm", [(1, 4)])
    end = int(family.placeholders(model.config, inputs)[0].nonzero()[-1]) + 1
    cut = {name: inputs[name][:, :end] for name in ("input_ids", "attention_mask")}
    with pytest.raises(InputError, match="end it in words"):
        prune_inputs(model, {**inputs, **cut}, keep=0.4, encode=0.5)


@torch.no_grad()
def test_a_report_says_in_a_line_what_was_encoded():
    model, _, inputs = make("internvl")
    report = prune_inputs(model, inputs, keep=0.4, encode=0.6).report
    assert report.tile_counts == (sum(sum(i.encoded) for i in report.items), sum(len(i.encoded) for i in report.items))
    counts = f"{report.kept_count} of {report.total_count} visual tokens kept"
    assert str(report) == "foveate: {}, {} of {} parts encoded".format(counts, *report.tile_counts)
    whole = prune_inputs(model, inputs, keep=0.4).report
    assert whole.tile_counts is None
    assert str(whole) == f"foveate: {whole.kept_count} of {whole.total_count} visual tokens kept"


@pytest.mark.parametrize("method", ["glance", "foveate"])
@torch.no_grad()
def test_all_that_is_encoded_is_kept_with_a_first_look_too(method):
    model, _, inputs = make("internvl", [(3, 4)])
    item = prune_inputs(model, inputs, keep=1.0, encode=0.6, method=method).report.items[2]
    assert sum(item.encoded) == 3
    assert len(item.kept) == item.total - int(item.absent.sum())
