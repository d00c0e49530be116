"""Some merge units through the stock tower, against the stock tower whose attention hides all others."""

import weakref

import pytest
import torch
from torch.nn.functional import softmax
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AttentionInterface

from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import InputError
from foveate.models import lookup
from foveate.models.encoder_memory import count_patches
from foveate.models.patch_encoder import PatchEncoder

FAMILIES = [name for name in lookup.available() if isinstance(lookup.family(name), PatchEncoder)]
WINDOWED = [name for name in FAMILIES if name.startswith(("exaone", "hyperclovax", "qwen2_5"))]
ROWS = [(("image", "video", "image"), 3), (("video", "image"), 2)]
NAMES = {"image": "pixel_values", "video": "pixel_values_videos"}


def make(model_type, **changes):
    """A model whose tower attends to some patches more than to others, and inputs."""
    family = lookup.family(model_type)
    model = make_tiny_model(family, **changes)
    with torch.no_grad():
        for weight in family.vision_tower(model).parameters():
            weight.mul_(6 if weight.ndim > 1 else 1)
    return model, family, make_batch(model, family, ROWS)


def choose(inputs, modality, share=0.5, seed=0):
    """Merge units of every item at random, some of each."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (inputs[f"{modality}_grid_thw"].prod(-1) // 4).tolist()
    return [torch.rand(size, generator=generator).argsort() < max(1, share * size) for size in sizes]


def levels(encoded):
    """The tokens of every item, of the output and of each level of DeepStack."""
    return [encoded.pooler_output, *(getattr(encoded, "deepstack_features", None) or [])]


def place(inputs, modality):
    """(item, frame, row, column) of every patch, in the processor's order."""
    places = []
    for item, (frames, height, width) in enumerate(inputs[f"{modality}_grid_thw"].tolist()):
        places += [
            (item, frame, 2 * row + down, 2 * column + across)
            for frame in range(frames) for row in range(height // 2) for column in range(width // 2)
            for down in range(2) for across in range(2)
        ]  # fmt: skip
    return torch.tensor(places)


def run_masked(model, family, inputs, modality, chosen):
    """The stock features of all patches, where attention sees the chosen ones alone."""
    tower, places = family.vision_tower(model), place(inputs, modality)
    is_chosen, frames, count = torch.cat(chosen).repeat_interleave(4), places[:, :2], len(places)
    sees = (frames[:, None] == frames).all(-1) & is_chosen
    attentions = [module for module in tower.modules() if type(module).__name__.endswith("Attention")]
    masks, whole = dict.fromkeys(attentions, sees), torch.tensor([0, count], dtype=torch.int32)
    arguments = {"cu_seqlens": whole}
    if hasattr(tower, "window_size"):
        windows = places[:, 2:] // (tower.window_size // tower.patch_size)
        near = sees & (windows[:, None] == windows).all(-1)
        masks |= {attentions[n]: near for n in range(len(attentions)) if n not in tower.fullatt_block_indexes}
        arguments |= {"cu_window_seqlens": whole, "window_index": torch.arange(count // 4)}

    def attend(module, query, key, value, *_, scaling, **__):
        scores = (query @ key.transpose(2, 3) * scaling).masked_fill(~masks[module], -1e9)
        return (softmax(scores, dim=-1) @ value).transpose(1, 2), None

    AttentionInterface.register("masked", attend)
    before, tower.config._attn_implementation = tower.config._attn_implementation, "masked"
    encoder = getattr(model.base_model, f"get_{modality}_features")
    try:
        return encoder(inputs[NAMES[modality]], inputs[f"{modality}_grid_thw"], **arguments, return_dict=True)
    finally:
        tower.config._attn_implementation = before


def test_which_families():
    assert {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "hyperclovax_vision_v2"} <= set(FAMILIES)
    towers = {name: lookup.family(name).vision_tower(make_tiny_model(lookup.family(name))) for name in FAMILIES}
    assert [name for name in FAMILIES if hasattr(towers[name], "fullatt_block_indexes")] == WINDOWED


@pytest.mark.parametrize("modality", ["image", "video"])
@pytest.mark.parametrize("model_type", FAMILIES)
@torch.no_grad()
def test_all_units_are_the_stock_features(model_type, modality):
    model, family, inputs = make(model_type)
    whole = family.encode(model, inputs, modality)
    chosen = [torch.ones(len(tokens), dtype=torch.bool) for tokens in whole.pooler_output]
    part = family.encode_units(model, inputs, modality, chosen)
    assert type(part) is type(whole)
    for mine, stock in zip(levels(part), levels(whole), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(mine, stock, strict=True))


@pytest.mark.parametrize("modality", ["image", "video"])
@pytest.mark.parametrize("model_type", FAMILIES)
@torch.no_grad()
def test_some_units_are_the_tower_that_sees_them_alone(model_type, modality):
    model, family, inputs = make(model_type)
    chosen = choose(inputs, modality)
    part = family.encode_units(model, inputs, modality, chosen)
    masked = run_masked(model, family, inputs, modality, chosen)
    whole = family.encode(model, inputs, modality)
    for mine, reference, stock in zip(levels(part), levels(masked), levels(whole), strict=True):
        for own, some, other, every in zip(chosen, mine, reference, stock, strict=True):
            assert torch.equal(some.isnan(), ~own[:, None].expand_as(some))
            size = every.abs().max()
            assert (some[own] - other[own]).abs().max() < 1e-5 * size
            assert bool(own.all()) or (some[own] - every[own]).abs().max() > 1e-2 * size


@pytest.mark.parametrize("modality", ["image", "video"])
@pytest.mark.parametrize("model_type", WINDOWED)
@torch.no_grad()
def test_windows_alone_are_exact(model_type, modality):
    vision = {"depth": 3, "fullatt_block_indexes": [], "window_size": 16, "patch_size": 4}
    if model_type == "hyperclovax_vision_v2":
        vision |= {"model_type": "qwen2_5_vl_vision", "out_hidden_size": 48}
    model, family, inputs = make(model_type, vision_config=vision)
    places = place(inputs, modality)[::4]
    windows = torch.cat([places[:, :2], places[:, 2:] // 4], 1)
    kinds, which = windows.unique(dim=0, return_inverse=True)
    sizes = (inputs[f"{modality}_grid_thw"].prod(-1) // 4).tolist()
    chosen = list((which % 2 == 0).split(sizes))
    assert len(kinds) > 4
    assert 0 < sum(map(sum, chosen)) < sum(sizes)
    part = family.encode_units(model, inputs, modality, chosen).pooler_output
    whole = family.encode(model, inputs, modality).pooler_output
    for own, some, every in zip(chosen, part, whole, strict=True):
        assert not own.any() or (some[own] - every[own]).abs().max() < 1e-6 * every.abs().max()


@torch.no_grad()
def test_an_item_of_which_nothing_is_chosen():
    model, family, inputs = make("qwen3_vl")
    chosen = choose(inputs, "image")
    chosen[1][:] = False
    part = family.encode_units(model, inputs, "image", chosen)
    assert all(bool(level[1].isnan().all()) for level in levels(part))
    with pytest.raises(InputError, match="No merge unit is chosen"):
        family.encode_units(model, inputs, "image", [torch.zeros_like(own) for own in chosen])


def test_gradients_reach_the_tower_through_chosen_units_alone():
    model, family, inputs = make("qwen2_5_vl")
    pixels = inputs["pixel_values"].requires_grad_()
    chosen = choose(inputs, "image")
    part = family.encode_units(model, inputs, "image", chosen).pooler_output
    torch.cat([tokens[own] for tokens, own in zip(part, chosen, strict=True)]).square().sum().backward()
    assert torch.equal(pixels.grad.any(-1), torch.cat(chosen).repeat_interleave(4))
    assert bool(family.vision_tower(model).patch_embed.proj.weight.grad.any())


def test_inputs_that_do_not_fit():
    model, family, inputs = make("qwen2_vl")
    chosen = choose(inputs, "image")
    with pytest.raises(InputError, match="image_grid_thw is missing"):
        family.encode_units(model, {"pixel_values": inputs["pixel_values"]}, "image", chosen)
    with pytest.raises(InputError, match="72 patches, image_grid_thw stands for 76"):
        family.encode_units(model, {**inputs, "pixel_values": inputs["pixel_values"][:72]}, "image", chosen)
    with pytest.raises(InputError, match="40 are chosen from"):
        family.encode_units(model, inputs, "image", [chosen[0], chosen[2]])


@pytest.mark.parametrize("limit", [20, 36, 10_000])
@pytest.mark.parametrize("modality", ["image", "video"])
@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl"])
@torch.no_grad()
def test_groups_of_images_and_frames_are_the_same(model_type, modality, limit):
    model, family, inputs = make(model_type)
    chosen, counts = choose(inputs, modality), []
    hook = family.vision_tower(model).patch_embed.register_forward_pre_hook(lambda _, args: counts.append(len(args[0])))
    part = family.encode_split(model, inputs, modality, chosen, limit)
    hook.remove()
    whole = family.encode_units(model, inputs, modality, chosen)
    assert max(counts) <= limit
    assert sum(counts) == 4 * sum(int(own.sum()) for own in chosen)
    assert (len(counts) == 1) == (limit == 10_000)
    for mine, other in zip(levels(part), levels(whole), strict=True):
        for own, some, every in zip(chosen, mine, other, strict=True):
            assert torch.equal(some.isnan(), every.isnan())
            assert torch.allclose(some[own], every[own], atol=1e-5)
    with pytest.raises(InputError, match="is enough for 1 of the tokens of an image or frame at once, and one has"):
        family.encode_split(model, inputs, modality, chosen, 7)


@pytest.mark.parametrize("model_type", FAMILIES)
@torch.no_grad()
def test_the_estimate_of_the_encoders_memory(model_type):
    """What is alive at once in the tower is below the estimate, and above half of it."""
    model, family, _ = make(model_type)
    tower = family.vision_tower(model)
    size = sum(weight.shape[1:].numel() for weight in tower.patch_embed.parameters() if weight.ndim > 1)
    peaks = []
    for side in (16, 32):
        inputs = {"pixel_values": torch.randn(side**2, size), "image_grid_thw": torch.tensor([[1, side, side]])}
        with PeakMemory() as memory:
            family.encode(model, inputs)
        peaks.append(memory.peak)
    each = (peaks[1] - peaks[0]) / (32**2 - 16**2)
    assert each * count_patches(tower, 2**30) <= 2**30 <= 2 * each * count_patches(tower, 2**30)


class PeakMemory(TorchDispatchMode):
    """The most bytes of tensors that operations returned and that were alive at once."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.alive += [weakref.ref(leaf) for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        tensors = [tensor for ref in self.alive if (tensor := ref()) is not None]
        self.alive = [weakref.ref(tensor) for tensor in tensors]
        storages = {storage.data_ptr(): storage.nbytes() for storage in (t.untyped_storage() for t in tensors)}
        self.peak = max(self.peak, sum(storages.values()))
        return result


def test_memory_is_not_bounded_with_eager_attention():
    model, family, _ = make("qwen2_vl")
    model.set_attn_implementation("eager")
    with pytest.raises(InputError, match='keeps its matrices: load the model with "sdpa"'):
        count_patches(family.vision_tower(model), 10**9)
